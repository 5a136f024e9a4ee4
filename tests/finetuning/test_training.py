"""A run is its steps; what it keeps; what is wrong use."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.finetuning.runs import HELD_OUT, OPTIONS, data, log_of, same_state, timeless, uninterrupted
from tests.support import models
from tests.support.checkpoints import BEST, CHECKPOINT
from tests.support.fake_sessions import hooked, validated_as
from tests.support.models import Array
from tests.support.trainer import make_artifacts, open_trainer
from tests.support.training_models import text_model
from tgdonnx.data import DataOptions
from tgdonnx.errors import ArtifactsError, DataError, DivergedError, OutputError
from tgdonnx.finetuning import Progress, RunData, TrainOptions, Watch, train
from tgdonnx.finetuning.session import Session, read_parameters


def test_a_run_is_its_steps_one_after_the_other_in_an_order_that_seed_and_epoch_give(
    artifacts: Path, built: Path
) -> None:
    report = train(artifacts, RunData(data(), validation=HELD_OUT), OPTIONS)
    reference = open_trainer(built)
    losses, validation = [], [reference.evaluate(HELD_OUT["x"], HELD_OUT["target"])[0]]
    for epoch in (1, 2, 3):
        order = np.random.default_rng([5, epoch]).permutation(10)
        for start in (0, 4, 8):
            chosen = np.sort(order[start : start + 4])
            losses.append(reference.step(1e-2, data()["x"][chosen], data()["target"][chosen]))
        validation.append(reference.evaluate(HELD_OUT["x"], HELD_OUT["target"])[0])
    assert report.steps == 9
    assert list(report.loss) == losses
    assert [epoch.epoch for epoch in report.epochs] == [0, 1, 2, 3]
    assert [epoch.step for epoch in report.epochs] == [0, 3, 6, 9]
    assert report.epochs[0].loss is None
    assert [e.loss for e in report.epochs[1:]] == [pytest.approx(np.mean(losses[i : i + 3])) for i in (0, 3, 6)]
    assert [e.validation for e in report.epochs] == pytest.approx(validation, rel=1e-6)
    for name, values in read_parameters(artifacts, CHECKPOINT).items():
        assert np.array_equal(values, reference.parameters[name]), name


def test_every_epoch_takes_every_sample_once_and_no_two_in_the_same_order(
    artifacts: Path,
) -> None:
    seen: list[list[float]] = []

    def watched(batch: list[Array]) -> list[Array]:
        seen.append(batch[0][:, 0, 0, 0].tolist())
        return batch

    with hooked(batch=watched):
        train(artifacts, data(), OPTIONS)
    marks = sorted(data()["x"][:, 0, 0, 0].tolist())
    epochs = [seen[i : i + 3] for i in (0, 3, 6)]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [4, 4, 2]
        assert sorted(mark for batch in batches for mark in batch) == marks
    assert len({str(batches) for batches in epochs}) == 3


def test_another_seed_is_another_order_and_the_same_seed_the_same_run(built: Path, tmp_path: Path) -> None:
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        directory = Path(shutil.copytree(built, tmp_path / name))
        runs.append(train(directory, data(), replace(OPTIONS, seed=seed)).loss)
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert same_state(tmp_path / "a", tmp_path / "b")


def test_training_finds_the_weights_that_made_the_targets(tmp_path: Path) -> None:
    model = text_model("g (float[N, 2, W] x) => (float[N, 3, w] y) { y = Conv(x, w, b) }", w=(3, 2, 1), b=(3,))
    directory = make_artifacts(model, tmp_path, tgdonnx.Filters({"w": [0, 2]}))
    rng = np.random.default_rng(0)
    w, b = rng.normal(size=(3, 2)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    x = rng.normal(size=(40, 2, 6)).astype(np.float32)
    target = np.einsum("ncw,mc->nmw", x, w) + b[:, None]
    report = train(directory, {"x": x, "target": target}, TrainOptions(60, 5, 0.05, "cosine"))
    found = read_parameters(directory, CHECKPOINT)
    assert np.abs(found["w"][[0, 2], :, 0] - w[[0, 2]]).max() < 1e-3
    assert np.abs(found["b"][[0, 2]] - b[[0, 2]]).max() < 1e-3
    assert report.loss[-1] < report.loss[0]


def test_progress_is_told_after_every_step(artifacts: Path) -> None:
    told: list[Progress] = []
    report = train(artifacts, RunData(data(), validation=HELD_OUT), OPTIONS, watch=Watch(on_progress=told.append))
    assert [p.step for p in told] == list(range(1, 10))
    assert [p.epoch for p in told] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert {p.steps for p in told} == {9}
    assert [p.loss for p in told] == list(report.loss)
    validation = [epoch.validation for epoch in report.epochs]
    assert [p.validation for p in told] == [validation[p.epoch - 1] for p in told]


def test_the_log_has_one_line_per_step_and_one_per_epoch(artifacts: Path) -> None:
    options = replace(OPTIONS, schedule="linear", warmup=2)
    report = train(artifacts, RunData(data(), validation=HELD_OUT), options)
    lines = log_of(artifacts)
    assert [line["event"] for line in lines] == ["epoch"] + 3 * (3 * ["step"] + ["epoch"]) + ["stop"]
    steps = [line for line in lines if line["event"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, 10))
    assert [line["epoch"] for line in steps] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [line["loss"] for line in steps] == list(report.loss)
    assert [line["learning_rate"] for line in steps] == pytest.approx(
        [0.005, 0.01, *(0.01 * (7 - i) / 7 for i in range(7))]
    )
    epochs = [line for line in lines if line["event"] == "epoch"]
    for line, epoch in zip(epochs, report.epochs):
        expected = (epoch.epoch, epoch.step, epoch.loss, epoch.validation, epoch.seconds)
        assert (line["epoch"], line["step"], line["loss"], line["validation"], line["seconds"]) == expected


def test_a_validation_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    artifacts: Path,
) -> None:
    message = "validation loss is inf after step 6; the checkpoint of step 3 is kept"
    with validated_as([4.0, 3.0, float("inf")]), pytest.raises(DivergedError, match=message):
        train(artifacts, RunData(data(), validation=HELD_OUT), OPTIONS)
    state = Session(artifacts).run_state
    assert state is not None
    assert (state.step, state.best_loss) == (3, 3.0)


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([4.0, 3.0, 2.0, 1.0], 3),
        ([4.0, 1.0, 2.0, 3.0], 1),
        ([1.0, 2.0, 3.0, 4.0], 0),
        ([4.0, 2.0, 2.0, 2.0], 1),
        ([4.0, 2.0, 3.0, 1.0], 3),
    ],
)
def test_the_best_checkpoint_is_that_of_the_first_lowest_validation_loss_and_may_be_the_start(
    losses: list[float], best: int, artifacts: Path, tmp_path: Path, built: Path
) -> None:
    after: dict[int, dict[str, Array]] = {0: read_parameters(built, CHECKPOINT)}
    reference = Path(shutil.copytree(built, tmp_path / "reference"))
    for epochs in (1, 2, 3):
        train(reference, data(), replace(OPTIONS, epochs=epochs), resume=epochs > 1)
        after[epochs] = read_parameters(reference, CHECKPOINT)
    with validated_as(losses):
        report = train(artifacts, RunData(data(), validation=HELD_OUT), OPTIONS)
    assert (report.best.epoch, report.best.step, report.best.loss) == (best, 3 * best, losses[best])
    assert report.best.checkpoint == BEST
    for checkpoint, epoch in ((BEST, best), (CHECKPOINT, 3)):
        found = read_parameters(artifacts, checkpoint)
        assert all(np.array_equal(found[name], values) for name, values in after[epoch].items()), checkpoint


def test_without_validation_data_the_last_epoch_is_kept(artifacts: Path) -> None:
    report = train(artifacts, data(), OPTIONS)
    assert not (artifacts / BEST).exists()
    assert (report.best.epoch, report.best.step, report.best.checkpoint) == (3, 9, CHECKPOINT)
    assert report.best.loss == report.epochs[-1].loss
    assert all(epoch.validation is None for epoch in report.epochs)


def test_a_second_run_needs_resume_or_new_artifacts(artifacts: Path) -> None:
    train(artifacts, data(), replace(OPTIONS, epochs=1))
    before = {path.name: path.read_bytes() for path in artifacts.iterdir()}
    with pytest.raises(
        ArtifactsError, match=r"holds a run \(3 steps\); continue it with `resume=True`, or build again"
    ):
        train(artifacts, data(), OPTIONS)
    assert {path.name: path.read_bytes() for path in artifacts.iterdir()} == before


def fixed_at(batch: int, directory: Path) -> Path:
    network = f"g (float[{batch}, 2, W] x) => (float[{batch}, 3, w] y) {{ y = Conv(x, w, b) }}"
    return make_artifacts(text_model(network, w=(3, 2, 1), b=(3,)), directory, tgdonnx.AllLayers())


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    return fixed_at(4, tmp_path)


def pairs(samples: int) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=(samples, 2, 6)).astype(np.float32),
        "target": rng.normal(size=(samples, 3, 6)).astype(np.float32),
    }


def test_with_a_fixed_batch_what_is_left_over_waits_for_the_next_epoch(
    fixed: Path,
) -> None:
    seen: list[list[float]] = []
    with hooked(batch=lambda batch: seen.append(batch[0][:, 0, 0].tolist()) or batch):
        report = train(fixed, RunData(pairs(11), validation=pairs(8)), TrainOptions(epochs=6, batch=4))
    assert report.steps == 12
    assert all(len(batch) == 4 for batch in seen)
    for i in range(0, 12, 2):
        assert len({*seen[i], *seen[i + 1]}) == 8, "no sample twice in an epoch"
    assert len({mark for batch in seen for mark in batch}) == 11, "none is left out for ever"


def test_another_batch_size_than_the_fixed_one_is_refused(fixed: Path) -> None:
    with pytest.raises(DataError, match="fixes the batch size at 4; got a batch of 8"):
        train(fixed, pairs(8), TrainOptions(batch=8))


def test_a_fixed_batch_of_one_is_taken_with_as_many_batches_per_step_and_that_is_said(tmp_path: Path) -> None:
    directory = fixed_at(1, tmp_path)
    said: list[str] = []
    report = train(directory, pairs(12), TrainOptions(epochs=1, batch=4), watch=Watch(on_remark=said.append))
    assert report.steps == 3
    assert said[0] == ("the model fixes the batch size at 1: `batch=1, accumulate=4`, a step is of 4 samples as before")
    assert json.loads((directory / "run.json").read_text())["options"]["batch"] == 1


def test_validation_samples_that_make_no_whole_batches_are_refused(fixed: Path) -> None:
    with pytest.raises(DataError, match="multiple of it as validation samples, found 6"):
        train(fixed, RunData(pairs(8), validation=pairs(6)), TrainOptions(batch=4))


def test_fewer_samples_than_one_fixed_batch_are_refused(fixed: Path) -> None:
    with pytest.raises(DataError, match="4"):
        train(fixed, pairs(3), TrainOptions(epochs=1, batch=4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "expected epochs >= 1, got 0"),
        ({"batch": 0}, "expected batch >= 1, got 0"),
        ({"batch": -3}, "expected batch >= 1, got -3"),
        ({"warmup": -1}, "expected warmup >= 0, got -1"),
        ({"seed": -1}, "expected seed >= 0, got -1"),
        ({"learning_rate": 0.0}, "expected a learning rate > 0, got 0"),
        ({"learning_rate": -1e-3}, "expected a learning rate > 0, got -0.001"),
        ({"learning_rate": float("nan")}, "expected a learning rate > 0, got nan"),
        ({"learning_rate": float("inf")}, "expected a learning rate > 0, got inf"),
        ({"schedule": "step"}, "expected a schedule of constant, linear, cosine, got 'step'"),
    ],
)
def test_options_out_of_range_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TrainOptions(**options)


BAD: dict[str, tuple[Callable[[dict[str, Array]], dict[str, Array]], str]] = {
    "a missing target": (lambda d: {"x": d["x"]}, "no array 'target'"),
    "a wrong name": (
        lambda d: {"image": d["x"], "other": d["x"], "target": d["target"]},
        "no array 'x'; expected x, target.*`map={'image': 'x'}` or `map={'other': 'x'}`",
    ),
    "a wrong dtype": (lambda d: {**d, "x": d["x"].astype(np.float64)}, "'x' to be float32 .* found float64"),
    "a wrong rank": (
        lambda d: {**d, "x": d["x"][:, 0]},
        r"'x' to be float32 \[\?, 3, \?, \?\], found float32 \[10, 6, 5\]",
    ),
    "wrong channels": (lambda d: {**d, "target": d["target"][:, :1]}, "'target' to be float32"),
    "a wrong size": (lambda d: {**d, "target": d["target"][:, :, :4]}, "target does not fit the output"),
    "other lengths": (lambda d: {**d, "target": d["target"][:7]}, "differ in the number of samples"),
    "NaN": (lambda d: {**d, "target": np.full_like(d["target"], np.nan)}, r"target\[0, 0, 0, 0\] is nan"),
    "no sample": (lambda d: {name: array[:0] for name, array in d.items()}, "no sample"),
}


@pytest.mark.parametrize("role", ["training", "validation"])
@pytest.mark.parametrize("case", BAD)
def test_data_that_does_not_fit_is_refused_before_anything_is_written(case: str, role: str, artifacts: Path) -> None:
    change, message = BAD[case]
    before = {path.name: path.read_bytes() for path in artifacts.iterdir()}
    bad = change(data())
    training, validation = (bad, None) if role == "training" else (data(), bad)
    with pytest.raises(DataError, match=message):
        train(artifacts, RunData(training, validation=validation), OPTIONS)
    assert {path.name: path.read_bytes() for path in artifacts.iterdir()} == before


def test_arrays_are_mapped_to_inputs_for_training_and_validation(artifacts: Path, built: Path, tmp_path: Path) -> None:
    _, expected = uninterrupted(built, tmp_path)
    renamed = {"noisy": "x", "clean": "target"}

    def named(arrays: dict[str, Array]) -> dict[str, Array]:
        return {"noisy": arrays["x"], "clean": arrays["target"]}

    report = train(
        artifacts, RunData(named(data()), validation=named(HELD_OUT), reading=DataOptions(map=renamed)), OPTIONS
    )
    assert timeless(report) == timeless(expected)


def test_data_in_files_trains_as_data_in_memory_does(artifacts: Path, built: Path, tmp_path: Path) -> None:
    _, expected = uninterrupted(built, tmp_path)
    np.savez(tmp_path / "train.npz", **data())
    (tmp_path / "held_out").mkdir()
    for name, array in HELD_OUT.items():
        np.save(tmp_path / "held_out" / f"{name}.npy", array)
    report = train(artifacts, RunData(tmp_path / "train.npz", validation=str(tmp_path / "held_out")), OPTIONS)
    assert timeless(report) == timeless(expected)


def test_a_model_with_several_inputs_is_fed_by_name(tmp_path: Path) -> None:
    model = text_model(
        """g (float[N, 2, W] x, float[N, 1, W] condition) => (float[N, 3, w] y) {
            c = Concat<axis = 1>(condition, x)
            y = Conv(c, w, b)
        }""",
        w=(3, 3, 1),
        b=(3,),
    )
    directory = make_artifacts(model, tmp_path, tgdonnx.AllLayers())
    rng = np.random.default_rng(0)
    content = {
        "target": rng.normal(size=(6, 3, 5)).astype(np.float32),
        "condition": rng.normal(size=(6, 1, 5)).astype(np.float32),
        "x": rng.normal(size=(6, 2, 5)).astype(np.float32),
    }
    loss, _ = open_trainer(directory).evaluate(content["x"], content["condition"], content["target"])
    assert train(directory, content, TrainOptions(epochs=1, batch=6)).loss == (pytest.approx(loss, rel=1e-6),)


def test_a_directory_that_cannot_take_a_checkpoint_is_told(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(OutputError, match="No space left on device"):
        train(artifacts, data(), OPTIONS)


def test_what_is_no_artifacts_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArtifactsError, match="no artifacts directory"):
        train(tmp_path, data(), OPTIONS)
    onnx.save(models.chain(0), tmp_path / "model.onnx")
    with pytest.raises(ArtifactsError, match="no artifacts directory"):
        train(tmp_path / "model.onnx", data(), OPTIONS)
