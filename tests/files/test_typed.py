"""Our own files: whatever is wrong in them is one sentence with file, field and remedy, and never a traceback."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgdonnx
from tests.cli.commands import run, save_pairs
from tests.support import models
from tests.support.checkpoints import CHECKPOINT
from tests.support.trainer import make_artifacts
from tgdonnx.artifacts import read_manifest
from tgdonnx.comparing.record import read_comparison
from tgdonnx.data import DataOptions
from tgdonnx.errors import ArtifactsError, OutputError
from tgdonnx.files.typed import MOST_BYTES, encode
from tgdonnx.finetuning.logs import Log, read_log
from tgdonnx.finetuning.run_record import read_record
from tgdonnx.finetuning.session import read_state
from tgdonnx.finetuning.state import RunState

GOLDEN = Path(__file__).parents[1] / "golden"
SHAPE = (6, 3, 9, 8)
WRONG: tuple[str, ...] = (
    "null",
    "true",
    "-1",
    "0",
    "1.5",
    "1e308",
    "1e999",
    "NaN",
    "9" * 60,
    '"text"',
    '""',
    "[]",
    "{}",
    "[[1, 2], null]",
    '{"a": {"b": []}}',
    "[" * 5000 + "]" * 5000,
    r'"\ud800"',
)
MISSING = "missing"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``run``, a run with everything in it, and ``compared``, a comparison; both by the tool."""
    folder = tmp_path_factory.mktemp("made")
    data = save_pairs(folder / "data.npz", SHAPE, SHAPE)
    directory = make_artifacts(models.dncnn(0), folder, tgdonnx.Phi(0.3), form="thin", mode="readers")
    options = tgdonnx.TrainOptions(epochs=2, batch=3, validate_every=1, metrics=("rmse", "psnr"), retain_limit=1e9)
    reading = DataOptions(scale=2.0, patch=(6, 6), augment=("flips",))
    tgdonnx.train(
        directory,
        tgdonnx.RunData(data, validation=data, retain=data, agree={"x": np.ones(SHAPE, np.float32)}, reading=reading),
        options,
    )
    steps = tgdonnx.TrainOptions(steps=1, batch=3)
    tgdonnx.compare(
        folder / "model.onnx",
        tgdonnx.RunData(data, validation=data, retain=data),
        folder / "compared",
        ["none", "tgd", "last:1"],
        steps,
    )
    return folder


