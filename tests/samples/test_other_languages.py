"""The loops in other languages: the losses and the state of Python, a file that `verify` accepts, and what they refuse."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file

import tgdonnx
from tests.support import models
from tests.support.models import Array
from tests.support.sessions import open_session
from tests.support.training_models import text_model

SAMPLES = Path(__file__).parents[2] / "samples"
STEPS, BATCH, RATE = 50, 4, 1e-3
STATE, WEIGHTS = "state.safetensors", "of/weights"
# Names that JSON escapes, and that sort otherwise in UTF-16; two losses, one of classes.
STRANGE = """g (float[N, 2, 6, 5] x) => (float[N, 1, 6, 5] boxes, float[N, 3, 6, 5] scores) {
    r = Conv<pads = [1, 1, 1, 1]>(x, v, c)
    a = Relu(r)
    boxes = Conv(a, w)
    scores = Conv(a, u)
}"""
RENAMED = {"v": 'gewicht "ü"', "c": "\U0001f600", "w": "\uffee\x7f", "u": "u\n"}


@dataclass(frozen=True)
class Language:
    """How a sample is called: with a run, its data, where the tuned model goes, steps, batch and learning rate."""

    command: Callable[[Path, Path, Path, int, int, float], list[object]]

    def train(
        self, room: Path, out: str = "out", *, steps: int = STEPS, rate: float = RATE
    ) -> subprocess.CompletedProcess[str]:
        words = self.command(room / "run", room / "data", room / out, steps, BATCH, rate)
        return subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120)


def prepared(name: str, tmp_path_factory: pytest.TempPathFactory, *command: str) -> Path:
    """A copy of a sample in which a command has installed what it needs."""
    built = shutil.ignore_patterns("node_modules", "onnxruntime", "train")
    place = Path(shutil.copytree(SAMPLES / name, tmp_path_factory.mktemp("samples") / name, ignore=built))
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def node(place: Path) -> Language:
    def command(run: Path, data: Path, out: Path, steps: int, batch: int, rate: float) -> list[object]:
        return ["node", place / "train.mjs", run, data, out, "--steps", steps, "--batch", batch, "--lr", rate]

    return Language(command)


def cpp(place: Path) -> Language:
    def command(run: Path, data: Path, out: Path, steps: int, batch: int, rate: float) -> list[object]:
        return [place / "train", run, data, out, steps, batch, rate]

    return Language(command)


INSTALLED = {"node": (node, ("npm", "ci")), "cpp": (cpp, ("make",))}


@pytest.fixture(scope="module", params=INSTALLED)
def language(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Language:
    make, command = INSTALLED[request.param]
    return make(prepared(request.param, tmp_path_factory, *command))


@dataclass(frozen=True)
class Case:
    """A vendor's net, data for it, what trains, and how."""

    model: onnx.ModelProto
    data: dict[str, Array]
    strategy: tgdonnx.Strategy
    building: tgdonnx.BuildOptions
    external: bool = False


def plain() -> Case:
    """Weights in parts, along both axes."""
    model, rng = models.chain(0), np.random.default_rng(1)
    x = rng.normal(size=(STEPS * BATCH, 3, 9, 7)).astype(np.float32)
    (y,) = open_session(model).run(None, {"x": x})
    target = (y + rng.normal(size=y.shape) + 1).astype(np.float32)
    return Case(model, {"x": x, "target": target}, tgdonnx.Percentile(50), tgdonnx.BuildOptions(form="thin"))


def strange() -> Case:
    model, rng = text_model(STRANGE, v=(6, 2, 3, 3), c=(6,), w=(1, 6, 1, 1), u=(3, 6, 1, 1)), np.random.default_rng(2)
    for entry in (*model.graph.initializer, *model.graph.node):
        entry.name = RENAMED.get(entry.name, entry.name)
    for each in model.graph.node:
        each.input[:] = [RENAMED.get(name, name) for name in each.input]
    data = {
        "x": rng.normal(size=(STEPS * BATCH, 2, 6, 5)).astype(np.float32),
        "boxes": rng.normal(size=(STEPS * BATCH, 1, 6, 5)).astype(np.float32),
        "scores": rng.integers(0, 3, (STEPS * BATCH, 6, 5)),
    }
    building = tgdonnx.BuildOptions(loss="boxes: mse, scores: ce", optimizer="sgd", momentum=0.9, clip_norm=1.0)
    return Case(model, data, tgdonnx.AllLayers(), building, external=True)


CASES = {"plain": plain, "strange": strange}


