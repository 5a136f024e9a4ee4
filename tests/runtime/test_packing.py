"""Large tensors go beside the message; the model stays as it is, and is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.sessions import open_session
from tgdonnx.errors import ModelFileError
from tgdonnx.runtime import load_onnxruntime
from tgdonnx.runtime.packing import pack, serialize

RNG = np.random.default_rng(5)
ARRAYS = {
    "half": RNG.normal(size=(3, 200, 101)).astype(np.float16),
    "double": RNG.normal(size=(90, 101)),
    "whole": RNG.integers(-9, 9, (90, 101)),
    "small": RNG.normal(size=(7,)).astype(np.float32),
}


def model_of(arrays: dict[str, np.ndarray]) -> onnx.ModelProto:
    nodes = [helper.make_node("Cast", [name], [f"{name}_out"], to=TensorProto.DOUBLE) for name in arrays]
    outputs = [helper.make_tensor_value_info(f"{name}_out", TensorProto.DOUBLE, None) for name in arrays]
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", [], outputs, tensors, doc_string="of the graph")
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 2)]
    return helper.make_model(graph, ir_version=9, opset_imports=opsets, producer_name="somebody")


def run(packed: object) -> list[np.ndarray]:
    runtime = load_onnxruntime()
    options = runtime.SessionOptions()
    values = [runtime.OrtValue.ortvalue_from_numpy(array) for array in packed.beside.values()]
    options.add_external_initializers(list(packed.beside), values)
    return open_session(serialize(packed.model), options).run(None, {})


def test_a_small_model_is_not_even_copied() -> None:
    model = model_of(ARRAYS)
    packed = pack(model, None)
    assert packed.model is model
    assert not packed.beside


@pytest.mark.parametrize("external", [False, True])
def test_large_tensors_go_beside_and_the_runtime_sees_the_same_model(external: bool, tmp_path: Path) -> None:
    model = model_of(ARRAYS)
    if external:
        onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="d", size_threshold=0)
        model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    before = model.SerializeToString()
    packed = pack(model, tmp_path, most=1000)
    assert sorted(packed.beside) == ["double", "half", "whole"]
    assert len(serialize(packed.model)) < 1000
    for name, array in packed.beside.items():
        assert array.dtype == ARRAYS[name].dtype
        assert (array == ARRAYS[name]).all()
    for found, array in zip(run(packed), ARRAYS.values()):
        assert (found == array).all()
    assert model.SerializeToString() == before
    assert (packed.model.producer_name, packed.model.graph.doc_string) == ("somebody", "of the graph")
    assert [entry.version for entry in packed.model.opset_import] == [18, 2]


def test_data_at_an_odd_place_is_aligned_for_the_kernels(tmp_path: Path) -> None:
    values = RNG.normal(size=(190, 101)).astype(np.float32)
    (tmp_path / "d").write_bytes(b"odd" + values.tobytes())
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=values.shape, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="d")
    tensor.external_data.add(key="offset", value="3")
    model = model_of({"w": values})
    model.graph.initializer[0].CopyFrom(tensor)  # no length is said
    packed = pack(model, tmp_path)
    assert packed.beside["w"].ctypes.data % 4 == 0
    assert (run(packed)[0] == values).all()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "d", "offset": "-8"}, "has the offset '-8'; expected a number of bytes"),
        ({"location": "d", "length": "17"}, r"takes 36,360 bytes, and is said to be 17 at 0 of .*d, which has 36,361"),
        (
            {"location": "d", "offset": "2"},
            r"takes 36,360 bytes, and is said to be 36,360 at 2 of .*d, which has 36,361",
        ),
        ({"location": "d", "offset": "9" * 19}, r"is said to be 36,360 at 9,999,.*which has 36,361; get the files"),
        ({"location": "nowhere"}, "external data of 'w' cannot be read"),
        ({"offset": "0"}, "has no location"),
    ],
)
def test_external_data_that_is_described_badly_is_refused(
    entries: dict[str, str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "d").write_bytes(bytes(36361))
    model = model_of({"w": np.zeros((90, 101), np.float32)})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    for small in (False, True):
        if small:  # then it is read rather than mapped
            model.graph.initializer.append(tensor)
            model.graph.initializer[1].data_type = TensorProto.BFLOAT16
            model.graph.initializer[1].dims[1] *= 2
            del model.graph.initializer[0]
        with pytest.raises(ModelFileError, match=message):
            pack(model, tmp_path)
