"""The functions refuse, as the command line does, to write over what they read; tests/cli/test_outputs.py tries all pairs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.support import models
from tests.support.tuning import data_for, in_objects, options_for
from tgdonnx.artifacts import manifest
from tgdonnx.engines import ENGINES
from tgdonnx.engines.frozen import FROZEN_DATA
from tgdonnx.errors import OutputError
from tgdonnx.files import outputs
from tgdonnx.files.outputs import Kind, Output, is_of_artifacts, require_no_link, require_outputs
from tgdonnx.files.staging import require_places
from tgdonnx.finetuning import Noise2Noise
from tgdonnx.reporting.plots import plot_sweep
from tgdonnx.reporting.scorefiles import save_scores
from tgdonnx.scoring import score


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("once")
    onnx.save(models.dncnn(0), root / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    for name in ("data", "other"):
        np.savez(root / f"{name}.npz", **data_for(models.dncnn(0)))
    np.save(root / "image.npy", np.zeros((3, 8, 8), np.float32))
    tgdonnx.mask(root / "m.onnx", root / "masked.onnx", tgdonnx.Phi(0.35))
    tgdonnx.build(root / "masked.onnx", root / "art")
    tgdonnx.train(root / "art", root / "data.npz", options_for())
    tgdonnx.export(root / "art", root / "tuned.onnx")
    return root


CALLS: dict[str, Callable[[Path], Any]] = {
    "mask on the model": lambda r: tgdonnx.mask(r / "m.onnx", r / "m.onnx", tgdonnx.AllLayers(), overwrite=True),
    "mask on its data": lambda r: tgdonnx.mask(r / "m.onnx", r / "w.bin", tgdonnx.AllLayers(), overwrite=True),
    "mask on what calibrates": lambda r: tgdonnx.mask(
        r / "m.onnx",
        r / "other.npz",
        tgdonnx.AllLayers(),
        tgdonnx.MaskOptions(mode="regrow", reinitialization=tgdonnx.Reinitialization("calibrated", r / "other.npz")),
        overwrite=True,
    ),
    "build on the masked model": lambda r: tgdonnx.build(r / "masked.onnx", r / "masked.onnx", overwrite=True),
    "train's events on data": lambda r: tgdonnx.train(
        r / "art", r / "data.npz", watch=tgdonnx.Watch(tensorboard=r / "data.npz")
    ),
    "train's events on artifacts": lambda r: tgdonnx.train(
        r / "art", r / "data.npz", watch=tgdonnx.Watch(tensorboard=r / "art")
    ),
    "export on a checkpoint": lambda r: tgdonnx.export(r / "art", r / "art" / "state.safetensors", overwrite=True),
    "export on the vendor's model": lambda r: tgdonnx.export(r / "art", r / "m.onnx", overwrite=True),
    "export on the vendor's data": lambda r: tgdonnx.export(r / "art", r / "w.bin", overwrite=True),
    "export on the data of the run": lambda r: tgdonnx.export(r / "art", r / "data.npz", overwrite=True),
    "report on the manifest": lambda r: tgdonnx.report(r / "art", r / "art" / "manifest.json", overwrite=True),
    "report on the tuned model": lambda r: tgdonnx.report(
        r / "art", r / "tuned.onnx", tuned=r / "tuned.onnx", overwrite=True
    ),
    "report on samples": lambda r: tgdonnx.report(r / "art", r / "other.npz", data=r / "other.npz", overwrite=True),
    "apply on the image": lambda r: tgdonnx.apply(r / "m.onnx", r / "image.npy", r / "image.npy", overwrite=True),
    "apply on weights": lambda r: tgdonnx.apply(
        r / "m.onnx", r / "image.npy", link(r, "w.bin", "x.npy"), overwrite=True
    ),
    "scores on the model": lambda r: save_scores(score(r / "m.onnx"), link(r, "m.onnx", "x.json"), overwrite=True),
    "a plot on the model": lambda r: plot_sweep(
        tgdonnx.sweep(r / "m.onnx", r / "data.npz"), link(r, "m.onnx", "x.png"), overwrite=True
    ),
    "a comparison on its data": lambda r: tgdonnx.compare(r / "m.onnx", r / "data.npz", r / "data.npz"),
    **{
        f"finetune's {output} on {name}": lambda r, output=output, name=name: finetune(r, **{output: name})  # type: ignore[misc]
        for output in ("output", "report", "applied", "artifacts", "tensorboard")
        for name in ("m.onnx", "w.bin", "data.npz", "other.npz", "image.npy")
    },
    "finetune's report on its output": lambda r: finetune(r, report="tuned2.onnx"),
    "finetune's result on its data": lambda r: finetune(r, applied="tuned2.onnx.data"),
    "finetune's events in its artifacts": lambda r: finetune(r, tensorboard="tuned2.run"),
    "two noisy images": lambda r: tgdonnx.finetune(
        r / "m.onnx",
        Noise2Noise(r / "image.npy", r / "other.npy"),
        r / "image.npy",
        tgdonnx.AllLayers(),
        results=tgdonnx.Results(overwrite=True),
    ),
}


def link(root: Path, to: str, name: str) -> Path:
    (root / name).symlink_to(to)
    return root / name


def finetune(root: Path, **where: str) -> object:
    chosen = {"output": "tuned2.onnx", **where}
    return tgdonnx.finetune(
        root / "m.onnx",
        tgdonnx.RunData(root / "data.npz", validation=root / "other.npz"),
        root / chosen.pop("output"),
        tgdonnx.AllLayers(),
        options_for(),
        **in_objects(
            {
                "apply": root / "image.npy",
                "overwrite": True,
                **{name: root / path for name, path in chosen.items()},
            }
        ),
    )


def tuned(root: Path, **given: object) -> object:
    """Fine-tunes as in `finetune`, with options that are no paths."""
    data = tgdonnx.RunData(root / "data.npz", validation=root / "other.npz")
    chosen = in_objects({"overwrite": True, **given})
    return tgdonnx.finetune(root / "m.onnx", data, root / "tuned2.onnx", tgdonnx.AllLayers(), options_for(), **chosen)


LINKS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "build's artifacts": ("new", lambda r: tgdonnx.build(r / "masked.onnx", r / "new", overwrite=True)),
    "finetune's artifacts": ("new", lambda r: finetune(r, artifacts="new")),
    "finetune's run": ("tuned2.run", lambda r: finetune(r)),
    "finetune's run, gone on with": ("tuned2.run", lambda r: tuned(r, resume=True)),
    "finetune's run, which is not kept": ("tuned2.run", lambda r: tuned(r, keep=False)),
    "a round of finetune": ("two/round-1", lambda r: tuned(r, artifacts=r / "two", rounds=2)),
    "finetune's results": ("tuned2.applied", lambda r: finetune(r, apply=r / "images")),
    "apply's results of a directory": ("new/a", lambda r: tgdonnx.apply(r / "m.onnx", r / "images", r / "new")),
}


@pytest.mark.parametrize("leads_to", ["empty", "art"])
@pytest.mark.parametrize(("place", "call"), LINKS.values(), ids=LINKS)
def test_nothing_is_written_moved_or_deleted_where_a_link_leads_that_has_the_name_of_a_directory_of_ours(
    place: str, call: Callable[[Path], Any], leads_to: str, once: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(once, work)
    (work / "empty").mkdir()
    (work / "images" / "a").mkdir(parents=True)
    np.save(work / "images" / "a" / "0.npy", np.zeros((3, 8, 8), np.float32))
    (work / place).parent.mkdir(exist_ok=True)
    (work / place).symlink_to(work / leads_to)
    before = contents(work), sorted(work.rglob("*"))
    with pytest.raises(OutputError, match=f"{place} is a link to .*{leads_to}; expected a directory of its own"):
        call(work)
    assert (contents(work), sorted(work.rglob("*"))) == before
    assert (work / place).readlink() == work / leads_to


def test_a_link_that_leads_nowhere_is_no_name_for_a_directory_either(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match=r"link is a link to .*nowhere; expected a directory of its own, or none"):
        require_no_link(tmp_path / "link")
    for kind in (Kind.ARTIFACTS, Kind.ADDED_TO):
        with pytest.raises(OutputError, match=r"link is a link that leads nowhere; .* a directory"):
            require_outputs([Output(tmp_path / "link", kind)], [], overwrite=True)
    with pytest.raises(OutputError, match="link is a link that leads nowhere; expected a directory"):
        require_places(tmp_path / "link", ["a/0.npy"], overwrite=True)
    (tmp_path / "own").mkdir()
    require_no_link(tmp_path / "own")
    require_no_link(tmp_path / "none")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_function_writes_over_what_it_reads(call: Callable[[Path], Any], once: Path, tmp_path: Path) -> None:
    before = contents(once)
    known = sorted(once.rglob("*"))
    try:
        with pytest.raises(
            OutputError, match=r"never overwritten|of the artifacts|keeps weights|in the same place|is a file;"
        ):
            call(once)
    finally:
        for path in set(once.rglob("*")) - set(known):
            assert path.is_symlink(), f"{path} was written"
            path.unlink()
    assert contents(once) == before


def test_every_name_that_is_ever_written_into_artifacts_is_protected() -> None:
    constants = {
        name: value
        for name, value in vars(manifest).items()
        if name.isupper() and not name.startswith("_") and isinstance(value, str) and name != "TARGET"
    }
    assert {"MANIFEST", "RUN", "LOG", "LOCK"} <= constants.keys()
    assert [name for name, value in constants.items() if not is_of_artifacts(value)] == []
    for engine in ENGINES.values():
        written = (*engine.models, engine.checkpoint, engine.best_checkpoint, FROZEN_DATA)
        assert [name for name in written if not is_of_artifacts(name)] == []
    assert is_of_artifacts("Manifest.JSON")
    assert not is_of_artifacts("report.html")


def test_of_a_directory_of_data_what_is_there_is_read_and_what_is_new_is_not(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "x").mkdir(parents=True)
    (data / "x" / "0.npy").write_bytes(b"0")
    (data / "old.onnx").write_bytes(b"")
    (tmp_path / "link").symlink_to(data / "x")
    for path in (data / "x" / "0.npy", tmp_path / "link" / "0.npy", data):
        with pytest.raises(OutputError, match=r"so what is read would be overwritten|never overwritten"):
            require_outputs([Output(path)], [data], overwrite=True)
    require_outputs([Output(data / "x" / "1.npy"), Output(data / "old.onnx", Kind.MODEL)], [data], overwrite=True)


def test_on_a_file_system_that_does_not_tell_case_names_that_differ_in_it_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = [Output(tmp_path / "Out.png"), Output(tmp_path / "out.PNG")]
    require_outputs(two, [])
    monkeypatch.setattr(outputs, "_folds", lambda _: True)
    with pytest.raises(OutputError, match="in the same place"):
        require_outputs(two, [])


def test_arrays_and_paths_that_no_file_can_have_are_no_inputs(tmp_path: Path) -> None:
    require_outputs([Output(tmp_path / "x")], [np.zeros(3), {"x": np.zeros(3)}, None, "a" * 5000, "a\0b"])
    with pytest.raises(OutputError, match="can be no file"):
        require_outputs([Output(Path("a\0b"))], [])
