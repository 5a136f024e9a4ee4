"""What export writes: the retrained filters, and not one byte besides."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.oracles.independent import all_options, assert_only_changed, expected_masks, places, tensors_of
from tests.oracles.protobuf import field
from tests.support import models
from tests.support.checkpoints import BEST, CHECKPOINT
from tests.support.sessions import open_session
from tests.support.trainer import open_trainer, relative_error
from tests.support.training_models import text_model
from tests.support.tuning import NETWORKS, PHI, data_for, options_for, trained
from tgdonnx.engines.onnxruntime.state import read_state, write_state
from tgdonnx.errors import ArtifactsError, MaskedModelError, OutputError
from tgdonnx.finetuning.session import read_parameters


@pytest.mark.parametrize("network", ["with batch norm", "without batch norm"])
@pytest.mark.parametrize(("mode", "gradient", "optimizer", "l2", "clip_norm"), all_options())
def test_the_changed_rows_are_exactly_those_of_an_independent_kse_and_tracing(
    network: str, mode: str, gradient: str, optimizer: str, l2: float, clip_norm: Optional[float], tmp_path: Path
) -> None:
    model = NETWORKS[network](0)
    expected = expected_masks(model, PHI, mode)
    assert all(0 < mask.mean() < 1 for mask in expected.values()), "some rows train and some do not"
    options = {"gradient": gradient, "optimizer": optimizer, "l2": l2, "clip_norm": clip_norm}
    directory = trained(model, tmp_path, mode=mode, cut=clip_norm is not None, **options)
    report = tgdonnx.export(directory, tmp_path / "tuned.onnx")
    base, tuned = ((tmp_path / name).read_bytes() for name in ("model.onnx", "tuned.onnx"))
    assert_only_changed(model, base, tuned, expected)
    reported = {entry.name: entry.filters for entry in report.changed}
    assert reported == {
        name: tuple(int(m) for m in np.flatnonzero(mask.reshape(len(mask), -1).any(axis=1)))
        for name, mask in expected.items()
    }
    assert tgdonnx.verify(tmp_path / "model.onnx", tmp_path / "tuned.onnx").ok
    assert tgdonnx.verify(tmp_path / "model.onnx", tmp_path / "tuned.onnx", masked=tmp_path / "masked.onnx").ok


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("seed", range(3))
def test_on_other_networks_and_weights_too(network: str, seed: int, tmp_path: Path) -> None:
    model = NETWORKS[network](seed)
    directory = trained(model, tmp_path)
    tgdonnx.export(directory, tmp_path / "tuned.onnx")
    base, tuned = ((tmp_path / name).read_bytes() for name in ("model.onnx", "tuned.onnx"))
    assert_only_changed(model, base, tuned, expected_masks(model, PHI))


@pytest.mark.parametrize("mode", ["paper", "readers"])
def test_the_tuned_file_holds_the_trained_values_and_computes_what_training_evaluated(
    mode: str, tmp_path: Path
) -> None:
    model = models.dncnn(0)
    directory = trained(model, tmp_path, mode=mode)
    tgdonnx.export(directory, tmp_path / "tuned.onnx")
    tuned = onnx.load(tmp_path / "tuned.onnx")
    onnx.checker.check_model(tuned, full_check=True)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in tuned.graph.initializer}
    for name, parameter in read_parameters(directory, CHECKPOINT).items():
        assert values[name].tobytes() == parameter.tobytes(), name
    data = data_for(model)
    session = open_session(tmp_path / "tuned.onnx")
    _, evaluated = open_trainer(directory).evaluate(data["x"], data["target"])
    assert relative_error(session.run(None, {"x": data["x"]})[0], evaluated) < 1e-6
    before = open_session(model).run(None, {"x": data["x"]})[0]
    assert relative_error(evaluated, before) > 1e-4, "training did something"


def test_the_record_says_where_the_file_comes_from_and_what_was_done(tmp_path: Path) -> None:
    directory = trained(models.dncnn(0), tmp_path, mode="readers", l2=0.01)
    tgdonnx.export(directory, tmp_path / "tuned.onnx")
    entries = {entry.key: entry.value for entry in onnx.load(tmp_path / "tuned.onnx").metadata_props}
    assert list(entries) == ["tgdonnx.provenance.1"]
    record = json.loads(entries["tgdonnx.provenance.1"])
    manifest = json.loads((directory / "manifest.json").read_text())
    assert record["base_sha256"] == manifest["base_sha256"]
    assert record["selection"] == manifest["selection"]
    assert record["options"] == manifest["options"]
    assert record["checkpoint"] == CHECKPOINT
    assert record["trained"] == {
        entry["vendor_name"]: {"retrain": entry["retrain"], "kernels": entry["kernels"]}
        for entry in manifest["trained"]
    }


def test_the_best_checkpoint_is_exported_unless_another_is_named(tmp_path: Path) -> None:
    model = models.dncnn(0)
    base = models.save(model, tmp_path / "model.onnx")
    tgdonnx.mask(base, tmp_path / "masked.onnx", tgdonnx.Phi(PHI))
    directory = tmp_path / "artifacts"
    tgdonnx.build(tmp_path / "masked.onnx", directory)
    data = data_for(model)
    # Validation targets are what the vendor's model gives: the start is the best.
    vendor = open_session(model).run(None, {"x": data["x"]})[0]
    tgdonnx.train(directory, tgdonnx.RunData(data, validation={"x": data["x"], "target": vendor}), options_for())
    best = tgdonnx.export(directory, tmp_path / "best.onnx")
    assert (best.checkpoint, best.changed) == (BEST, ())
    last = tgdonnx.export(directory, tmp_path / "last.onnx", checkpoint=CHECKPOINT)
    assert last.checkpoint == CHECKPOINT
    assert_only_changed(model, base.read_bytes(), (tmp_path / "last.onnx").read_bytes(), expected_masks(model, PHI))
    assert tgdonnx.verify(base, tmp_path / "best.onnx").ok
    assert tgdonnx.verify(base, tmp_path / "best.onnx").changed == ()


# Where weights may lie.


def test_external_data_is_written_beside_the_tuned_file_and_the_vendors_is_left_alone(tmp_path: Path) -> None:
    model = models.dncnn(0)
    vendor, tuned = tmp_path / "vendor", tmp_path / "tuned"
    vendor.mkdir()
    tuned.mkdir()
    external = onnx.ModelProto()
    external.CopyFrom(model)
    onnx.save(external, vendor / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    before = {path.name: path.read_bytes() for path in vendor.iterdir()}
    tgdonnx.mask(vendor / "model.onnx", tmp_path / "masked.onnx", tgdonnx.Phi(PHI))
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts")
    tgdonnx.train(tmp_path / "artifacts", data_for(model), options_for())
    tgdonnx.export(tmp_path / "artifacts", tuned / "model.onnx")
    assert {path.name: path.read_bytes() for path in vendor.iterdir()} == before
    assert sorted(path.name for path in tuned.iterdir()) == ["model.onnx", "model.onnx.data"]
    # Of the model file nothing differs but the name of the other one.
    back = onnx.load(tuned / "model.onnx", load_external_data=False)
    del back.metadata_props[:]
    for tensor in back.graph.initializer:
        (location,) = [entry for entry in tensor.external_data if entry.key == "location"]
        assert location.value == "model.onnx.data"
        location.value = "w.bin"
    assert back.SerializeToString() == before["model.onnx"]
    # The same comparison of bytes, in the file that has them.
    new, changed = (tuned / "model.onnx.data").read_bytes(), {}
    assert len(new) == len(before["w.bin"])
    differs = np.frombuffer(new, np.uint8) != np.frombuffer(before["w.bin"], np.uint8)
    for name, start in places(model, before["w.bin"]).items():
        shape = tuple(tensors_of(model)[name].dims)
        end = start + 4 * int(np.prod(shape))
        elements = differs[start:end].reshape(-1, 4).any(axis=1).reshape(shape)
        differs[start:end] = False
        if elements.any():
            changed[name] = elements
    assert not differs.any()
    expected = expected_masks(model, PHI)
    assert changed.keys() == expected.keys()
    for name, mask in expected.items():
        assert np.array_equal(changed[name].reshape(len(mask), -1).any(axis=1), mask.reshape(len(mask), -1).any(axis=1))
        assert not (changed[name] & ~mask).any()
    report = tgdonnx.verify(vendor / "model.onnx", tuned / "model.onnx")
    assert report.ok
    assert {entry.name for entry in report.changed} == expected.keys()


def trained_artifacts(vendor: Path, work: Path, strategy: Optional[tgdonnx.Strategy] = None) -> Path:
    """A run of one epoch on a model, in ``work``."""
    work.mkdir()
    tgdonnx.mask(vendor, work / "masked.onnx", strategy or tgdonnx.Phi(PHI))
    tgdonnx.build(work / "masked.onnx", work / "artifacts")
    tgdonnx.train(work / "artifacts", data_for(models.dncnn(0)), options_for())
    return work / "artifacts"


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@pytest.mark.parametrize("location", ["w.bin", "tuned.onnx.data", "tuned.onnx"])
def test_beside_the_vendors_model_nothing_of_his_is_written_whatever_it_is_called(
    location: str, tmp_path: Path
) -> None:
    vendor = tmp_path / "vendor"
    vendor.mkdir()
    onnx.save(models.dncnn(0), vendor / "m.onnx", save_as_external_data=True, location=location, size_threshold=0)
    before = contents(vendor)
    artifacts = trained_artifacts(vendor / "m.onnx", tmp_path / "work")
    for overwrite in (False, True):
        if location == "w.bin":
            tgdonnx.export(artifacts, vendor / "tuned.onnx", overwrite=overwrite)
            assert tgdonnx.verify(vendor / "m.onnx", vendor / "tuned.onnx").ok
            assert contents(vendor).keys() == {*before, "tuned.onnx", "tuned.onnx.data"}
        else:
            with pytest.raises(OutputError, match=f"{re.escape(location)} exists|m.onnx keeps weights"):
                tgdonnx.export(artifacts, vendor / "tuned.onnx", overwrite=overwrite)
            assert contents(vendor).keys() == before.keys()
        assert {name: contents(vendor)[name] for name in before} == before


def test_two_tuned_models_in_one_directory_have_data_of_their_own(tmp_path: Path) -> None:
    onnx.save(models.dncnn(0), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    artifacts = trained_artifacts(tmp_path / "m.onnx", tmp_path / "work")
    (tmp_path / "both").mkdir()
    tgdonnx.export(artifacts, tmp_path / "both" / "one.onnx")
    first = contents(tmp_path / "both")
    other = trained_artifacts(tmp_path / "m.onnx", tmp_path / "other", tgdonnx.AllLayers())
    tgdonnx.export(other, tmp_path / "both" / "two.onnx", overwrite=True)
    both = contents(tmp_path / "both")
    assert {name: both[name] for name in first} == first
    assert both["two.onnx.data"] != both["one.onnx.data"]


@pytest.mark.parametrize("packed", [True, False])
def test_weights_in_float_data_are_overwritten_where_they_lie(packed: bool, tmp_path: Path) -> None:
    model = models.chain(0)
    raw = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    del graph.initializer[:]
    body = graph.SerializeToString()
    for name, values in raw.items():
        tensor = onnx.TensorProto(name=name, dims=values.shape, data_type=onnx.TensorProto.FLOAT)
        numbers = values.astype("<f4").ravel()
        stored = field(4, numbers.tobytes()) if packed else b"".join(b"\x25" + number.tobytes() for number in numbers)
        body += field(5, tensor.SerializeToString() + stored)
    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    rest.ClearField("graph")
    base = rest.SerializeToString() + field(7, body)
    parsed = onnx.ModelProto.FromString(base)
    assert all(len(tensor.float_data) == raw[tensor.name].size for tensor in parsed.graph.initializer)
    (tmp_path / "model.onnx").write_bytes(base)
    report = tgdonnx.finetune(
        tmp_path / "model.onnx", data_for(model), tmp_path / "tuned.onnx", tgdonnx.Phi(PHI), options_for()
    )
    assert report.verify.ok
    tuned = (tmp_path / "tuned.onnx").read_bytes()
    assert len(tuned[: len(base)]) == len(base)
    expected = expected_masks(model, PHI)
    after = {
        t.name: np.array(t.float_data, np.float32).reshape(t.dims)
        for t in onnx.ModelProto.FromString(tuned).graph.initializer
    }
    allowed = np.zeros(len(base), bool)
    for name, values in raw.items():
        mask = expected.get(name, np.zeros(values.shape, bool))
        assert np.array_equal(after[name][~mask], values[~mask]), name
        assert np.array_equal(
            (after[name] != values).reshape(len(values), -1).any(axis=1), mask.reshape(len(mask), -1).any(axis=1)
        ), name
        # Where each number lies: its bytes, or those of the whole tensor, occur once.
        stored = values.astype("<f4").ravel().tobytes()
        if not packed:
            stored = b"".join(b"\x25" + stored[i : i + 4] for i in range(0, len(stored), 4))
        assert base.count(stored) == 1
        step, skip = (4, 0) if packed else (5, 1)
        for index in np.flatnonzero(mask.ravel()):
            start = base.index(stored) + step * int(index) + skip
            allowed[start : start + 4] = True
    differs = np.frombuffer(base, np.uint8) != np.frombuffer(tuned[: len(base)], np.uint8)
    assert not (differs & ~allowed).any()


# What is refused.


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(models.dncnn(0), tmp_path_factory.mktemp("ready"))


@pytest.fixture
def artifacts(ready: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ready, tmp_path / "artifacts"))


def tampered(directory: Path, name: str, index: tuple[int, ...], value: float) -> None:
    """Changes one number of the checkpoint."""
    state = read_state(directory / CHECKPOINT)
    values = {each: array.copy() for each, array in state.tensors.items()}
    values[name][index] = value
    write_state(directory / CHECKPOINT, replace(state, tensors=values))


def refuse(directory: Path, message: str, error: type[Exception] = ArtifactsError, **options: Any) -> None:
    output = directory.parent / "tuned.onnx"
    before = sorted(path.name for path in directory.parent.iterdir())
    with pytest.raises(error, match=message) as caught:
        tgdonnx.export(directory, output, **options)
    assert len(str(caught.value).splitlines()) <= 2
    assert sorted(path.name for path in directory.parent.iterdir()) == before


def test_a_checkpoint_that_moved_a_frozen_filter_by_one_bit_is_refused(artifacts: Path) -> None:
    mask = expected_masks(models.dncnn(0), PHI)["w2"]
    frozen = tuple(int(i) for i in np.argwhere(~mask)[-1])
    value = read_parameters(artifacts, CHECKPOINT)["w2"][frozen]
    tampered(artifacts, "w2", frozen, float(np.nextafter(value, np.float32(9))))
    refuse(artifacts, "moved frozen values of 'w2'")


def test_a_checkpoint_that_moved_a_frozen_bias_is_refused(artifacts: Path) -> None:
    frozen = int(np.flatnonzero(~expected_masks(models.dncnn(0), PHI)["bn2_offset"])[0])
    tampered(artifacts, "bn2_offset", (frozen,), 7.0)
    refuse(artifacts, "moved frozen values of 'bn2_offset'")


def test_a_checkpoint_that_changed_only_what_trains_is_taken(artifacts: Path, tmp_path: Path) -> None:
    trains = tuple(int(i) for i in np.argwhere(expected_masks(models.dncnn(0), PHI)["w2"])[0])
    tampered(artifacts, "w2", trains, 7.0)
    tgdonnx.export(artifacts, tmp_path / "tuned.onnx")
    assert numpy_helper.to_array(tensors_of(onnx.load(tmp_path / "tuned.onnx"))["w2"])[trains] == 7.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_checkpoint_with_a_number_that_is_not_finite_is_refused(value: float, artifacts: Path) -> None:
    trains = tuple(int(i) for i in np.argwhere(expected_masks(models.dncnn(0), PHI)["w2"])[0])
    tampered(artifacts, "w2", trains, value)
    refuse(artifacts, "NaN or infinity in 'w2'")


def test_a_checkpoint_that_is_not_there_is_named(artifacts: Path) -> None:
    refuse(artifacts, f"no checkpoint '{BEST}'", checkpoint=BEST)


def test_a_checkpoint_of_other_artifacts_is_refused(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = trained(models.chain(0), tmp_path / "other")
    shutil.copy(other / CHECKPOINT, artifacts / CHECKPOINT)
    refuse(artifacts, "moved frozen values|has no parameter|with shape")


def test_a_masked_model_of_another_file_is_refused(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = trained(models.dncnn(1), tmp_path / "other")
    shutil.copy(other / "masked.onnx", artifacts / "masked.onnx")
    refuse(artifacts, "masked model of another file")


def test_a_masked_model_that_was_touched_is_refused(artifacts: Path) -> None:
    data = bytearray((artifacts / "masked.onnx").read_bytes())
    raw = tensors_of(onnx.load_from_string(bytes(data)))["w1"].raw_data
    data[bytes(data).index(raw) + 2] ^= 1
    (artifacts / "masked.onnx").write_bytes(data)
    refuse(artifacts, "is not the file that was masked", MaskedModelError)


def test_an_output_that_exists_is_kept_unless_told_otherwise(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "tuned.onnx").write_text("mine")
    refuse(artifacts, "exists; pass `overwrite=True`", OutputError)
    assert (tmp_path / "tuned.onnx").read_text() == "mine"
    tgdonnx.export(artifacts, tmp_path / "tuned.onnx", overwrite=True)
    assert tgdonnx.verify(artifacts.parent / "tuned.onnx", tmp_path / "tuned.onnx").ok


def test_an_output_in_a_directory_that_does_not_exist_is_refused(artifacts: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere does not exist"):
        tgdonnx.export(artifacts, tmp_path / "nowhere" / "tuned.onnx")


def test_artifacts_that_were_not_trained_export_the_vendors_model(tmp_path: Path) -> None:
    model = text_model("g (float[N, 2, W] x) => (float[N, 3, w] y) { y = Conv(x, w) }", w=(3, 2, 1))
    base = models.save(model, tmp_path / "model.onnx")
    tgdonnx.mask(base, tmp_path / "masked.onnx", tgdonnx.AllLayers())
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts")
    assert tgdonnx.export(tmp_path / "artifacts", tmp_path / "tuned.onnx").changed == ()
    assert (tmp_path / "tuned.onnx").read_bytes().startswith(base.read_bytes())