def fields(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields where every field is; of a list, only its first and its last element."""
    if path:
        yield path
    if isinstance(value, dict):
        for name in value:
            yield from fields(value[name], (*path, name))
    elif isinstance(value, list) and value:
        for place in {0, len(value) - 1}:
            yield from fields(value[place], (*path, place))


def mutated(content: Any, path: tuple[Any, ...], wrong: str) -> str:
    """Returns the JSON with one field replaced, or left out."""
    copy = json.loads(json.dumps(content))
    place = copy
    for name in path[:-1]:
        place = place[name]
    if wrong == MISSING:
        del place[path[-1]]
        return json.dumps(copy)
    place[path[-1]] = "@@"
    return json.dumps(copy).replace('"@@"', wrong)


def attempts(content: Any) -> Iterator[tuple[tuple[Any, ...], str, str]]:
    for path in fields(content):
        for wrong in (*WRONG, MISSING):
            yield path, wrong, mutated(content, path, wrong)


def assert_refused_or_read(read: Callable[[], object], name: str) -> bool:
    """Reads; returns whether it was refused, which must be with a sentence about the file."""
    try:
        read()
    except (ArtifactsError, OutputError) as error:
        message = str(error)
        # Without its engine a manifest is of onnxruntime-training, as all were once, and other files are missing.
        assert name in message or "equal budget" in message or "training_model.onnx is missing" in message
        assert message.count("\n") == 0
        assert len(message) < 600
        return True
    return False


FILES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "manifest.json": ("artifacts", read_manifest),
    "run.json": ("artifacts", read_record),
    "comparison.json": ("compared", lambda directory: read_comparison(directory, {})),
}


def copied(made: Path, folder: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / folder, tmp_path / "copy"))


@pytest.mark.parametrize("name", FILES)
def test_every_field_with_every_wrong_value_is_refused_by_name_or_means_something(
    name: str, made: Path, tmp_path: Path
) -> None:
    folder, reader = FILES[name]
    directory = copied(made, folder, tmp_path)
    content = json.loads((directory / name).read_text())
    if name == "comparison.json":
        content["settings"] = {}

    def read() -> object:
        return reader(directory)

    tried = refused = 0
    for _, _, text in attempts(content):
        (directory / name).write_text(text)
        tried += 1
        refused += assert_refused_or_read(read, name)
    assert tried > 500
    assert refused > 0.6 * tried


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"format"', b'"\xe9\xff"')),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_text('{"format": 1, "a": ' * 100_000),
        lambda path: path.write_text('{"format": 99}'),
        lambda path: path.write_text('{"format": 1e400}'),
        lambda path: path.write_text("7"),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["empty", "cut", "mark", "bytes", "deep", "deeper", "newer", "huge", "number", "directory"],
)
def test_a_file_that_is_none_is_refused(spoil: Callable[[Path], object], name: str, made: Path, tmp_path: Path) -> None:
    folder, read = FILES[name]
    directory = copied(made, folder, tmp_path)
    spoil(directory / name)
    with pytest.raises((ArtifactsError, OutputError)) as raised:
        read(directory)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_gigabyte_is_refused_without_reading_it(name: str, made: Path, tmp_path: Path) -> None:
    folder, read = FILES[name]
    directory = copied(made, folder, tmp_path)
    with (directory / name).open("r+b") as file:
        file.truncate(2**30)
    with pytest.raises(ArtifactsError, match=f"{name} is damaged .it has more than {MOST_BYTES:,} bytes."):
        read(directory)


def test_what_is_said_names_field_and_remedy(made: Path, tmp_path: Path) -> None:
    directory = copied(made, "artifacts", tmp_path)
    content = json.loads((directory / "manifest.json").read_text())
    for path, wrong, message in (
        (("trained", 0, "shape"), '"3x3"', r"Expected `array`, got `str` - at `\$\.trained\[0\]\.shape`"),
        (("rho",), "7", r"\$\.rho"),
        (("options", "l2"), "null", r"\$\.options"),
        (("inputs", 0, "dtype"), '"floaty"', "'floaty', which numpy does not know"),
        (("trained", 0, "dtype"), '"floaty"', "'floaty', which ONNX does not know"),
        (("selection", "alpha"), '"a"', r"\$\.alpha"),
    ):
        (directory / "manifest.json").write_text(mutated(content, path, wrong))
        with pytest.raises(
            ArtifactsError, match=rf"manifest\.json is damaged \(.*{message}.*\); build the artifacts again"
        ):
            read_manifest(directory)


def test_every_damaged_line_of_a_log_is_found_and_every_good_one_stays(made: Path, tmp_path: Path) -> None:
    directory = copied(made, "artifacts", tmp_path)
    path = directory / "log.jsonl"
    lines = path.read_text().splitlines()
    kinds = {json.loads(line)["event"]: number for number, line in enumerate(lines)}
    assert set(kinds) == {"epoch", "step", "validation", "stop"}
    state = read_state(directory, CHECKPOINT)
    assert state is not None
    for number in kinds.values():
        for field, wrong, text in attempts(json.loads(lines[number])):
            path.write_text("\n".join([*lines[:number], text, *lines[number + 1 :]]) + "\n")
            found = list(read_log(directory))
            assert [line.number for line in found if line.entry is None] in ([], [number + 1]), (field, wrong)
            if found[number].entry is None and number < len(lines) - 2:
                with pytest.raises(
                    ArtifactsError, match=rf"line {number + 1} of .*log\.jsonl is damaged .*mend that line"
                ):
                    Log(directory, state)
                assert path.read_text().splitlines()[number] == text, "nothing is written over it"


def test_every_field_of_the_state_in_a_checkpoint_is_checked(made: Path) -> None:
    state = read_state(made / "artifacts", CHECKPOINT)
    assert state is not None
    assert RunState.from_json(state.to_json(), "checkpoint") == state
    tried = refused = 0
    for _, _, text in attempts(json.loads(state.to_json())):
        tried += 1
        refused += assert_refused_or_read(lambda: RunState.from_json(text, "DIR/checkpoint"), "DIR/checkpoint")  # noqa: B023
    assert refused > 0.5 * tried
    with pytest.raises(ArtifactsError, match=r"after 3 steps, .* cannot be"):
        RunState.from_json(replace(state, step=3, recorded=9, epoch=0, best_step=0).to_json(), "c")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["manifest.json", "run.json"])
def test_commands_answer_with_sentences_whatever_is_wrong(name: str, made: Path, tmp_path: Path) -> None:
    directory = copied(made, "artifacts", tmp_path)
    content = json.loads((directory / name).read_text())
    chance = random.Random(0)
    every = [text for _, _, text in attempts(content) if not_refused(directory, name, text)]
    read = chance.sample(every, min(10, len(every)))
    data = made / "data.npz"
    train = ["train", directory, "--data", data, "--validation", data, "--retain", data, "--epochs", 3, "--batch", 3]
    statuses = set()
    for number, text in enumerate(read):
        (directory / name).write_text(text)
        for command in (
            [*train, "--resume"],
            ["export", directory, "-o", tmp_path / f"{number}.onnx"],
            ["report", directory, "-o", tmp_path / f"{number}.html", "--data", data],
        ):
            result = run(*command)
            statuses.add(result.exit_code)
            assert result.exit_code in (0, 1, 2), text
            assert "fault of tgdonnx" not in result.stderr, (text[:3000], command[0], result.stderr)
            assert len(result.stderr) < 3000
    assert 2 in statuses


def not_refused(directory: Path, name: str, text: str) -> bool:
    """Whether the reader takes it, so that what comes behind the reader has to cope."""
    (directory / name).write_text(text)
    return not assert_refused_or_read(lambda: FILES[name][1](directory), name)


def shape_of(value: Any) -> Any:
    """Names and types, without what differs from run to run."""
    if isinstance(value, dict):
        return {name: shape_of(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [shape_of(value[0])] if value else []
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


@pytest.mark.parametrize("name", ["manifest.json", "run.json", "log.jsonl", "comparison.json"])
def test_what_a_run_writes_has_the_shape_of_the_golden_file(name: str, made: Path) -> None:
    directory = made / ("compared" if name == "comparison.json" else "artifacts")
    text = (directory / name).read_text()
    if name == "log.jsonl":
        found: Any = {line["event"]: shape_of(line) for line in map(json.loads, text.splitlines())}
    else:
        found = shape_of(json.loads(text))
        for part in ("versions", "sha256"):
            found.pop(part, None)
    golden = GOLDEN / f"{name}.shape"
    assert json.loads(golden.read_text()) == found, "a change of a format: write the golden file again, and say so"


@pytest.mark.parametrize("name", FILES)
def test_a_golden_file_of_an_earlier_version_is_read(name: str, tmp_path: Path) -> None:
    for path in (GOLDEN / "artifacts").glob("*"):
        shutil.copy(path, tmp_path / path.name)
    for model in ("training_model.onnx", "eval_model.onnx", "optimizer_model.onnx", "checkpoint", "masked.onnx"):
        (tmp_path / model).touch()
    if name == "comparison.json":
        reading = json.loads(json.dumps(asdict(DataOptions())))
        settings = {**json.loads((tmp_path / name).read_text())["settings"], "reading": reading}
        content = read_comparison(tmp_path, settings)
        assert content is not None
        assert content.report is not None
        assert content.report.call == "tgdonnx.export('/data/compared/last-1/artifacts', output='tuned.onnx')"
    else:
        assert FILES[name][1](tmp_path) is not None


def test_a_record_of_format_1_says_how_data_was_varied_and_mapped(tmp_path: Path) -> None:
    content = json.loads((GOLDEN / "artifacts" / "run.json").read_text())
    content["retain"]["options"]["renamed"] = {"noisy": "x"}
    (tmp_path / "run.json").write_text(json.dumps(content))
    record = read_record(tmp_path)
    assert record is not None
    assert record.retain is not None
    assert record.agree is not None
    assert record.data.options.augment == record.agree.images.options.augment == ("flips",)
    assert record.retain.options.map == {"noisy": "x"}
    content["retain"]["options"] = []
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactsError, match=r"run\.json is damaged"):
        read_record(tmp_path)


def test_names_of_files_that_are_no_utf_8_are_spelled_out() -> None:
    # As `os.fsdecode` gives them, and a half of a pair, which no name of a file has.
    names = {"place": ["caf\udce9/d.npz", "café", "\ud800"], "caf\udce9": [1]}
    assert json.loads(encode(names)) == {"place": ["caf\\xe9/d.npz", "café", "\\ud800"], "caf\\xe9": [1]}
