"""From the stored tensor to what a layer reads, and masks the same way back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.support.models import Array
from tests.tracing.oracle import session
from tgdonnx.layers import Layer, Network, open_network

RNG = np.random.default_rng(11)
STORED = RNG.standard_normal((6, 4, 3, 2)).astype(np.float32)  # 6 filters of 4 maps


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


# How a weight of shape [6, 4, 3, 2] is stored, further constants, and the nodes that lead from `w` to `read`.
WAYS: dict[str, tuple[Array, dict[str, Array], list[onnx.NodeProto]]] = {
    "as it is": (STORED, {}, []),
    "Identity": (STORED, {}, [helper.make_node("Identity", ["w"], ["read"])]),
    "Cast": (STORED.astype(np.float16), {}, [helper.make_node("Cast", ["w"], ["read"], to=TensorProto.FLOAT)]),
    "HWIO": (STORED.transpose(2, 3, 1, 0), {}, [helper.make_node("Transpose", ["w"], ["read"], perm=[3, 2, 0, 1])]),
    "reversed": (STORED.transpose(), {}, [helper.make_node("Transpose", ["w"], ["read"])]),
    "Reshape": (
        STORED.reshape(24, 6),
        {"shape": ints(6, -1, 3, 2)},
        [helper.make_node("Reshape", ["w", "shape"], ["read"])],
    ),
    "Unsqueeze": (
        STORED[:, :, :, 0],
        {"axes": ints(-1)},
        [helper.make_node("Unsqueeze", ["w", "axes"], ["read"])],
    ),
    "int8 per tensor": (
        RNG.integers(-128, 128, STORED.shape).astype(np.int8),
        {"scale": np.float32(0.03), "zero": np.int8(5)},
        [helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["read"])],
    ),
    "uint8 per filter": (
        RNG.integers(0, 256, STORED.shape).astype(np.uint8),
        {"scale": RNG.uniform(0.1, 1, 6).astype(np.float32), "zero": RNG.integers(100, 150, 6).astype(np.uint8)},
        [helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["read"], axis=0)],
    ),
    "int8 without zero point": (
        RNG.integers(-128, 128, STORED.shape).astype(np.int8),
        {"scale": RNG.uniform(0.1, 1, 4).astype(np.float32)},
        [helper.make_node("DequantizeLinear", ["w", "scale"], ["read"])],
    ),
    "several": (
        STORED.transpose(2, 3, 1, 0).reshape(6, 24).astype(np.float16),
        {"shape": ints(3, 2, 4, 6)},
        [
            helper.make_node("Cast", ["w"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["real", "shape"], ["hwio"]),
            helper.make_node("Transpose", ["hwio"], ["same"], perm=[3, 2, 0, 1]),
            helper.make_node("Identity", ["same"], ["read"]),
        ],
    ),
}


def model_of(way: str) -> onnx.ModelProto:
    stored, constants, nodes = WAYS[way]
    weight = "read" if nodes else "w"
    graph = helper.make_graph(
        [*nodes, helper.make_node("Conv", ["x", weight], ["y"], name="layer")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, 5, 5))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in {"w": stored, **constants}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def opened(way: str, directory: Path) -> tuple[Network, Layer]:
    path = directory / "model.onnx"
    onnx.save(model_of(way), path)
    network = open_network(path)
    return network, network.layers[0]


@pytest.mark.parametrize("way", WAYS)
def test_what_a_parameter_reads_is_what_the_runtime_computes(way: str, tmp_path: Path) -> None:
    _, layer = opened(way, tmp_path)
    assert layer.weight is not None
    model = model_of(way)
    name = model.graph.node[-1].input[1]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    feeds = {"x": np.zeros((1, 4, 5, 5), np.float32)}
    expected = WAYS[way][0] if name == "w" else session(model).run([name], feeds)[0]
    assert layer.weight.name == "w"
    assert layer.weight.read().dtype == expected.dtype
    np.testing.assert_array_equal(layer.weight.read(), expected)
    assert layer.weight.read_shape == expected.shape
    np.testing.assert_array_equal(layer.weight.numpy(), WAYS[way][0])


@pytest.mark.parametrize("way", WAYS)
def test_restoring_undoes_rearranging(way: str, tmp_path: Path) -> None:
    weight = opened(way, tmp_path)[1].weight
    assert weight is not None
    numbered = np.arange(np.prod(weight.shape)).reshape(weight.shape)
    np.testing.assert_array_equal(weight.restore(weight.rearrange(numbered)), numbered)
    read = np.arange(np.prod(weight.read_shape)).reshape(weight.read_shape)
    np.testing.assert_array_equal(weight.rearrange(weight.restore(read)), read)


@settings(deadline=None, max_examples=60)
@given(
    way=st.sampled_from(sorted(WAYS)), kernels=st.lists(st.booleans(), min_size=24, max_size=24), whole=st.booleans()
)
def test_a_mask_of_kernels_covers_exactly_their_elements_in_the_stored_tensor(
    way: str, kernels: list[bool], whole: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _, layer = opened(way, tmp_path_factory.mktemp("way"))
    assert layer.weight is not None
    wanted = np.array(kernels).reshape(6, 4)
    wanted = wanted[:, :1] if whole else wanted  # per filter, or per kernel
    mask = layer.weight.restore(layer.layout.restore(wanted))
    assert mask.ndim == len(layer.weight.shape)
    assert all(m in (1, d) for m, d in zip(mask.shape, layer.weight.shape))
    # Elements that follow the mask are those that the runtime finds in the wanted kernels.
    owner = np.arange(np.prod(layer.weight.shape)).reshape(layer.weight.shape)
    covered = set(owner[np.broadcast_to(mask, owner.shape)])
    read = layer.weight.rearrange(owner)
    expected = {
        int(number)
        for n in range(6)
        for c in range(4)
        if wanted[n, 0 if whole else c]
        for number in read[n, c].reshape(-1)
    }
    assert covered == expected


@pytest.mark.parametrize("way", WAYS)
def test_the_filter_of_every_stored_element_is_known(way: str, tmp_path: Path) -> None:
    network, layer = opened(way, tmp_path)
    assert layer.weight is not None
    index = np.broadcast_to(network.filter_index("w"), layer.weight.shape)
    for n, rows in enumerate(layer.weight.rearrange(index)):
        assert (rows == n).all()


def test_an_integer_weight_without_scale_is_no_weight(tmp_path: Path) -> None:
    model = model_of("as it is")
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(STORED.astype(np.int32), "w"))
    onnx.save(model, tmp_path / "model.onnx")
    assert open_network(tmp_path / "model.onnx").layers[0].problem == (
        "its weight is not stored in the file: 'w' is of type INT32"
    )


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([helper.make_node("Cast", ["w"], ["read"], to=TensorProto.INT32)], "(Cast), to INT32"),
        ([helper.make_node("DequantizeLinear", ["w", "x"], ["read"])], "(DequantizeLinear), whose scale or zero point"),
        ([helper.make_node("Reshape", ["w", "x"], ["read"])], "(Reshape), to an unknown shape"),
    ],
)
def test_a_way_that_cannot_be_gone_back_is_refused_with_the_node(
    nodes: list[onnx.NodeProto], reason: str, tmp_path: Path
) -> None:
    model = model_of("as it is")
    layer = model.graph.node.pop()
    model.graph.node.extend(nodes)
    layer.input[1] = "read"
    model.graph.node.append(layer)
    onnx.save(model, tmp_path / "model.onnx")
    problem = open_network(tmp_path / "model.onnx").layers[0].problem
    assert problem is not None
    assert f"its weight is not stored in the file: 'read' is computed by node 'read' {reason}" in problem
