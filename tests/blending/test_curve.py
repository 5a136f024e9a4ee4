"""The curve of a finished run: what is evaluated is what would be written, by one session, without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.blending.runs import data_of, tensors_in
from tests.cli.commands import run, run_json
from tests.regrowing.starts import ANY_CHANGE
from tests.regrowing.topologies import TOPOLOGIES
from tests.support.models import Array, dncnn, save
from tests.support.quantized_models import Kind, quantized
from tests.support.sessions import open_session
from tgdonnx import Reinitialization
from tgdonnx.errors import ArtifactsError, DataError
from tgdonnx.finetuning.run_record import read_record
from tgdonnx.runtime import has_training_runtime
from tgdonnx.selection import Filters

ENGINES = ("onnxruntime-training", "onnxruntime") if has_training_runtime() else ("onnxruntime",)
NETWORKS: dict[str, Any] = {
    "dncnn": (lambda: dncnn(0), {"w1": [1, 4], "w3": [2]}, "paper"),
    "regrown": (TOPOLOGIES["batch norms"].build, TOPOLOGIES["batch norms"].filters, "regrow"),
    "integers": (lambda: quantized(Kind()), {"a.w": [1, 4], "c.w": [0]}, "paper"),
}


def trained(network: str, directory: Path, *, engine: str = "onnxruntime", form: str = "thin") -> tuple[Path, Path]:
    """The vendor's file and the artifacts of a short run."""
    build, filters, mode = NETWORKS[network]
    model = build()
    vendor = save(model, directory / "model.onnx")
    masking = tgdonnx.MaskOptions(mode, Reinitialization("he", tolerance=ANY_CHANGE))
    tgdonnx.mask(vendor, directory / "masked.onnx", Filters(filters), masking)
    tgdonnx.build(
        directory / "masked.onnx",
        directory / "run",
        tgdonnx.BuildOptions(engine=engine, form=form),  # type: ignore[arg-type]
    )
    data = tgdonnx.RunData(data_of(model, 1), validation=data_of(model, 2), retain=data_of(model, 3))
    options = tgdonnx.TrainOptions(steps=12, batch=2, learning_rate=1e-2, metrics=("rmse",))
    tgdonnx.train(directory / "run", data, options)
    return vendor, directory / "run"


def losses_of(path: Path, data: dict[str, Array]) -> tuple[float, float]:
    """Mean square error and mean RMSE of a file, by a runtime that knows nothing of training."""
    *inputs, target = data.items()
    error = open_session(path).run(None, dict(inputs))[0].astype(np.float64) - target[1]
    by_sample = np.mean(np.square(error), axis=tuple(range(1, error.ndim)))
    return float(by_sample.mean()), float(np.sqrt(by_sample).mean())


