"""The recipe of the guide, which knows the manifest and nothing of ours, writes what `tgdonnx.export` writes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import tgdonnx
from tests.oracles.protobuf import field
from tests.support import models
from tests.support.models import Array
from tests.support.quantized_models import Kind, quantized
from tests.support.sessions import open_session
from tgdonnx.artifacts import read_manifest

GUIDE = (Path(__file__).parents[2] / "tgdonnx" / "guides" / "formats.md").read_text("utf-8")
(RECIPE,) = re.findall(r"<!-- recipe -->\n```python\n(.*?)```\n<!-- /recipe -->", GUIDE, re.DOTALL)
FORMS = ("masked", "thin")


def by_recipe(vendor: Path, artifacts: Path, tuned: Path) -> None:
    """Exports in a process that has the standard library and numpy."""
    ending = f"\nexport(Path({str(vendor)!r}), Path({str(artifacts)!r}), Path({str(tuned)!r}))\n"
    check = "import sys\nassert not {'tgdonnx', 'onnx', 'safetensors'} & {name.split('.')[0] for name in sys.modules}\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", RECIPE + ending + check], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def data_for(model: onnx.ModelProto) -> dict[str, Array]:
    """Random inputs, six samples where the model leaves them open, and a target that is not what the model gives."""
    feeds = models.random_feeds(model)
    (output, *_) = open_session(model.SerializeToString()).run(None, feeds)
    noise = np.random.default_rng(1).normal(size=output.shape)
    return {**feeds, "target": (output + noise).astype(np.float32)}


def trained(vendor: Path, strategy: tgdonnx.Strategy, form: Any, data: dict[str, Array], **masking: Any) -> Path:
    """Returns artifacts beside the vendor's file, trained for two steps."""
    room = vendor.parent
    tgdonnx.mask(vendor, room / "masked.onnx", strategy, tgdonnx.MaskOptions(**masking))
    tgdonnx.build(room / "masked.onnx", room / "artifacts", tgdonnx.BuildOptions(engine="onnxruntime", form=form))
    run = tgdonnx.TrainOptions(steps=2, batch=len(data["target"]), learning_rate=1e-2)
    tgdonnx.train(room / "artifacts", data, run)
    return room / "artifacts"


def assert_same_but_for_the_record(exported: bytes, found: bytes, vendor: bytes) -> None:
    assert len(found) == len(vendor)
    assert found != vendor
    assert exported[: len(found)] == found
    record = onnx.ModelProto.FromString(exported[len(found) :])
    assert [entry.key for entry in record.metadata_props] == ["tgdonnx.provenance.1"]
    record.ClearField("metadata_props")
    assert record == onnx.ModelProto()


NETS = {
    "dncnn": models.dncnn,
    "constant nodes": models.constant_nodes,
    "residual": models.residual,
    "one dimension": models.one_d,
    "shared": models.shared_through_identity,
}


