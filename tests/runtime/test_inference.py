"""One door to inference sessions: every file that means the same opens, and what goes wrong is a sentence."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from tests.support.models import save
from tgdonnx.errors import DataError, ModelFileError
from tgdonnx.files.model_file import load_model
from tgdonnx.runtime import open_inference

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(13)
X = RNG.normal(size=(2, 3, 5, 4)).astype(np.float32)
WEIGHT = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)


def conv_model(ir_version: int = 9, opset: int = 18) -> onnx.ModelProto:
    model = parser.parse_model(
        f"""<ir_version: {ir_version}, opset_import: ["": {opset}]>
        g (float[N,3,H,W] x) => (float[N,4,H,W] y) {{ a = Conv <pads = [1,1,1,1]> (x, w)  y = Relu(a) }}"""
    )
    model.graph.initializer.append(numpy_helper.from_array(WEIGHT, "w"))
    return model


def expected(model: onnx.ModelProto) -> np.ndarray:
    return ReferenceEvaluator(model).run(None, {"x": X})[0]


def test_only_this_room_opens_sessions_or_imports_the_runtime() -> None:
    opening = re.compile(r"InferenceSession\(|SessionOptions\(|import onnxruntime|from onnxruntime")
    found = {path for path in (ROOT / "tgdonnx").rglob("*.py") if opening.search(path.read_text("utf-8"))}
    assert found <= set((ROOT / "tgdonnx/runtime").glob("*.py"))


@pytest.mark.parametrize(("ir_version", "opset"), [(3, 7), (8, 13), (10, 21), (11, 22), (13, 24), (14, 26)])
def test_files_of_every_ir_version_and_opset_run_alike(ir_version: int, opset: int, tmp_path: Path) -> None:
    model = conv_model(ir_version, opset)
    if ir_version == 3:
        model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, WEIGHT.shape))
    file = load_model(save(model, tmp_path / "model.onnx"))
    before = file.proto.SerializeToString()
    for source in (file, model):
        opened = open_inference(source)
        assert [port.name for port in opened.inputs] == ["x"]
        assert (opened.inputs[0].dtype, opened.inputs[0].shape) == ("float32", (None, 3, None, None))
        (y,) = opened.run({"x": X})
        assert np.abs(y - expected(conv_model())).max() <= 1e-5
    assert file.proto.SerializeToString() == before


def test_a_function_of_a_newer_opset_is_lowered_with_the_graph() -> None:
    model = parser.parse_model(
        """<ir_version: 12, opset_import: ["": 23, "local": 1]>
        g (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = local.twice(x) }
        <opset_import: ["": 23], domain: "local"> twice (a) => (b) { b = Add(a, a) }"""
    )
    (y,) = open_inference(model).run({"x": X})
    assert (y == X + X).all()
    assert [entry.version for entry in model.functions[0].opset_import] == [23], "the given model stays as it is"


def test_what_no_older_opset_has_is_named_where_the_runtime_does_not_know_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = parser.parse_model(
        """<ir_version: 10, opset_import: ["": 24]>
        g (float[N,3,H,W] x) => (float[N,3,H,W] y) { a = Relu(x)  y = Swish(a) }"""
    )
    model.graph.node[1].name = "swish"
    model.graph.node.append(helper.make_node("Nowhere", ["a"], ["b"], name="n"))  # no runtime loads it
    problem = r"node 'swish' \(Swish\) is not part of opset 21: export the model with opset 21"
    with pytest.raises(ModelFileError, match=rf"ONNX Runtime [\d.]+ cannot load the model: .*; {problem}$"):
        open_inference(model)


def test_quantized_nodes_are_computed_as_the_standard_says() -> None:
    scale, zero = np.float32(0.04), np.uint8(117)
    weight = RNG.integers(-127, 128, WEIGHT.shape).astype(np.int8)
    model = parser.parse_model(
        """<ir_version: 9, opset_import: ["": 18]> g (float[N,3,H,W] x) => (float[N,4,H,W] y) {
            q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  v = DequantizeLinear(w, t)
            c = Conv(d, v)  r = QuantizeLinear(c, s, z)  y = DequantizeLinear(r, s, z) }"""
    )
    for name, value in {"s": scale, "z": zero, "w": weight, "t": np.float32(0.01)}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    (y,) = open_inference(model).run({"x": X})
    model.opset_import[0].version = 19  # the same there, and the reference knows it
    different = y != expected(model)
    assert different.mean() <= 0.02, "but for ties by rounding"
    fused = open_inference(model)._session.get_session_options()
    assert fused.get_session_config_entry("session.disable_quant_qdq") == "1"
    assert not fused.enable_mem_pattern


def test_a_node_that_fails_is_named_with_the_sizes_that_were_fed() -> None:
    model = conv_model()
    model.graph.node[0].name = "first/conv"
    opened = open_inference(model, what="the vendor's model")
    with pytest.raises(DataError) as caught:
        opened.run({"x": X[:, :2]})
    assert str(caught.value).startswith("the vendor's model cannot be run on x [2, 2, 5, 4]: ")
    model = parser.parse_model(
        """<ir_version: 9, opset_import: ["": 18]> g (float[N,C,H,W] x) => (float[N,M] y)
        <int64[2] s = {3, 7}> { y = Reshape(x, s) }"""
    )
    model.graph.node[0].name = "head/reshape"
    with pytest.raises(
        DataError, match=r"^the model cannot be run on x \[2, 2, 5, 4\]: Reshape node 'head/reshape': ."
    ) as caught:
        open_inference(model).run({"x": X[:, :2]})
    assert "\n" not in str(caught.value)
    assert "onnxruntime_src" not in str(caught.value)


def test_only_what_is_wanted_is_run_if_so_asked() -> None:
    model = parser.parse_model(
        """<ir_version: 9, opset_import: ["": 18]> g (float[N,3,H,W] x, float[M] t) => (float[N,3,H,W] y, float[M] z)
        { y = Neg(x)  z = MatMul(t, x) }"""
    )
    t = {"t": np.zeros(7, np.float32)}
    opened = open_inference(model, outputs=["y"])
    assert opened.output_names == ("y",)
    (y,) = opened.run({"x": X}, given=t)
    assert (y == -X).all()
    with pytest.raises(DataError, match=r"cannot be run on x \[2, 3, 5, 4\]: MatMul node"):
        open_inference(model).run({"x": X}, given=t)


def test_types_that_numpy_lacks_have_no_dtype() -> None:
    model = parser.parse_model(
        """<ir_version: 9, opset_import: ["": 18]> g (string[N] s, bfloat16[2] b, float16[2] h, seq(float[N]) q)
        => (string[N] t, bfloat16[2] c, float16[2] i, seq(float[N]) r)
        { t = Identity(s)  c = Identity(b)  i = Identity(h)  r = Identity(q) }"""
    )
    assert [port.dtype for port in open_inference(model).inputs] == [None, None, "float16", None]


@pytest.mark.parametrize("ir_version", [9, 12])
def test_external_data_is_found_wherever_the_model_keeps_it(ir_version: int, tmp_path: Path) -> None:
    model = conv_model(ir_version)
    large = RNG.normal(size=(4, 3, 100, 100)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(large, "large"))
    model.graph.node.extend(
        [
            helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(WEIGHT[:, :1, :1, :1], "k")),
            helper.make_node("ReduceSum", ["large"], ["sum"]),
            helper.make_node("Mul", ["k", "sum"], ["z"]),
        ]
    )
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    wanted = [expected(conv_model()), WEIGHT[:, :1, :1, :1] * large.sum(dtype=np.float64)]
    path = tmp_path / "deep" / "model.onnx"
    path.parent.mkdir()
    onnx.save_model(
        model, path, save_as_external_data=True, location="w.data", size_threshold=0, convert_attribute=True
    )
    opened = open_inference(load_model(path))
    (path.parent / "w.data").rename(tmp_path / "moved")  # what is open does not need the name any more
    for found, value in zip(opened.run({"x": X}), wanted):
        assert np.abs(found - value).max() <= 3e-4 * np.abs(value).max()


def test_external_data_that_is_cut_short_is_refused_by_name(tmp_path: Path) -> None:
    model = conv_model()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((64, 3, 30, 30), np.float32), "w"))
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="w.data", size_threshold=0)
    with (tmp_path / "w.data").open("r+b") as file:
        file.truncate(64 * 3 * 30 * 30 * 4 - 1)
    with pytest.raises(
        ModelFileError, match=r"^the tensor 'w' of .* ends at byte 691,200 of 'w.data', which has 691,199 bytes; get"
    ):
        open_inference(load_model(path))
    (tmp_path / "w.data").unlink()
    with pytest.raises(ModelFileError, match=r"w\.data"):
        open_inference(load_model(path))


def test_values_of_two_convolutions_that_only_branches_read_do_not_end_the_process() -> None:
    """As they did in onnxruntime-training 1.19.2, by an optimizer."""
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["": 13]>
        g (float[N,3,H,W] x, bool c) => (float[N,4,H,W] y) {
            a = Conv <pads = [1,1,1,1]> (x, w)  b = Conv <pads = [1,1,1,1]> (x, v)
            y = If (c) <then_branch = t () => (float[N,4,H,W] p) { p = Relu(a) },
                        else_branch = e () => (float[N,4,H,W] q) { q = Neg(b) }>
        }"""
    )
    model.graph.initializer.extend(numpy_helper.from_array(s * WEIGHT, n) for n, s in (("w", 1), ("v", np.float32(2))))
    opened = open_inference(model)
    relu = expected(conv_model())
    (a,), (b,) = (opened.run({"x": X, "c": np.array(flag)}) for flag in (True, False))
    assert np.abs(a - relu).max() <= 1e-5
    assert np.abs(np.maximum(-b, 0) - 2 * relu).max() <= 1e-5