@pytest.mark.parametrize("form", ["thin", "masked"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_point_is_what_the_exported_file_computes(network: str, engine: str, form: str, tmp_path: Path) -> None:
    vendor, artifacts = trained(network, tmp_path, engine=engine, form=form)
    model = onnx.load(vendor)
    new, old = data_of(model, 2), data_of(model, 3)
    before = {path.name: path.read_bytes() for path in artifacts.iterdir() if path.name != "run.json"}
    curve = tgdonnx.blend(artifacts, new, old, at=(0.3, 0.8))
    assert [point.blend for point in curve.curve] == [0, 0.3, 0.8, 1]
    for point in curve.curve:
        tuned = tmp_path / f"{point.blend}.onnx"
        tgdonnx.export(artifacts, tuned, blend=point.blend)
        loss, rmse = losses_of(tuned, new)
        assert point.loss == pytest.approx(loss, rel=2e-5)
        assert point.validation["rmse"] == pytest.approx(rmse, rel=2e-5)
        assert point.retain["rmse"] == pytest.approx(losses_of(tuned, old)[1], rel=2e-5)
    assert curve.curve[0].loss != pytest.approx(curve.curve[-1].loss, rel=1e-3)
    assert {path.name: path.read_bytes() for path in artifacts.iterdir() if path.name != "run.json"} == before
    recorded = json.loads((artifacts / "run.json").read_text())["blend"]
    assert recorded["chosen"] == curve.chosen
    assert [point["blend"] for point in recorded["curve"]] == [0, 0.3, 0.8, 1]


def test_one_standard_error_is_worked_out_from_single_samples(tmp_path: Path) -> None:
    vendor, artifacts = trained("dncnn", tmp_path)
    data = data_of(onnx.load(vendor), 2)
    curve = tgdonnx.blend(artifacts, data, at=(0.5,))
    losses = []
    for blend in (0, 0.5, 1):
        tgdonnx.export(artifacts, tmp_path / f"{blend}.onnx", blend=blend)
        error = open_session(tmp_path / f"{blend}.onnx").run(None, {"x": data["x"]})[0].astype(float) - data["target"]
        losses.append(np.mean(error**2, axis=(1, 2, 3)))
    differences = np.array(losses) - losses[int(np.argmin(np.mean(losses, axis=1)))]
    expected = differences.std(axis=1, ddof=1) / np.sqrt(5)
    assert np.allclose([point.uncertainty for point in curve.curve], expected, rtol=1e-3)
    wanted = next(b for b, d, e in zip((0, 0.5, 1), differences.mean(axis=1), expected) if d <= e)
    assert curve.chosen == wanted


def test_with_a_limit_the_choice_keeps_the_vendors_own_task(tmp_path: Path) -> None:
    vendor, artifacts = trained("dncnn", tmp_path)
    model = onnx.load(vendor)
    free = tgdonnx.blend(artifacts, data_of(model, 2), data_of(model, 3))
    kept = {**data_of(model, 3), "target": open_session(model).run(None, {"x": data_of(model, 3)["x"]})[0]}
    every = tgdonnx.blend(artifacts, data_of(model, 2), kept, retain_limit=1e9)
    none = tgdonnx.blend(artifacts, data_of(model, 2), kept, retain_limit=0.0)
    assert every.chosen == min(free.curve, key=lambda point: point.loss).blend > 0
    assert none.chosen == 0
    limit = every.curve[5].retain["rmse"]
    assert limit is not None
    half = tgdonnx.blend(artifacts, data_of(model, 2), kept, retain_limit=limit)
    assert 0 < half.chosen <= 0.5


def test_what_is_missing_or_wrong_is_refused(tmp_path: Path) -> None:
    vendor, artifacts = trained("dncnn", tmp_path)
    data = data_of(onnx.load(vendor), 2)
    with pytest.raises(DataError, match="a limit of retention needs data of the vendor's own task"):
        tgdonnx.blend(artifacts, data, retain_limit=0.5)
    with pytest.raises(DataError, match="expected a blend from 0"):
        tgdonnx.blend(artifacts, data, at=(2.0,))
    with pytest.raises(DataError, match="expected retain_limit >= 0, got nan"):
        tgdonnx.blend(artifacts, data, data, retain_limit=float("nan"))
    (artifacts / "run.json").unlink()
    with pytest.raises(ArtifactsError, match="holds no record of a run"):
        tgdonnx.blend(artifacts, data)


def test_a_damaged_curve_in_the_record_is_a_sentence(tmp_path: Path) -> None:
    vendor, artifacts = trained("dncnn", tmp_path)
    tgdonnx.blend(artifacts, data_of(onnx.load(vendor), 2), at=(0.5,))
    whole = json.loads((artifacts / "run.json").read_text())
    for change in (
        {"chosen": 0.3},
        {"curve": []},
        {"curve": [{**whole["blend"]["curve"][0], "validation": {"rmse": 1.0}}]},
        {"curve": [{**whole["blend"]["curve"][0], "retain": {"rmse": 1.0}}, *whole["blend"]["curve"][1:]]},
        {"step": -1},
        {"step": None},
    ):
        (artifacts / "run.json").write_text(json.dumps({**whole, "blend": {**whole["blend"], **change}}))
        with pytest.raises(ArtifactsError, match=r"run.json is damaged"):
            read_record(artifacts)


def test_training_goes_on_afterwards_as_if_nothing_had_been_evaluated(tmp_path: Path) -> None:
    found = []
    for blended in (False, True):
        work = tmp_path / str(blended)
        work.mkdir()
        vendor, artifacts = trained("dncnn", work)
        model = onnx.load(vendor)
        if blended:
            tgdonnx.blend(artifacts, data_of(model, 2), at=(0.5,))
        data = tgdonnx.RunData(data_of(model, 1), validation=data_of(model, 2), retain=data_of(model, 3))
        options = tgdonnx.TrainOptions(steps=20, batch=2, learning_rate=1e-2, metrics=("rmse",))
        tgdonnx.train(artifacts, data, options, resume=True)
        tgdonnx.export(artifacts, work / "t.onnx", checkpoint="state.safetensors")
        found.append(tensors_in(work / "t.onnx"))
        curve = json.loads((artifacts / "run.json").read_text())["blend"]
        assert (curve["step"] <= 12) if blended else curve is None, "the curve says which step it is of"
    assert all(found[0][name].tobytes() == found[1][name].tobytes() for name in found[0])


# The command line.


def test_the_command_prints_draws_and_tells_how_to_go_on(tmp_path: Path) -> None:
    vendor, artifacts = trained("dncnn", tmp_path)
    model = onnx.load(vendor)
    np.savez(tmp_path / "new.npz", **data_of(model, 2))
    np.savez(tmp_path / "old.npz", **data_of(model, 3))
    given = ["blend", artifacts, "--validation", tmp_path / "new.npz", "--retain", tmp_path / "old.npz"]
    told = run_json(*given, "--at", "0.25,0.5,0.75", "--plot", tmp_path / "curve.png")
    assert [point["blend"] for point in told["curve"]] == [0, 0.25, 0.5, 0.75, 1]
    assert all(point["validation"].keys() == {"loss", "rmse"} for point in told["curve"])
    assert all(point["retain"].keys() == {"rmse"} for point in told["curve"])
    assert told["chosen"] in (0, 0.25, 0.5, 0.75, 1)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    shown = run(*given, "--at", "0.5").stdout
    assert "blend" in shown
    assert "old rmse" in shown
    assert f"tgdonnx export {artifacts} --blend" in shown
    exported = run_json("export", artifacts, "--blend", "0.5", "-o", tmp_path / "half.onnx")
    assert exported["blend"] == 0.5
    assert run_json("verify", vendor, tmp_path / "half.onnx")["ok"]


def test_what_is_done_to_the_data_is_said_as_training_says_it(tmp_path: Path) -> None:
    model = dncnn(0)
    pictures = {name: (values * 20 + 128).clip(0, 255).astype(np.uint8) for name, values in data_of(model, 1).items()}
    said: list[str] = []
    tgdonnx.finetune(
        save(model, tmp_path / "model.onnx"),
        tgdonnx.RunData(pictures, reading=tgdonnx.DataOptions(scale=255)),
        tmp_path / "tuned.onnx",
        tgdonnx.LastLayers(1),
        tgdonnx.TrainOptions(steps=1, batch=2),
    )
    tgdonnx.blend(tmp_path / "tuned.run", data_of(model, 2), at=(0.5,), on_remark=said.append)
    assert "x: float32 to float32: v / 255" in said