@pytest.fixture(scope="module", params=CASES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a zip of `build` holds, data in the order of an epoch, and the same trained by Python."""
    case, room = CASES[request.param](), tmp_path_factory.mktemp(request.param)
    (room / "of").mkdir()
    onnx.save(case.model, room / "model.onnx", save_as_external_data=case.external, location=WEIGHTS, size_threshold=0)
    mode = "readers" if isinstance(case.strategy, tgdonnx.Percentile) else "paper"
    tgdonnx.mask(room / "model.onnx", room / "masked.onnx", case.strategy, tgdonnx.MaskOptions(mode=mode))
    tgdonnx.build(room / "masked.onnx", room / "python", case.building, zip=room / "run.zip")
    with zipfile.ZipFile(room / "run.zip") as archive:
        archive.extractall(room / "run")
    order = np.random.default_rng([0, 1]).permutation(STEPS * BATCH).reshape(STEPS, BATCH)
    (room / "data").mkdir()
    for name, array in case.data.items():
        np.save(room / "data" / f"{name}.npy", array[np.sort(order).ravel()])
    options = tgdonnx.TrainOptions(epochs=1, batch=BATCH, learning_rate=RATE)
    report = tgdonnx.train(room / "python", case.data, options)
    (room / "losses.json").write_text(json.dumps(report.loss))
    return room


@pytest.fixture
def room(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "room"))


def losses_of(done: subprocess.CompletedProcess[str]) -> list[float]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["loss"] for line in done.stdout.splitlines()]


pytestmark = pytest.mark.languages


def test_a_loop_takes_less_than_150_lines() -> None:
    loops = [SAMPLES / "node" / "train.mjs", SAMPLES / "cpp" / "train.cpp"]
    assert max(len(path.read_text("utf-8").splitlines()) for path in loops) < 150


def test_losses_and_state_are_those_of_python(language: Language, room: Path) -> None:
    found, expected = losses_of(language.train(room)), json.loads((room / "losses.json").read_text())
    assert len(found) == len(expected) == STEPS
    assert found == pytest.approx(expected, rel=1e-5)
    assert expected[-1] < 0.98 * expected[0]
    ours, theirs = (load_file(room / name / STATE) for name in ("python", "run"))
    assert theirs.keys() == ours.keys()
    for name, array in ours.items():
        # Gradients are sums that cancel, of which two versions of the runtime round the parts differently.
        of_largest = 1e-4 if ".moment" in name else 1e-5
        assert np.abs(theirs[name] - array).max() <= of_largest * np.abs(array).max(), name


def test_the_tuned_model_is_proved_and_is_what_python_exports_of_that_state_but_for_the_record(
    language: Language, room: Path
) -> None:
    losses_of(language.train(room))
    assert tgdonnx.verify(room / "model.onnx", room / "out" / "tuned.onnx", masked=room / "masked.onnx").ok
    (room / "there").mkdir()
    tgdonnx.export(room / "run", room / "there" / "tuned.onnx")
    exported, found = (room / "there" / "tuned.onnx").read_bytes(), (room / "out" / "tuned.onnx").read_bytes()
    if (room / WEIGHTS).exists():  # in the one file for external data that each has
        ours, theirs = (onnx.load(room / each / "tuned.onnx") for each in ("there", "out"))
        del ours.metadata_props[:]
        assert ours == theirs
        assert (room / "out" / WEIGHTS).read_bytes() != (room / WEIGHTS).read_bytes()
        assert (room / "run" / WEIGHTS).read_bytes() == (room / WEIGHTS).read_bytes()
    else:
        assert exported[: len(found)] == found != (room / "model.onnx").read_bytes()
        (record,) = onnx.ModelProto.FromString(exported[len(found) :]).metadata_props
        assert record.key == "tgdonnx.provenance.1"


def test_it_goes_on_where_it_was_and_so_does_python(language: Language, room: Path) -> None:
    whole = Path(shutil.copytree(room, room.with_name("whole")))
    losses_of(language.train(whole, steps=4))
    losses_of(language.train(room, "first", steps=2))
    for path in (room / "data").iterdir():  # the batches that were not yet
        np.save(path, np.load(path)[2 * BATCH :])
    losses_of(language.train(room, steps=2))
    first, second = (load_file(each / "run" / STATE) for each in (whole, room))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    data = {path.stem: np.load(path)[:BATCH] for path in (room / "data").iterdir()}
    tgdonnx.train(room / "run", data, tgdonnx.TrainOptions(steps=1, batch=BATCH))
    assert '"tgdonnx.updates":"5"' in (room / "run" / STATE).read_bytes()[:4096].decode("utf-8", "replace")


def test_a_loss_that_is_not_finite_writes_nothing(language: Language, room: Path) -> None:
    before = (room / "run" / STATE).read_bytes()
    done = language.train(room, rate=1e30)
    assert done.returncode == 2
    assert "error: the loss" in done.stderr
    assert "nothing is written" in done.stderr
    assert (room / "run" / STATE).read_bytes() == before
    assert not (room / "out").exists()


@pytest.mark.parametrize(("steps", "rate"), [(0, RATE), (2, 0.0)])
def test_numbers_that_make_no_sense_are_refused(language: Language, room: Path, steps: int, rate: float) -> None:
    done = language.train(room, steps=steps, rate=rate)
    assert done.returncode == 2
    assert "numbers above 0" in done.stderr
    assert not (room / "out").exists()


def test_what_does_not_fit_is_refused_in_a_sentence(language: Language, room: Path) -> None:
    before = (room / "run" / STATE).read_bytes()
    x = np.load(room / "data" / "x.npy")

    def refusal(out: str = "out") -> str:
        done = language.train(room, out)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert len(done.stderr.splitlines()) == 1
        return done.stderr

    (room / "data" / "x.npy").unlink()
    assert "x.npy" in refusal()
    np.save(room / "data" / "x.npy", x.astype(np.float64))
    assert "x.npy: expected" in refusal()
    np.save(room / "data" / "x.npy", x[:3])
    assert "fewer samples than a batch" in refusal()
    np.save(room / "data" / "x.npy", x)
    assert "exists; choose another name" in refusal("run")
    assert "exists; choose another name" in refusal("masked.onnx")
    manifest = json.loads((room / "run" / "manifest.json").read_text("utf-8"))
    manifest["trained"][0]["write_back"].update(how="export", why="it is of a side path")
    (room / "run" / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    assert "`tgdonnx export`" in refusal()
    assert (room / "run" / STATE).read_bytes() == before
    damaged = bytearray(before)
    damaged[-1] ^= 1
    manifest["trained"][0]["write_back"]["how"] = "copied"
    (room / "run" / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    (room / "run" / STATE).write_bytes(damaged)
    assert "is not as it was written" in refusal()
    assert not (room / "out").exists()
