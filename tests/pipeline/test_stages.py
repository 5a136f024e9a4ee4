"""All stages in one go: the same as the stages one by one, and nothing left behind."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.oracles.independent import assert_only_changed, expected_masks
from tests.support import models
from tests.support.checkpoints import BEST
from tests.support.external_models import externalise
from tests.support.sessions import open_session
from tests.support.training_models import text_model
from tests.support.tuning import NETWORKS, PHI, data_for, listing, options_for
from tgdonnx.data import DataOptions
from tgdonnx.errors import DataError, DivergedError, OutputError, SelectionError, TgdonnxError, UntrainableError


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories go, so that a test can see what is left."""
    path = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


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


FAILURES: dict[str, tuple[dict[str, Any], type[TgdonnxError], str]] = {
    "nothing is selected": ({"strategy": tgdonnx.Phi(0.0)}, SelectionError, "phi = 0 selects no filter"),
    "phi out of range": ({"strategy": tgdonnx.Phi(1.5)}, SelectionError, r"phi in \[0, 1\]"),
    "data that does not fit": ({"data": {"x": np.zeros((2, 3, 7, 8), np.float32)}}, DataError, "no array 'target'"),
    "data that is not there": ({"data": "nowhere.npz"}, DataError, "nowhere.npz"),
    "a rate far too large": ({"training": tgdonnx.TrainOptions(30, 3, 1e25)}, DivergedError, "diverged"),
    "an output that is not there": ({"building": tgdonnx.BuildOptions(output="z")}, UntrainableError, "no output 'z'"),
    "per kernel with gates": (
        {"masking": tgdonnx.MaskOptions("readers"), "building": tgdonnx.BuildOptions(gradient="gate")},
        TgdonnxError,
        "per kernel",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_after_a_failure_nothing_is_written_and_nothing_left(case: str, tmp_path: Path, scratch: Path) -> None:
    changed, error, message = FAILURES[case]
    model = models.dncnn(0)
    base = models.save(model, tmp_path / "model.onnx")
    arguments: dict[str, Any] = {
        "data": data_for(model),
        "strategy": tgdonnx.Phi(PHI),
        "training": options_for(),
        **changed,
    }
    with pytest.raises(error, match=message):
        tgdonnx.finetune(base, output=tmp_path / "tuned.onnx", **arguments)
    assert listing(tmp_path) == ["model.onnx"]
    assert listing(scratch) == []


def test_an_output_that_exists_is_found_before_any_work(tmp_path: Path) -> None:
    model = models.dncnn(0)
    base = models.save(model, tmp_path / "model.onnx")
    (tmp_path / "tuned.onnx").write_text("mine")
    told: list[tgdonnx.Progress] = []
    with pytest.raises(OutputError, match="exists; pass `overwrite=True`"):
        tgdonnx.finetune(
            base,
            data_for(model),
            tmp_path / "tuned.onnx",
            tgdonnx.Phi(PHI),
            options_for(),
            watch=tgdonnx.Watch(on_progress=told.append),
        )
    assert (tmp_path / "tuned.onnx").read_text() == "mine"
    assert told == []
    tgdonnx.finetune(
        base,
        data_for(model),
        tmp_path / "tuned.onnx",
        tgdonnx.Phi(PHI),
        options_for(),
        results=tgdonnx.Results(overwrite=True),
    )
    assert tgdonnx.verify(base, tmp_path / "tuned.onnx").ok


def test_the_vendors_file_is_never_its_own_output(tmp_path: Path) -> None:
    model = models.dncnn(0)
    base = models.save(model, tmp_path / "model.onnx")
    before = base.read_bytes()
    with pytest.raises(OutputError):
        tgdonnx.finetune(
            base, data_for(model), base, tgdonnx.Phi(PHI), options_for(), results=tgdonnx.Results(overwrite=True)
        )
    assert base.read_bytes() == before


@pytest.mark.parametrize("external", [False, True])
def test_two_rounds_mask_again_what_the_first_wrote_and_the_report_keeps_both(
    external: bool, tmp_path: Path, scratch: Path
) -> None:
    model = models.dncnn(0)
    for name in ("vendor", "out", "again"):
        (tmp_path / name).mkdir()
    base, tuned = tmp_path / "vendor" / "model.onnx", tmp_path / "out" / "tuned.onnx"
    data = data_for(model)
    models.save(externalise(model, base.parent) if external else model, base)
    before = base.read_bytes()
    report = tgdonnx.finetune(
        base,
        data,
        tuned,
        tgdonnx.Percentile(40),
        options_for(),
        rounds=2,
        results=tgdonnx.Results(artifacts=tmp_path / "kept"),
    )
    assert base.read_bytes() == before
    assert "tuned.onnx" in listing(tmp_path / "out")
    assert (len(listing(tmp_path / "out")) > 1) is external
    assert listing(scratch) == []
    assert listing(tmp_path / "kept") == ["round-1", "round-2"]
    (first,) = report.earlier
    assert (first.mask.selection["round"], report.mask.selection["round"]) == (1, 2)
    tgdonnx.export(tmp_path / "kept" / "round-1", tmp_path / "again" / "tuned.onnx")
    manifest = json.loads((tmp_path / "kept" / "round-2" / "manifest.json").read_text())
    assert manifest["base_sha256"] == hashlib.sha256((tmp_path / "again" / "tuned.onnx").read_bytes()).hexdigest()
    assert first.verify.ok
    assert report.verify.ok
    assert report.verify.evidence == "the records of 2 rounds in the tuned file"
    assert tgdonnx.verify(base, tuned).changed == report.verify.changed
    rows = [{c.name: set(c.filters) for c in part.changed} for part in (first.verify, report.export)]
    both = {name: rows[0].get(name, set()) | rows[1].get(name, set()) for name in {**rows[0], **rows[1]}}
    assert {c.name: set(c.filters) for c in report.verify.changed} == both


def test_protected_rounds_end_when_nothing_new_is_selected_and_the_report_says_so(tmp_path: Path) -> None:
    model = models.dncnn(0)
    base = models.save(model, tmp_path / "model.onnx")
    chosen = tgdonnx.Filters({"w1": [1, 4]})
    report = tgdonnx.finetune(
        base,
        data_for(model),
        tmp_path / "a.onnx",
        chosen,
        options_for(),
        rounds=3,
        masking=tgdonnx.MaskOptions(protect=True),
    )
    assert report.earlier == ()
    assert report.note is not None
    assert report.note.startswith("there was no round 2: all that is selected was trained by an earlier round")
    once = tgdonnx.finetune(
        base, data_for(model), tmp_path / "b.onnx", chosen, options_for(), masking=tgdonnx.MaskOptions(protect=True)
    )
    assert once.note is None
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    with pytest.raises(SelectionError, match="trained by an earlier round"):
        tgdonnx.finetune(
            tmp_path / "a.onnx",
            data_for(model),
            tmp_path / "c.onnx",
            chosen,
            options_for(),
            masking=tgdonnx.MaskOptions(protect=True),
        )
    assert not (tmp_path / "c.onnx").exists()


def test_less_than_one_round_is_refused(tmp_path: Path) -> None:
    base = models.save(models.dncnn(0), tmp_path / "model.onnx")
    with pytest.raises(SelectionError, match="expected at least 1 round, got 0"):
        tgdonnx.finetune(base, data_for(models.dncnn(0)), tmp_path / "t.onnx", tgdonnx.AllLayers(), rounds=0)


def noisy_pair(shape: tuple[int, ...], seed: int = 0) -> tuple[Any, Any]:
    """Two noisy images of one smooth study."""
    rng = np.random.default_rng(seed)
    grids = np.meshgrid(*(np.linspace(0, 3, size) for size in shape), indexing="ij")
    clean = np.sin(sum(grid * (axis + 1) for axis, grid in enumerate(grids)))
    return tuple((clean + 0.3 * rng.standard_normal(shape)).astype(np.float32) for _ in range(2))


def test_noise2noise_trains_without_targets_and_applies_the_result_to_all_counts(tmp_path: Path) -> None:
    base = models.save(models.dncnn(0), tmp_path / "model.onnx")
    a, b = noisy_pair((15, 24, 20))
    full = (a + b) / 2
    said: list[str] = []
    report = tgdonnx.finetune(
        base,
        tgdonnx.RunData(tgdonnx.Noise2Noise(a, b), reading=DataOptions(layout="DHW")),
        tmp_path / "tuned.onnx",
        tgdonnx.Phi(PHI),
        tgdonnx.TrainOptions(epochs=3, batch=4, learning_rate=1e-3),
        results=tgdonnx.Results(apply=full),
        watch=tgdonnx.Watch(on_remark=said.append),
    )
    assert "trained from A to B and from B to A" in said
    assert "held out against fitting noise: slices 7 to 9 of 15" in said
    assert report.verify.ok
    # (15 - 3) slices, both ways, in batches of 4.
    assert report.train.steps == 3 * 6
    assert report.train.best.loss is not None
    assert report.train.epochs[0].validation is not None
    assert report.train.best.loss < report.train.epochs[0].validation
    assert report.apply is not None
    assert report.apply.output == str(tmp_path / "tuned.applied.npy")
    again = tgdonnx.apply(tmp_path / "tuned.onnx", full, tmp_path / "again.npy", reading=DataOptions(layout="DHW"))
    assert again.shape == full.shape
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "tuned.applied.npy").read_bytes()


def test_what_noise2noise_cannot_train_or_apply_is_refused_before_training(tmp_path: Path, scratch: Path) -> None:
    base = models.save(models.dncnn(0), tmp_path / "model.onnx")
    a, b = noisy_pair((15, 24, 20))
    (tmp_path / "taken.npy").write_bytes(b"")
    told = listing(tmp_path)

    def refuse(message: str, error: type[TgdonnxError], pair: tgdonnx.Noise2Noise, **options: Any) -> None:
        with pytest.raises(error, match=message):
            tgdonnx.finetune(
                base,
                tgdonnx.RunData(pair, reading=DataOptions(layout="DHW")),
                tmp_path / "tuned.onnx",
                tgdonnx.Phi(PHI),
                options_for(),
                results=tgdonnx.Results(**options),
                watch=tgdonnx.Watch(on_progress=lambda _: pytest.fail("trained")),
            )
        assert listing(tmp_path) == told
        assert listing(scratch) == []

    pair = tgdonnx.Noise2Noise(a, b)
    refuse("exists", OutputError, pair, apply=a, applied=tmp_path / "taken.npy")
    refuse("expected 'x' to be float32", DataError, pair, apply=a.astype(np.float64))
    refuse("nothing to apply the tuned model to", DataError, pair, applied=tmp_path / "out.npy")
    refuse("are the same image", DataError, tgdonnx.Noise2Noise(a, a))


def wide_network(width: int = 32) -> onnx.ModelProto:
    """Learns small pictures by heart."""
    rng = np.random.default_rng(5)
    shapes = {"w1": (width, 1, 3, 3), "w2": (width, width, 3, 3), "w3": (1, width, 3, 3)}
    weights = {name: rng.standard_normal(s) * np.sqrt(2 / np.prod(s[1:])) for name, s in shapes.items()}
    weights["w3"] *= 0.1
    return models.parse(
        """<ir_version: 8, opset_import: ["": 17]> wide (float[N, 1, H, W] x) => (float[N, 1, H, W] y) {
            a = Conv<pads = [1, 1, 1, 1]>(x, w1) b = Relu(a)
            c = Conv<pads = [1, 1, 1, 1]>(b, w2) d = Relu(c)
            y = Conv<pads = [1, 1, 1, 1]>(d, w3)
        }""",
        {name: weight.astype(np.float32) for name, weight in weights.items()},
    )


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


def test_the_guard_keeps_what_was_learned_before_noise_was_fitted(tmp_path: Path) -> None:
    # Few small pictures of nothing but noise, and all weights free: what can be learned is the noise, by heart.
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((10, 1, 6, 6)).astype(np.float32) for _ in range(2))
    base = models.save(wide_network(), tmp_path / "model.onnx")

    def tuned(name: str, patience: Optional[int]) -> tgdonnx.FinetuneReport:
        return tgdonnx.finetune(
            base,
            tgdonnx.Noise2Noise(a, b),
            tmp_path / name,
            tgdonnx.AllLayers(),
            tgdonnx.TrainOptions(epochs=100, batch=4, learning_rate=3e-3, patience=patience),
        )

    guarded = tuned("guarded.onnx", None)
    assert guarded.train.stop.rule == "patience"
    assert guarded.train.steps < 100 * 4 / 2
    # Let alone, it goes on to learn the noise, of variance 1, by heart, which the held-out pictures tell.
    alone = tuned("alone.onnx", 1000)
    held_out = [epoch.validation for epoch in alone.train.epochs if epoch.validation is not None]
    assert alone.train.stop.rule == "length"
    assert alone.train.loss[-1] < 0.2
    assert held_out[-1] > 1.3 * min(held_out)
    # Either way what there was before is kept.
    for report in (guarded, alone):
        assert report.train.best.loss == min(held_out)
        assert report.export.checkpoint == BEST


