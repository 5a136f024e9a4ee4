"""Tuned files with side paths: what is in them, both ends of the blend, rounds, and every way of storing weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.adapting.networks import EVERYWHERE, NETWORKS, NORMED, adapter, input_of, tuned
from tests.blending.runs import invented, record_in, tensors_in
from tests.support.sessions import open_session
from tgdonnx.masked_model import read_masked


def without_record(path: Path, number: int = 1) -> bytes:
    key = f"tgdonnx.provenance.{number}"
    model, data = onnx.load(path, load_external_data=False), path.read_bytes()
    (entry,) = [each for each in model.metadata_props if each.key == key]
    tail = onnx.ModelProto(metadata_props=[entry]).SerializeToString()
    assert data.endswith(tail)
    return data[: -len(tail)]


@pytest.mark.parametrize("name", ["conv", NORMED, "groups", "matrices", "shared"])
def test_nothing_of_the_vendors_changes_and_that_is_recomputed(name: str, tmp_path: Path) -> None:
    artifacts = tuned(NETWORKS[name], tmp_path)
    report = tgdonnx.export(artifacts, tmp_path / "tuned.onnx")
    vendor, found = tensors_in(tmp_path / "model.onnx"), tensors_in(tmp_path / "tuned.onnx")
    assert all(found[key].tobytes() == array.tobytes() for key, array in vendor.items())
    for masked in (None, tmp_path / "masked.onnx"):
        proof = tgdonnx.verify(tmp_path / "model.onnx", tmp_path / "tuned.onnx", masked)
        assert (proof.ok, proof.violations, proof.proof) == (True, (), "recomputed")
        assert {entry.name for entry in proof.changed} == {entry.name for entry in report.changed}
        assert all(entry.name.startswith("tgdonnx.adapter.1.") for entry in proof.changed)


def test_at_blend_0_the_file_is_the_vendors_byte_for_byte_but_for_its_record(tmp_path: Path) -> None:
    artifacts = tuned(NETWORKS["conv"], tmp_path)
    for merge in (False, True):
        tgdonnx.export(artifacts, tmp_path / "tuned.onnx", blend=0, merge=merge, overwrite=True)
        assert without_record(tmp_path / "tuned.onnx") == (tmp_path / "model.onnx").read_bytes()
        record = record_in(tmp_path / "tuned.onnx")
        assert (record["blend"], record["trained"], record.get("merged")) == (0, {}, None)
        for masked in (None, tmp_path / "masked.onnx"):
            proof = tgdonnx.verify(tmp_path / "model.onnx", tmp_path / "tuned.onnx", masked)
            assert (proof.ok, proof.violations, proof.changed) == (True, (), ())


@pytest.mark.parametrize("blend", [0.25, 0.7])
def test_between_only_the_second_weight_of_every_path_is_scaled(blend: float, tmp_path: Path) -> None:
    artifacts = tuned(NETWORKS["groups"], tmp_path)
    for name, at in (("whole", 1.0), ("part", blend)):
        tgdonnx.export(artifacts, tmp_path / f"{name}.onnx", blend=at)
    whole, part = (tensors_in(tmp_path / f"{name}.onnx") for name in ("whole", "part"))
    for name, values in whole.items():
        expected = (values.astype(np.float64) * blend).astype(np.float32) if name.endswith(".up") else values
        assert part[name].tobytes() == expected.tobytes(), name
    assert tgdonnx.verify(tmp_path / "model.onnx", tmp_path / "part.onnx").ok


def test_outputs_go_with_the_sum_of_both(tmp_path: Path) -> None:
    """One layer, so the output is linear in the blend."""
    artifacts = tuned(NETWORKS["volumes"], tmp_path)
    found = {}
    for blend in (0.0, 0.5, 1.0):
        tgdonnx.export(artifacts, tmp_path / "t.onnx", blend=blend, overwrite=True)
        found[blend] = open_session(tmp_path / "t.onnx").run(None, {"x": input_of("volumes")})[0]
    assert np.abs(found[0.5] - (found[0.0] + found[1.0]) / 2).max() <= 1e-6 * np.abs(found[1.0]).max()
    assert np.abs(found[1.0] - found[0.0]).max() > 0.01


def test_external_data_stays_the_vendors_in_a_file_of_its_own(tmp_path: Path) -> None:
    vendor = tmp_path / "vendor" / "model.onnx"
    vendor.parent.mkdir()
    model = onnx.ModelProto()
    model.CopyFrom(NETWORKS["conv"])
    onnx.save(model, vendor, save_as_external_data=True, location="w.bin", size_threshold=0)
    artifacts = invented(vendor, tmp_path / "run", EVERYWHERE, adapter())
    x = input_of("conv")
    found = {}
    for name, options in {"paths": {}, "merged": {"merge": True}, "zero": {"blend": 0}}.items():
        (tmp_path / name).mkdir()
        output = tmp_path / name / "t.onnx"
        tgdonnx.export(artifacts, output, **options)  # type: ignore[arg-type]
        for masked in (None, tmp_path / "run" / "masked.onnx"):
            proof = tgdonnx.verify(vendor, output, masked)
            assert (proof.ok, proof.violations) == (True, ())
        found[name] = open_session(output).run(None, {"x": x})[0]
    assert np.abs(found["paths"] - found["merged"]).max() <= 1e-5 * np.abs(found["paths"]).max()
    assert found["zero"].tobytes() == open_session(vendor).run(None, {"x": x})[0].tobytes()


def test_float16_networks_have_side_paths_in_float16(tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(NETWORKS["conv"])
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    artifacts = tuned(model, tmp_path)
    tgdonnx.export(artifacts, tmp_path / "tuned.onnx")
    tgdonnx.export(artifacts, tmp_path / "merged.onnx", merge=True)
    assert {array.dtype for array in tensors_in(tmp_path / "tuned.onnx").values()} == {np.dtype(np.float16)}
    for name in ("tuned", "merged"):
        assert tgdonnx.verify(tmp_path / "model.onnx", tmp_path / f"{name}.onnx").ok
    x = input_of("conv").astype(np.float16)
    with_paths, merged = (open_session(tmp_path / f"{n}.onnx").run(None, {"x": x})[0] for n in ("tuned", "merged"))
    assert np.abs(with_paths - merged).max() <= 0.01 * np.abs(with_paths).max()


@pytest.mark.parametrize("second", ["adapter", "paper"])
def test_a_second_round_is_proved_with_the_first(second: Any, tmp_path: Path) -> None:
    first = tuned(NETWORKS["conv"], tmp_path)
    tgdonnx.export(first, tmp_path / "one.onnx")
    masking = adapter(1) if second == "adapter" else tgdonnx.MaskOptions(second)
    again = invented(tmp_path / "one.onnx", tmp_path / "again", EVERYWHERE, masking, seed=1)
    tgdonnx.export(again, tmp_path / "two.onnx")
    proof = tgdonnx.verify(tmp_path / "model.onnx", tmp_path / "two.onnx")
    assert (proof.ok, proof.violations, len(proof.rounds)) == (True, (), 2)
    assert tgdonnx.verify(tmp_path / "one.onnx", tmp_path / "two.onnx").ok
    added = {name for name in tensors_in(tmp_path / "two.onnx") if name.startswith("tgdonnx.adapter.")}
    assert {name.split(".")[2] for name in added} == ({"1", "2"} if second == "adapter" else {"1"})


@pytest.mark.parametrize("strategy", [tgdonnx.LastLayers(1), tgdonnx.FirstLayers(2)])
def test_a_second_round_at_an_end_has_side_paths_beside_the_same_layers(
    strategy: tgdonnx.Strategy, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    tgdonnx.export(invented(NETWORKS["groups"], tmp_path / "1", strategy, adapter(2)), first)
    tgdonnx.export(invented(first, tmp_path / "2", strategy, adapter(2)), second)
    proof = tgdonnx.verify(tmp_path / "1" / "model.onnx", second)
    assert (proof.ok, proof.violations) == (True, ())
    beside = [{name.partition(f"adapter.{n}.")[2] for name in proof.added if f"adapter.{n}." in name} for n in (1, 2)]
    assert beside[0] == beside[1] != set()


def test_side_paths_after_another_round_leave_what_that_trained(tmp_path: Path) -> None:
    first = invented(NETWORKS["conv"], tmp_path, EVERYWHERE)
    tgdonnx.export(first, tmp_path / "one.onnx")
    masking = tgdonnx.MaskOptions("adapter", protect=True)
    tgdonnx.export(invented(tmp_path / "one.onnx", tmp_path / "again", EVERYWHERE, masking), tmp_path / "two.onnx")
    one, two = tensors_in(tmp_path / "one.onnx"), tensors_in(tmp_path / "two.onnx")
    assert all(two[name].tobytes() == array.tobytes() for name, array in one.items())
    assert tgdonnx.verify(tmp_path / "model.onnx", tmp_path / "two.onnx").ok


def test_the_manifest_says_that_only_export_writes_side_paths(tmp_path: Path) -> None:
    manifest = json.loads((tuned(NETWORKS["conv"], tmp_path) / "manifest.json").read_text("utf-8"))
    assert {tensor["write_back"]["how"] for tensor in manifest["trained"]} == {"export"}
    assert "side path" in manifest["trained"][0]["write_back"]["why"]


def test_artifacts_hold_the_vendors_file(tmp_path: Path) -> None:
    artifacts = tuned(NETWORKS["conv"], tmp_path)
    assert read_masked(artifacts / "masked.onnx").base.data == (tmp_path / "model.onnx").read_bytes()
