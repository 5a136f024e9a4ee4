"""Sizes are those that ONNX Runtime comes to, also where a model computes its shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.support.models import MODELS, random_feeds, save
from tests.tracing.oracle import flattened, session
from tgdonnx.layers import open_network
from tgdonnx.layers.sizes import infer_sizes

COMPUTED = {
    "a shape taken apart and put together": """
        s = Shape(a)
        n = Gather<axis = 0>(s, zero) hw = Slice(s, two, four)
        first = Unsqueeze(n, zero_) joined = Concat<axis = 0>(first, two, two, hw)
        r = Reshape(a, joined) p = Transpose<perm = [0, 2, 1, 3, 4]>(r) t = Reshape(p, s)""",
    "a size in the middle": """
        s = Shape<start = 2>(a) area = ReduceProd<keepdims = 1>(s) head = Concat<axis = 0>(zero_, four_of, area)
        r = Reshape(a, head) m = Softmax<axis = 2>(r) back = Shape(a) t = Reshape(m, back)""",
    "resized to the size of another": """
        p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)
        s = Shape(p) nc = Slice(s, zero_, two) big = Shape(a) hw = Slice(big, two, four)
        wanted = Concat<axis = 0>(nc, hw) t = Resize<mode = "nearest">(p, , , wanted)""",
    "expanded, tiled and flattened": """
        g = GlobalAveragePool(a) s = Shape(a) e = Expand(g, s) f = Flatten<axis = 2>(e)
        t = Reshape(f, s)""",
}


def network(lines: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[2, 3, 6, 8] x) => (float[n, c, h, w] y)
        <int64 zero = {{0}}, int64[1] zero_ = {{0}}, int64[1] two = {{2}}, int64[1] four = {{4}}, int64[1] four_of = {{4}}> {{
            a = Conv(x, w1) {lines} y = Conv(t, w2)
        }}"""
    )
    rng = np.random.default_rng(0)
    for name, shape in (("w1", (4, 3, 1, 1)), ("w2", (2, 4, 1, 1))):
        model.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    return model


def assert_sizes_are_real(model: onnx.ModelProto, path: Path) -> None:
    feeds = random_feeds(model)
    for value in model.graph.input:
        if value.name in feeds:
            shape = feeds[value.name].shape
            value.CopyFrom(helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, shape))
    opened = open_network(save(model, path))
    flat = flattened(model)
    names = [name for node in flat.graph.node for name in node.output if name]
    del flat.graph.output[:]
    flat.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    real = dict(zip(names, session(flat).run(None, feeds)))
    found = {str(value.name): shape for value, shape in opened.sizes.shapes.items()}
    assert {name: found.get(name) for name in names} == {name: real[name].shape for name in names}
    for value, content in opened.sizes.contents.items():
        if value.name in real:
            np.testing.assert_allclose(content, real[value.name], rtol=1e-6)
    assert opened.sizes.unknown == 0


@pytest.mark.parametrize("lines", COMPUTED.values(), ids=COMPUTED)
def test_computed_shapes_are_those_of_the_runtime(lines: str, tmp_path: Path) -> None:
    assert_sizes_are_real(network(lines), tmp_path / "model.onnx")


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
def test_the_shapes_of_networks_are_those_of_the_runtime(builder: object, tmp_path: Path) -> None:
    assert_sizes_are_real(builder(0), tmp_path / "model.onnx")  # type: ignore[operator]


def test_open_sizes_get_stand_ins_and_say_so(tmp_path: Path) -> None:
    model = network(COMPUTED["a size in the middle"])
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[0].dim_param, dims[2].dim_value, dims[3].dim_param = "n", -1, "w"  # some write -1 for an open dimension
    opened = open_network(save(model, tmp_path / "model.onnx"))
    assert opened.sizes.has_stand_ins
    assert opened.sizes.unknown == 0
    shapes = {str(value.name): shape for value, shape in opened.sizes.shapes.items()}
    assert shapes["t"] == shapes["a"]
    assert shapes["t"][1] == 4


@pytest.mark.parametrize(
    ("given", "lines", "refused"),
    [
        ("N, 3, H, W", "b = MatMul(x, matrix)", None),  # W is 9, which no stand-in is
        ("N, 3, H, W", "b = Add(x, odd)", None),
        ("N, 3, H, 9", "b = MatMul(x, matrix)", None),
        ("N, 3, H, 8", "b = MatMul(x, matrix)", "Incompatible dimensions"),
        ("N, 4, H, W", "b = Add(x, odd)", "Incompatible dimensions"),
        ("N, 3, H, W", "b = Transpose<perm = [0, 1, 2]>(x)", "spatial dimensions"),
    ],
)
def test_a_node_is_refused_only_if_no_size_that_is_left_open_would_suit_it(
    given: str, lines: str, refused: str | None, tmp_path: Path
) -> None:
    text = f"<ir_version: 8, opset_import: ['': 17]> g (float[{given}] x) => (float[a, b, c, d] y) {{ {lines} y = Conv(b, w) }}"
    model = onnx.parser.parse_model(text.replace("'", '"'))
    for name, shape in (("matrix", (9, 5)), ("odd", (3, 7, 9)), ("w", (2, 3, 1, 1))):
        if name in text:
            model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
    reasons = list(open_network(save(model, tmp_path / "model.onnx")).sizes.refused.values())
    assert len(reasons) == (refused is not None)
    assert all(str(refused) in reason for reason in reasons)


@pytest.mark.parametrize("name", MODELS)
def test_a_clone_knows_the_sizes_that_would_be_inferred_of_it(name: str, tmp_path: Path) -> None:
    clone = open_network(save(MODELS[name](), tmp_path / "model.onnx")).clone()
    expected = infer_sizes(clone.graph, clone.graph.opset_imports)
    assert clone.sizes.shapes == expected.shapes
    assert clone.sizes.refused == expected.refused
    assert clone.sizes.contents.keys() == expected.contents.keys()
    for value, content in expected.contents.items():
        np.testing.assert_array_equal(clone.sizes.contents[value], content)