def test_the_scaling_of_training_is_that_of_what_the_model_is_applied_to(tmp_path: Path) -> None:
    base = models.save(models.dncnn(0), tmp_path / "model.onnx")
    a, b = (200 + 50 * image for image in noisy_pair((15, 24, 20)))
    full = (a + b) / 2
    report = tgdonnx.finetune(
        base,
        tgdonnx.RunData(tgdonnx.Noise2Noise(a, b), reading=DataOptions(layout="DHW", scale="standard")),
        tmp_path / "tuned.onnx",
        tgdonnx.Phi(PHI),
        options_for(),
        results=tgdonnx.Results(artifacts=tmp_path / "kept", apply=full, applied=tmp_path / "out.npy"),
    )
    scaling = json.loads((tmp_path / "kept" / "run.json").read_text())["data"]["scaling"]["x"]
    # Of what was trained on: both images without the slices that are held out.
    trained = np.concatenate([image[part] for image in (a, b) for part in (slice(6), slice(9, None))]).astype(
        np.float64
    )
    assert scaling["offset"] == pytest.approx(trained.mean(), rel=1e-6)
    assert scaling["divisor"] == pytest.approx(trained.std(), rel=1e-6)
    assert report.apply is not None
    assert any("(standard)" in remark for remark in report.apply.remarks)
    assert "scaling is undone in the result" in report.apply.remarks
    scaled = ((full.astype(np.float64) - scaling["offset"]) / scaling["divisor"]).astype(np.float32)
    as_it_is = DataOptions(layout="DHW", scale=1)
    tgdonnx.apply(tmp_path / "tuned.onnx", scaled, tmp_path / "scaled.npy", reading=as_it_is)
    expected = np.load(tmp_path / "scaled.npy").astype(np.float64) * scaling["divisor"] + scaling["offset"]
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-5)
