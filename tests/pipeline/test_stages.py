"""All stages in one go: the same as the stages one by one, and nothing left behind."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.oracles.independent import assert_only_changed, expected_masks
from tests.support import models
from tests.support.sessions import open_session
from tests.support.training_models import text_model
from tests.support.tuning import NETWORKS, PHI, data_for, listing, options_for


@pytest.mark.parametrize("mode", ["paper", "readers"])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_tuned_file_differs_in_the_retrained_rows_and_nothing_else_is_left(
    network: str, mode: str, tmp_path: Path, scratch: Path
) -> None:
    model = NETWORKS[network](1)
    base = models.save(model, tmp_path / "model.onnx")
    before = base.read_bytes()
    report = tgdonnx.finetune(
        base,
        data_for(model),
        tmp_path / "tuned.onnx",
        tgdonnx.Phi(PHI),
        options_for(),
        masking=tgdonnx.MaskOptions(mode=mode),
    )
    assert base.read_bytes() == before
    assert_only_changed(model, before, (tmp_path / "tuned.onnx").read_bytes(), expected_masks(model, PHI, mode))
    assert listing(tmp_path) == ["model.onnx", "tuned.onnx", "tuned.run"]
    assert listing(scratch) == []
    assert report.verify.ok
    assert str(scratch) not in repr(asdict(report)), "what is deleted is named"
    assert report.export.changed == report.verify.changed
    assert report.train.steps == 4
    assert report.build.options["loss"] == "mse"
    assert {p.name for p in report.mask.params if p.retrain or p.maps} == {c.name for c in report.verify.changed}


def test_gives_the_same_file_as_the_stages_one_by_one(tmp_path: Path) -> None:
    model = models.dncnn(0)
    base = models.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", **{"noisy": data_for(model)["x"], "clean": data_for(model)["target"]})
    held_out = data_for(model, 3)
    renamed = {"noisy": "x", "clean": "target"}
    validation = {"noisy": held_out["x"], "clean": held_out["target"]}
    options: dict[str, Any] = {
        **{"loss": "l1", "data_range": 2.0, "optimizer": "sgd", "l2": 0.01, "l2_sp": 0.02, "clip_norm": 0.5},
        "gradient": "gate",
    }
    run = options_for(**options)
    tgdonnx.mask(base, tmp_path / "masked.onnx", tgdonnx.Phi(PHI))
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts", tgdonnx.BuildOptions(**options))
    trained = tgdonnx.train(
        tmp_path / "artifacts",
        tgdonnx.RunData(tmp_path / "data.npz", validation=validation, reading=tgdonnx.DataOptions(map=renamed)),
        run,
    )
    tgdonnx.export(tmp_path / "artifacts", tmp_path / "stages.onnx")
    told = []
    report = tgdonnx.finetune(
        base,
        tgdonnx.RunData(tmp_path / "data.npz", validation=validation, reading=tgdonnx.DataOptions(map=renamed)),
        tmp_path / "tuned.onnx",
        tgdonnx.Phi(PHI),
        run,
        building=tgdonnx.BuildOptions(**options),
        watch=tgdonnx.Watch(on_progress=told.append),
    )
    assert (tmp_path / "tuned.onnx").read_bytes() == (tmp_path / "stages.onnx").read_bytes()
    assert report.train.loss == trained.loss
    assert report.train.best == trained.best
    assert [progress.step for progress in told] == [1, 2, 3, 4]
    assert dict(report.build.options) == {**options, "momentum": 0.0, "form": "masked", "output": "y"}


def test_the_artifacts_are_kept_where_asked_for(tmp_path: Path) -> None:
    model = models.dncnn(0)
    base = models.save(model, tmp_path / "model.onnx")
    tgdonnx.finetune(
        base,
        data_for(model),
        tmp_path / "tuned.onnx",
        tgdonnx.Phi(PHI),
        options_for(),
        results=tgdonnx.Results(artifacts=tmp_path / "artifacts"),
    )
    assert listing(tmp_path) == ["artifacts", "model.onnx", "tuned.onnx"]
    tgdonnx.export(tmp_path / "artifacts", tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "tuned.onnx").read_bytes()


def test_of_several_outputs_the_named_one_is_trained(tmp_path: Path) -> None:
    model = text_model(
        """g (float[N, 2, W] x) => (float[N, 3, w] y, float[N, 2, w] z) {
            a = Conv(x, w)
            y = Conv(a, v)
            z = Conv(a, u)
        }""",
        w=(4, 2, 1),
        v=(3, 4, 1),
        u=(2, 4, 1),
    )
    base = models.save(model, tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(6, 2, 5)).astype(np.float32), "target": rng.normal(size=(6, 2, 5)).astype(np.float32)}
    strategy = tgdonnx.Filters({"v": [0], "u": [1]})
    report = tgdonnx.finetune(
        base, data, tmp_path / "tuned.onnx", strategy, options_for(), building=tgdonnx.BuildOptions(output="z")
    )
    assert [(c.name, c.filters) for c in report.verify.changed] == [("u", (1,))]
    sessions = [open_session(tmp_path / name) for name in ("model.onnx", "tuned.onnx")]
    before, after = (session.run(None, {"x": data["x"]}) for session in sessions)
    assert np.array_equal(before[0], after[0])
    assert not np.array_equal(before[1], after[1])


@pytest.mark.parametrize("where", ["beside", "elsewhere"])
def test_weights_in_external_data(where: str, tmp_path: Path, scratch: Path) -> None:
    model = models.dncnn(0)
    (tmp_path / "vendor").mkdir()
    (tmp_path / "elsewhere").mkdir()
    onnx.save(model, tmp_path / "vendor" / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    before = {path.name: path.read_bytes() for path in (tmp_path / "vendor").iterdir()}
    data = data_for(models.dncnn(0))
    output = tmp_path / ("vendor" if where == "beside" else where) / "tuned.onnx"
    for overwrite in (False, True):
        report = tgdonnx.finetune(
            tmp_path / "vendor" / "model.onnx",
            data,
            output,
            tgdonnx.Phi(PHI),
            options_for(),
            results=tgdonnx.Results(overwrite=overwrite, keep=False),
        )
        assert report.verify.ok
        own = {path.name: path.read_bytes() for path in output.parent.iterdir() if path.name not in before}
        assert own.keys() == {"tuned.onnx", "tuned.onnx.data"}
        assert {name: (tmp_path / "vendor" / name).read_bytes() for name in before} == before
    whole = onnx.load(output).SerializeToString()
    (tmp_path / "vendor" / "w.bin").unlink()
    assert onnx.load(output).SerializeToString() == whole
    assert listing(scratch) == []


def test_filters_may_be_listed_by_any_sequence_of_whole_numbers(tmp_path: Path) -> None:
    model = models.chain(0)
    base = models.save(model, tmp_path / "model.onnx")
    strategy = tgdonnx.Filters({"w1": range(2), "w2": np.array([3, 5]), "w3": (np.int64(1),)})
    report = tgdonnx.finetune(base, data_for(model), tmp_path / "tuned.onnx", strategy, options_for())
    changed = {change.name: change.filters for change in report.verify.changed}
    assert changed == {"w1": (0, 1), "b1": (0, 1), "w2": (3, 5), "w3": (1,), "b3": (1,)}


def test_what_is_applied_to_a_directory_goes_into_one_beside_the_tuned_model(tmp_path: Path) -> None:
    base = models.save(models.dncnn(0), tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    x, target = (rng.standard_normal((4, 3, 8, 8)).astype(np.float32) for _ in range(2))
    (tmp_path / "whole").mkdir()
    for name in ("a", "b"):
        np.save(tmp_path / "whole" / f"{name}.npy", rng.standard_normal((1, 3, 12, 9)).astype(np.float32))
    tgdonnx.finetune(
        base,
        {"x": x, "target": target},
        tmp_path / "tuned.onnx",
        tgdonnx.AllLayers(),
        tgdonnx.TrainOptions(steps=1, batch=4),
        results=tgdonnx.Results(apply=tmp_path / "whole"),
    )
    for name in ("a", "b"):
        expected = tgdonnx.apply(tmp_path / "tuned.onnx", tmp_path / "whole" / f"{name}.npy")
        np.testing.assert_array_equal(np.load(tmp_path / "tuned.applied" / f"{name}.npy"), expected.arrays["y"])
