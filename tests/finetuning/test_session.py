"""One step, one evaluation, one checkpoint: what a run is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.data.datasets import everything, pair
from tests.support import models
from tests.support.models import Array
from tests.support.trainer import make_artifacts, open_trainer
from tests.support.training_models import text_model
from tgdonnx.artifacts import read_manifest
from tgdonnx.data import Dataset
from tgdonnx.errors import ArtifactsError, DataError, OutputError
from tgdonnx.finetuning.session import Session, read_parameters
from tgdonnx.finetuning.state import RunState

STATE = RunState(2, 8, {"batch": 4, "seed": 0}, 0.25, best_epoch=1, best_step=4)


def data(samples: int = 6, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    x, target = (rng.normal(size=(samples, 3, 6, 5)).astype(np.float32) for _ in range(2))
    return pair(x, target)


@pytest.fixture
def artifacts(engine: str, tmp_path: Path) -> Path:
    return make_artifacts(models.dncnn(0), tmp_path, tgdonnx.Phi(0.3), engine=engine)


def last(directory: Path) -> str:
    """The name of the last checkpoint."""
    return read_manifest(directory).runtime.checkpoint


def parameters(session: Session, directory: Path) -> dict[str, Array]:
    session.save("probe", STATE)
    return read_parameters(directory, "probe")


def test_a_step_returns_the_loss_before_it_and_starts_from_no_gradient(artifacts: Path) -> None:
    session, reference = Session(artifacts), open_trainer(artifacts)
    for batch in [*data().batches(2), *data(seed=1).batches(3)]:
        assert session.step([batch], 1e-3) == [reference.step(1e-3, *batch)]
    found = parameters(session, artifacts)
    assert found.keys() == reference.parameters.keys()
    for name, values in reference.parameters.items():
        assert np.array_equal(found[name], values), name


def test_the_learning_rate_is_that_of_each_step(artifacts: Path) -> None:
    session = Session(artifacts)
    before = read_parameters(artifacts, last(artifacts))
    session.step([next(data().batches(2))], 1e-3)
    first = parameters(session, artifacts)
    session.step([next(data().batches(2))], 0.0)
    second = parameters(session, artifacts)
    for name, values in first.items():
        assert np.abs(values - before[name]).max() == pytest.approx(1e-3, rel=2e-3), "Adam's first step is the rate"
        assert np.array_equal(second[name], values), name


def test_a_loss_that_is_not_finite_moves_nothing(artifacts: Path) -> None:
    session = Session(artifacts)
    before = read_parameters(artifacts, last(artifacts))
    batch = next(data().batches(2))
    batch[1][0] = 1e30
    assert not np.isfinite(session.step([batch], 1e-3)).any()
    assert session.parameters_are_finite()
    for name, values in parameters(session, artifacts).items():
        assert np.array_equal(values, before[name]), name


def test_parameters_that_overflow_are_noticed(artifacts: Path) -> None:
    session = Session(artifacts)
    assert session.parameters_are_finite()
    session.step([next(data().batches(2))], 1e38)
    session.step([next(data().batches(2))], 1e38)
    assert not session.parameters_are_finite()


def test_an_evaluation_gives_the_loss_and_the_output_and_a_prediction_the_output_without_a_target(
    artifacts: Path,
) -> None:
    session, batch = Session(artifacts), next(data().batches(4))
    loss, output = open_trainer(artifacts).evaluate(*batch)
    found = session.evaluate(batch)
    assert (found.loss, found.parts, found.outputs[0].tobytes()) == (loss, (loss,), output.tobytes())
    (predicted,) = session.predict(batch[:-1])
    assert np.abs(predicted - output).max() <= 1e-6 * np.abs(output).max()


def test_evaluation_trains_nothing(artifacts: Path) -> None:
    session, reference = Session(artifacts), Session(artifacts)
    batch = next(data().batches(2))
    session.step([batch], 1e-3)
    reference.step([batch], 1e-3)
    for _ in range(3):
        session.evaluate(next(data(seed=1).batches(2)))
    assert session.step([batch], 1e-3) == reference.step([batch], 1e-3)
    a, b = parameters(session, artifacts), parameters(reference, artifacts)
    for name, values in a.items():
        assert np.array_equal(values, b[name]), name


# Does the data go through?


def test_data_that_fits_is_taken(artifacts: Path) -> None:
    Session(artifacts).require_fit(data())


@pytest.mark.parametrize("shape", [(6, 3, 6, 1), (6, 3, 1, 1), (6, 3, 5, 6), (6, 3, 12, 10)])
def test_a_target_that_does_not_fit_the_output_is_refused_even_where_it_would_broadcast(
    shape: tuple[int, ...], artifacts: Path
) -> None:
    dataset = pair(everything(data())[0], np.zeros(shape, np.float32))
    with pytest.raises(DataError, match=r"expected \[1, 3, 6, 5\].* found \[1, ") as caught:
        Session(artifacts).require_fit(dataset)
    assert len(str(caught.value).splitlines()) == 1


def test_samples_too_small_for_the_model_are_refused_with_their_sizes(tmp_path: Path) -> None:
    model = text_model("g (float[N, 2, W] x) => (float[N, 3, w] y) { y = Conv(x, w) }", w=(3, 2, 5))
    session = Session(make_artifacts(model, tmp_path, tgdonnx.AllLayers()))
    dataset = pair(np.zeros((4, 2, 3), np.float32), np.zeros((4, 3, 1), np.float32))
    with pytest.raises(DataError, match=r"the model cannot be run on x \[1, 2, 3\]: ") as caught:
        session.require_fit(dataset)
    assert len(str(caught.value).splitlines()) <= 2


def classifier(tmp_path: Path, loss: str) -> Session:
    model = text_model("g (float[N, 2, W] x) => (float[N, 3, w] y) { y = Conv(x, w) }", w=(3, 2, 1))
    return Session(make_artifacts(model, tmp_path, tgdonnx.AllLayers(), loss=loss))


@pytest.mark.parametrize(("low", "high"), [(-0.1, 1.0), (0.0, 1.5), (0.0, 255.0)])
def test_bce_wants_targets_between_0_and_1(low: float, high: float, tmp_path: Path) -> None:
    session = classifier(tmp_path, "bce")
    target = np.full((4, 3, 5), 0.5, np.float32)
    x = np.zeros((4, 2, 5), np.float32)
    session.require_fit(pair(x, target))
    target[2, 1, :2] = low, high
    with pytest.raises(DataError, match="bce needs targets in 0 to 1"):
        session.require_fit(pair(x, target))


@pytest.mark.parametrize("wrong", [-1, 3, 255])
def test_ce_wants_classes_that_the_model_has(wrong: int, tmp_path: Path) -> None:
    session = classifier(tmp_path, "ce")
    target = np.arange(20).reshape(4, 5) % 3
    x = np.zeros((4, 2, 5), np.float32)
    session.require_fit(pair(x, target))
    target[3, 4] = wrong
    with pytest.raises(DataError, match="ce needs targets in 0 to 2"):
        session.require_fit(pair(x, target))


def test_ce_wants_targets_without_the_axis_of_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected \[1, 5\], found \[1, 4\]"):
        classifier(tmp_path, "ce").require_fit(pair(np.zeros((4, 2, 5), np.float32), np.zeros((4, 4), np.int64)))


# Checkpoints.


def test_artifacts_that_were_never_trained_hold_no_run(artifacts: Path) -> None:
    assert Session(artifacts).run_state is None


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_saved_run_goes_on_as_if_it_had_not_been_interrupted(
    optimizer: str, clip_norm: Optional[float], engine: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"optimizer": optimizer, "clip_norm": clip_norm, "l2": 0.01, "engine": engine}
    directory = make_artifacts(models.dncnn(0), tmp_path, tgdonnx.Phi(0.3), **options)
    rate = 1e-2 if optimizer == "adamw" else 1e-6 if clip_norm is None else 1e-2
    batches = [batch for seed in range(3) for batch in data(seed=seed).batches(2)]
    session = Session(directory)
    losses = [session.step([batch], rate) for batch in batches[:4]]
    session.save(last(directory), STATE)
    losses += [session.step([batch], rate) for batch in batches[4:]]
    resumed = Session(directory)
    assert resumed.run_state == STATE
    assert [resumed.step([batch], rate) for batch in batches[4:]] == losses[4:]
    a, b = parameters(session, directory), parameters(resumed, directory)
    for name, values in a.items():
        assert values.tobytes() == b[name].tobytes(), name


def test_a_checkpoint_takes_its_place_whole_or_not_at_all(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(artifacts)
    session.save(last(artifacts), STATE)
    before = (artifacts / last(artifacts)).read_bytes()
    listing = sorted(path.name for path in artifacts.iterdir())
    session.step([next(data().batches(2))], 1e-2)

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fails)
        with pytest.raises(OutputError, match="No space left on device"):
            session.save(last(artifacts), STATE)
    assert (artifacts / last(artifacts)).read_bytes() == before
    assert sorted(path.name for path in artifacts.iterdir()) == listing
    session.save(last(artifacts), STATE)
    assert (artifacts / last(artifacts)).read_bytes() != before


def test_a_checkpoint_holds_what_trains_by_the_vendors_names(artifacts: Path) -> None:
    stored = {tensor.name: tensor for tensor in onnx.load(artifacts / "masked.onnx").graph.initializer}
    trained = read_parameters(artifacts, last(artifacts))
    expected = {name for name, tensor in stored.items() if f"{name}.retrain_mask" in stored}
    assert trained.keys() == {n for n in expected if onnx.numpy_helper.to_array(stored[f"{n}.retrain_mask"]).any()}
    for name, values in trained.items():
        assert values.tobytes() == onnx.numpy_helper.to_array(stored[name]).tobytes()


@pytest.mark.training
@pytest.mark.parametrize("name", ["checkpoint", "training_model.onnx", "eval_model.onnx", "optimizer_model.onnx"])
@pytest.mark.parametrize("damage", ["cut off", "empty", "other bytes"])
def test_a_damaged_file_of_the_training_runtime_is_told_without_a_traceback(
    name: str, damage: str, tmp_path: Path
) -> None:
    artifacts = make_artifacts(models.dncnn(0), tmp_path, tgdonnx.Phi(0.3), engine="onnxruntime-training")
    data_ = (artifacts / name).read_bytes()
    damaged: dict[str, Any] = {"cut off": data_[: len(data_) // 2], "empty": b"", "other bytes": b"\x07" * len(data_)}
    (artifacts / name).write_bytes(damaged[damage])
    loading = r"(ONNX Runtime cannot load|is no ONNX model|cannot be read|the models say) ?.*build the artifacts again"
    reading = r"checkpoint is (no readable checkpoint|damaged): .*build and train again"
    with pytest.raises(ArtifactsError, match=reading if name == "checkpoint" else loading) as caught:
        Session(artifacts)
    assert len(str(caught.value).splitlines()) == 1
    assert "onnxruntime_src" not in str(caught.value), "no places in the runtime's source"
    if name == "checkpoint":
        with pytest.raises(ArtifactsError, match=reading):
            read_parameters(artifacts, last(artifacts))
