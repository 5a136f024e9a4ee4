"""Frozen tensors of large models, beside the message; the bound is lowered so that a small model is a large one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.data.datasets import pair
from tests.support import models
from tgdonnx import bounds
from tgdonnx.artifacts import Form
from tgdonnx.artifacts.opened import open_artifacts
from tgdonnx.artifacts.vendor_outputs import vendor_outputs
from tgdonnx.checking import check
from tgdonnx.engines import EngineName
from tgdonnx.engines.frozen import FROZEN_DATA
from tgdonnx.errors import ArtifactsError
from tgdonnx.exporting import export
from tgdonnx.finetuning.session import Session, read_parameters
from tgdonnx.finetuning.state import RunState

HAVE_FROZEN = {
    "onnxruntime": ("step.onnx", "gradients.onnx", "eval.onnx"),
    "onnxruntime-training": ("training_model.onnx", "eval_model.onnx"),
}


def lower_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MESSAGE_BYTES", 6500)
    monkeypatch.setattr(bounds, "ASIDE_BYTES", 100)
    monkeypatch.setattr(bounds, "SHARED_BYTES", 6500)


def masked(directory: Path, *, external: bool) -> Path:
    directory.mkdir()
    model = models.dncnn(3)
    vendor = directory / "vendor.onnx"
    if external:
        onnx.save_model(model, vendor, save_as_external_data=True, location="vendor.bin", size_threshold=64)
    else:
        models.save(model, vendor)
    tgdonnx.mask(vendor, directory / "masked.onnx", tgdonnx.LastLayers(1))
    return directory / "masked.onnx"


def batches() -> list[list[np.ndarray]]:
    rng = np.random.default_rng(0)
    x, target = (rng.normal(size=(6, 3, 6, 5)).astype(np.float32) for _ in range(2))
    return [*pair(x, target).batches(2)]


def trained(directory: Path) -> tuple[list[float], dict[str, np.ndarray]]:
    session = Session(directory)
    losses = [loss for batch in batches() for loss in session.step([batch], 1e-3)]
    losses.append(session.evaluate(batches()[0]).loss)
    checkpoint = session.manifest.runtime.checkpoint
    session.save(checkpoint, RunState(1, 3, {"batch": 2, "seed": 0}, best_loss=0.25, best_epoch=1, best_step=2))
    return losses, read_parameters(directory, checkpoint)


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("form", ["masked", "thin"])
def test_a_large_model_trains_as_a_small_one_and_what_is_frozen_lies_beside_the_messages(
    form: Form, external: bool, engine: EngineName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = masked(tmp_path / "a", external=external)
    tgdonnx.build(source, tmp_path / "small", tgdonnx.BuildOptions(form=form, engine=engine))
    assert not (tmp_path / "small" / FROZEN_DATA).exists()
    lower_bounds(monkeypatch)
    tgdonnx.build(source, tmp_path / "large", tgdonnx.BuildOptions(form=form, engine=engine))
    for name in HAVE_FROZEN[engine]:
        stored = onnx.load(tmp_path / "large" / name, load_external_data=False).graph.initializer
        outside = [tensor for tensor in stored if tensor.data_location == onnx.TensorProto.EXTERNAL]
        assert outside
        assert {entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"} == {
            FROZEN_DATA
        }
        assert all(len(tensor.raw_data) <= bounds.ASIDE_BYTES for tensor in stored)
        lengths = [int(entry.value) for tensor in outside for entry in tensor.external_data if entry.key == "length"]
        sizes = {kind: (tmp_path / kind / name).stat().st_size for kind in ("small", "large")}
        assert sizes["large"] < sizes["small"] - 0.9 * sum(lengths)
    (losses, values), (expected_losses, expected) = (trained(tmp_path / name) for name in ("large", "small"))
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    assert values.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(values[name], array, rtol=1e-4, atol=1e-6)
    exported = export(tmp_path / "large", tmp_path / "tuned.onnx")
    assert tgdonnx.verify(tmp_path / "a" / "vendor.onnx", exported.output, masked=source).ok


def test_check_of_a_large_model_says_what_it_says_of_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = masked(tmp_path / "a", external=True)
    expected = check(source)
    lower_bounds(monkeypatch)
    assert check(source) == expected
    assert expected.trainable


def test_the_vendors_outputs_of_a_large_model_are_those_of_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = masked(tmp_path / "a", external=True)
    tgdonnx.build(source, tmp_path / "small")
    expected = vendor_outputs(open_artifacts(tmp_path / "small"))(batches()[0][:1])[0]
    lower_bounds(monkeypatch)
    tgdonnx.build(source, tmp_path / "large")
    assert np.array_equal(vendor_outputs(open_artifacts(tmp_path / "large"))(batches()[0][:1])[0], expected)


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_frozen_data_that_is_not_whole_is_refused_before_the_runtime_reads_it(
    damage: str, engine: EngineName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lower_bounds(monkeypatch)
    source = masked(tmp_path / "a", external=False)
    tgdonnx.build(source, tmp_path / "large", tgdonnx.BuildOptions(engine=engine))
    frozen = tmp_path / "large" / FROZEN_DATA
    if damage == "missing":
        frozen.unlink()
    else:
        frozen.write_bytes(frozen.read_bytes()[:-4])
    with pytest.raises(ArtifactsError, match=FROZEN_DATA):
        Session(tmp_path / "large")


def test_what_trains_and_is_too_large_itself_is_refused_with_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tgdonnx.mask(
        models.save(models.dncnn(3), tmp_path / "vendor.onnx"), tmp_path / "masked.onnx", tgdonnx.AllLayers()
    )
    assert source.rho == 1
    lower_bounds(monkeypatch)
    with pytest.raises(ArtifactsError, match=r"what trains takes 0\.0 GiB; expected at most"):
        tgdonnx.build(
            tmp_path / "masked.onnx",
            tmp_path / "large",
            tgdonnx.BuildOptions(form="masked", engine="onnxruntime-training"),
        )
    assert not (tmp_path / "large").exists()