@pytest.mark.parametrize("mode", ["paper", "readers"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("net", NETS)
def test_the_recipe_writes_the_bytes_of_export(net: str, form: str, mode: str, tmp_path: Path) -> None:
    model = NETS[net](0)
    vendor = models.save(model, tmp_path / "vendor.onnx")
    artifacts = trained(vendor, tgdonnx.Percentile(50), form, data_for(model), mode=mode)
    assert {tensor.write_back.how for tensor in read_manifest(artifacts).trained} == {"copied"}
    by_recipe(vendor, artifacts, tmp_path / "found.onnx")
    tgdonnx.export(artifacts, tmp_path / "exported.onnx")
    exported, found = ((tmp_path / name).read_bytes() for name in ("exported.onnx", "found.onnx"))
    assert_same_but_for_the_record(exported, found, vendor.read_bytes())
    assert tgdonnx.verify(vendor, tmp_path / "found.onnx", masked=tmp_path / "masked.onnx").ok


def stored_as(model: onnx.ModelProto, kind: int) -> onnx.ModelProto:
    """Returns a model with its weights of layers in another type, and a Cast behind each."""
    casts = []
    for tensor in model.graph.initializer:
        if len(tensor.dims) > 1:
            values = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(kind))
            name, stored = tensor.name, f"{tensor.name}.stored"
            tensor.CopyFrom(helper.make_tensor(stored, kind, values.shape, values.tobytes(), raw=True))
            casts.append(helper.make_node("Cast", [stored], [name], f"{name}.cast", to=onnx.TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    return model


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16", "DOUBLE"])
def test_other_floating_point_numbers_are_rounded(kind: str, form: str, tmp_path: Path) -> None:
    model = stored_as(models.chain(0), onnx.TensorProto.DataType.Value(kind))
    vendor = models.save(model, tmp_path / "vendor.onnx")
    artifacts = trained(vendor, tgdonnx.Filters({"w2.stored": [1], "w1.stored": [0, 2]}), form, data_for(model))
    backs = [t.write_back for t in read_manifest(artifacts).trained if t.dtype == kind]
    assert len(backs) == 2
    if kind == "DOUBLE" and form == "masked":
        reason = "frozen numbers of float64 have more digits than the parameter"
        assert {(back.how, back.why) for back in backs} == {("export", reason)}
        return
    assert {back.how for back in backs} == {"rounded"}
    by_recipe(vendor, artifacts, tmp_path / "found.onnx")
    tgdonnx.export(artifacts, tmp_path / "exported.onnx")
    exported, found = ((tmp_path / name).read_bytes() for name in ("exported.onnx", "found.onnx"))
    assert_same_but_for_the_record(exported, found, vendor.read_bytes())


@pytest.mark.parametrize("form", FORMS)
def test_external_data_is_overwritten_in_the_file_that_the_vendor_names(form: str, tmp_path: Path) -> None:
    model = models.dncnn(0)
    (tmp_path / "vendor").mkdir()
    (tmp_path / "found").mkdir()
    vendor = tmp_path / "vendor" / "vendor.onnx"
    data = data_for(model)
    onnx.save(model, vendor, save_as_external_data=True, location="weights.bin", size_threshold=256)
    artifacts = trained(vendor, tgdonnx.Percentile(50), form, data)
    places = {tensor.write_back.stored for tensor in read_manifest(artifacts).trained}
    assert {place.location for place in places if place is not None} == {None, "weights.bin"}
    by_recipe(vendor, artifacts, tmp_path / "found" / "found.onnx")
    tgdonnx.export(artifacts, tmp_path / "exported.onnx")
    exported, found, before = map(onnx.load, (tmp_path / "exported.onnx", tmp_path / "found" / "found.onnx", vendor))
    del exported.metadata_props[:]
    assert found == exported
    assert found != before
    sizes = [path.stat().st_size for path in (tmp_path / "found" / "weights.bin", vendor.parent / "weights.bin")]
    assert sizes[0] == sizes[1]


def in_float_data(model: onnx.ModelProto, *, packed: bool) -> bytes:
    """Returns a model with its weights in ``float_data``, together or each number in a field of its own."""
    graph, rest = onnx.GraphProto(), onnx.ModelProto()
    graph.CopyFrom(model.graph)
    del graph.initializer[:]
    body = graph.SerializeToString()
    for each in model.graph.initializer:
        numbers = numpy_helper.to_array(each).astype("<f4").ravel()
        tensor = onnx.TensorProto(name=each.name, dims=each.dims, data_type=onnx.TensorProto.FLOAT)
        stored = field(4, numbers.tobytes()) if packed else b"".join(b"\x25" + number.tobytes() for number in numbers)
        body += field(5, tensor.SerializeToString() + stored)
    rest.CopyFrom(model)
    rest.ClearField("graph")
    return rest.SerializeToString() + field(7, body)


@pytest.mark.parametrize("packed", [True, False])
def test_numbers_in_fields_of_their_own_are_left_to_export_and_packed_ones_are_not(
    packed: bool, tmp_path: Path
) -> None:
    model, vendor = models.chain(0), tmp_path / "vendor.onnx"
    vendor.write_bytes(in_float_data(model, packed=packed))
    artifacts = trained(vendor, tgdonnx.Filters({"w2": [1]}), "thin", data_for(model))
    (weight,) = (tensor for tensor in read_manifest(artifacts).trained if tensor.vendor_name == "w2")
    if not packed:
        assert weight.write_back.how == "export"
        assert weight.write_back.why == f"the elements lie in {np.prod(weight.shape)} pieces"
        return
    by_recipe(vendor, artifacts, tmp_path / "found.onnx")
    tgdonnx.export(artifacts, tmp_path / "exported.onnx")
    exported, found = ((tmp_path / name).read_bytes() for name in ("exported.onnx", "found.onnx"))
    assert_same_but_for_the_record(exported, found, vendor.read_bytes())


@pytest.mark.parametrize("form", FORMS)
def test_integers_are_left_to_export(form: str, tmp_path: Path) -> None:
    model = quantized(Kind(np.uint8, np.int8, per_channel=True, zero_points=True, biases="int32", transposed=False))
    vendor = models.save(model, tmp_path / "vendor.onnx")
    tgdonnx.mask(vendor, tmp_path / "masked.onnx", tgdonnx.AllLayers())
    tgdonnx.build(
        tmp_path / "masked.onnx", tmp_path / "artifacts", tgdonnx.BuildOptions(engine="onnxruntime", form=form)
    )
    backs = [tensor.write_back for tensor in read_manifest(tmp_path / "artifacts").trained]
    assert {(back.how, back.why) for back in backs} == {
        ("export", "integers take the scale and zero point of their DequantizeLinear")
    }
    assert all(back.stored is not None for back in backs)


def test_mode_regrow_is_left_to_export(tmp_path: Path) -> None:
    vendor = models.save(models.dncnn(0), tmp_path / "vendor.onnx")
    options = tgdonnx.MaskOptions(mode="regrow", reinitialization=tgdonnx.Reinitialization(tolerance=1e9))
    tgdonnx.mask(vendor, tmp_path / "masked.onnx", tgdonnx.Phi(0.3), options)
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts", tgdonnx.BuildOptions(engine="onnxruntime"))
    backs = [tensor.write_back for tensor in read_manifest(tmp_path / "artifacts").trained]
    assert {(back.how, back.why) for back in backs} == {("export", "mode regrow sets numbers besides those that train")}
