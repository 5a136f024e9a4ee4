"""Graphs that must be adapted before they train: old operator sets, branches, wrong shapes. The vendor's file stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import tgdonnx
from tests.lowering.gradcheck import run
from tests.support import models
from tests.support.models import Array
from tests.support.training_models import text_model
from tgdonnx.artifacts.forward import forward_graph
from tgdonnx.errors import UntrainableError
from tgdonnx.files.model_file import ModelFile
from tgdonnx.layers import open_network


def forward(model: onnx.ModelProto, *trained: str) -> onnx.ModelProto:
    """The graph that trains, without its loss."""
    import onnx_ir as ir

    file = ModelFile(Path("vendor.onnx"), model.SerializeToString(), model)
    return ir.to_proto(forward_graph(open_network(file), trained, ()).model)


def same_bytes_but_for_metadata(path: Path, directory: Path) -> tuple[str, ...]:
    """Masks everything, builds and exports; returns what trains. The export, untrained, must be the vendor's file."""
    tgdonnx.mask(path, directory / "masked.onnx", tgdonnx.AllLayers())
    report = tgdonnx.build(directory / "masked.onnx", directory / "artifacts")
    tgdonnx.export(directory / "artifacts", directory / "tuned.onnx")
    verified = tgdonnx.verify(path, directory / "tuned.onnx")
    assert verified.ok
    assert not verified.changed
    vendor, tuned = onnx.load(path), onnx.load(directory / "tuned.onnx")
    assert tuned.graph.SerializeToString(deterministic=True) == vendor.graph.SerializeToString(deterministic=True)
    assert tuned.opset_import == vendor.opset_import
    return report.trained


def old_net(opset: int) -> onnx.ModelProto:
    """Conv, batch norm, a number per channel, clipping, pooling, upsampling, padding, Conv, as exporters wrote them then."""
    rng = np.random.default_rng(opset)
    form = {"is_test": 1} if opset < 7 else {}
    reuse = {"consumed_inputs": [0]} if opset < 6 else {}
    tensors = {
        "w1": rng.normal(size=(4, 3, 3, 3)),
        "scale": rng.uniform(1, 2, 4),
        "offset": rng.normal(size=4),
        "mean": rng.normal(size=4),
        "var": rng.uniform(1, 2, 4),
        "gain": rng.uniform(1, 2, 4) if opset < 7 else rng.uniform(1, 2, (4, 1, 1)),
        "w2": rng.normal(size=(2, 4, 3, 3)),
    }
    align = {"broadcast": 1, "axis": 1} if opset < 7 else {}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["t1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization",
            ["t1", "scale", "offset", "mean", "var"],
            ["n1"],
            epsilon=0.01,
            **form,
            **({"consumed_inputs": [0, 0, 0, 1, 1]} if opset < 6 else {}),
        ),
        helper.make_node("Mul", ["n1", "gain"], ["g1"], "gain", **align),
        helper.make_node("Dropout", ["g1"], ["d1"], **form),
        helper.make_node("LeakyRelu", ["d1"], ["a1"], alpha=0.2, **reuse),
        helper.make_node("MaxPool", ["a1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    if opset < 7:
        nodes.append(helper.make_node("Upsample", ["p1"], ["u1"], "up", height_scale=2.0, width_scale=2.0))
    elif opset < 9:
        nodes.append(helper.make_node("Upsample", ["p1"], ["u1"], "up", scales=[1.0, 1.0, 2.0, 2.0], mode="linear"))
    else:
        tensors["scales"] = np.array([1, 1, 2, 2])
        if opset == 9:
            nodes.append(helper.make_node("Upsample", ["p1", "scales"], ["u1"], "up", mode="linear"))
        elif opset == 10:
            nodes.append(helper.make_node("Resize", ["p1", "scales"], ["u1"], "up", mode="linear"))
        else:
            nodes.append(helper.make_node("Resize", ["p1", "scales", "scales"], ["u1"], "up", mode="linear"))
    if opset < 11:
        name = "paddings" if opset == 1 else "pads"
        nodes.append(helper.make_node("Pad", ["u1"], ["q1"], "pad", mode="reflect", **{name: [0, 0, 1, 0, 0, 0, 1, 2]}))
        nodes.append(helper.make_node("Clip", ["q1"], ["c1"], min=-3.0, max=5.0, **reuse))
    else:
        nodes.append(helper.make_node("Pad", ["u1", "pads"], ["q1"], "pad", mode="reflect"))
        tensors.update(low=np.array(-3), high=np.array(5))
        nodes.append(helper.make_node("Clip", ["q1", "low", "high"], ["c1"]))
    nodes.append(helper.make_node("Conv", ["c1", "w2"], ["y"], "conv2"))
    stored = [numpy_helper.from_array(a.astype(np.float32), name) for name, a in tensors.items()]
    if opset >= 11:
        stored.append(numpy_helper.from_array(np.array([0, 0, 1, 0, 0, 0, 1, 2]), "pads"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, ["N", 3, 6, 8])],
        [helper.make_tensor_value_info("y", 1, ["N", 2, "h", "w"])],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def expected(model: onnx.ModelProto, opset: int, x: Array) -> Array:
    """What ONNX Runtime computes; before opset 7, for the same net in the words of opset 7."""
    if opset < 7:
        new = old_net(7)
        stored = {tensor.name: tensor for tensor in model.graph.initializer}
        for tensor in new.graph.initializer:
            old = numpy_helper.to_array(stored[tensor.name])
            tensor.CopyFrom(numpy_helper.from_array(old.reshape(tensor.dims), tensor.name))
        up = next(node for node in new.graph.node if node.name == "up")
        next(attribute for attribute in up.attribute if attribute.name == "mode").s = b"nearest"
        model = new
    return run(model, {"x": x})


@pytest.mark.parametrize("opset", range(1, 13))
def test_a_net_of_an_old_operator_set_trains_as_the_vendor_wrote_it(opset: int, tmp_path: Path) -> None:
    model = old_net(opset)
    x = np.random.default_rng(1).normal(size=(2, 3, 6, 8)).astype(np.float32)
    adapted = forward(model, "w1", "w2")
    assert adapted.opset_import[0].version == 17
    y = expected(model, opset, x)
    np.testing.assert_allclose(run(adapted, {"x": x}), y, rtol=0, atol=2e-6 * float(np.abs(y).max()))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in adapted.graph.initializer}
    for tensor in model.graph.initializer:
        if tensor.name in ("w1", "w2", "scale", "offset", "gain"):
            np.testing.assert_array_equal(stored[tensor.name], numpy_helper.to_array(tensor))
    path = models.save(model, tmp_path / "vendor.onnx")
    # Before opset 7 the sizes that say which axis of a product counts filters cannot be inferred: its factor is frozen.
    trained = {"w1", "w2", "scale", "offset", *(["gain"] if opset >= 7 else [])}
    assert set(same_bytes_but_for_metadata(path, tmp_path)) == trained


CONDITIONS = {
    "an initializer": ("", {"c": np.array(True)}, "c"),
    "a Constant": ("c = Constant<value = bool[1] {1}>()", {}, "c"),
    "Not and Identity of one": ("d = Not(c)\n e = Identity(d)\n f = Not(e)", {"c": np.array(True)}, "f"),
    "a Cast": ("d = Cast<to = 9>(c)", {"c": np.array(3)}, "d"),
}


def branching(lines: str, condition: str, **tensors: Any) -> onnx.ModelProto:
    return text_model(
        f"""g (float[N, 2, 8] x) => (float[N, 3, w] y) {{
            a = Conv(x, w1)
            {lines}
            [choice] b = If({condition}) <
                then_branch = yes () => (float[N, 4, w] p) {{ q = Conv(a, w2)  r = Relu(a)  p = Add(q, r) }},
                else_branch = no () => (float[N, 4, w] p2) {{ p2 = Hardmax(a) }}>
            y = Conv(b, w3)
        }}""",
        w1=(4, 2, 1),
        w2=(4, 4, 1),
        w3=(3, 4, 1),
        **tensors,
    )


def stored_in_its_branch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Moves w2 from the main graph into the branch that reads it."""
    choice = next(node for node in model.graph.node if node.op_type == "If")
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "w2")
    next(a for a in choice.attribute if a.name == "then_branch").g.initializer.append(weight)
    model.graph.initializer.remove(weight)
    return model


@pytest.mark.parametrize(("lines", "tensors", "condition"), CONDITIONS.values(), ids=CONDITIONS)
@pytest.mark.parametrize("inside", [False, True])
def test_the_branch_that_a_constant_condition_takes_trains(
    lines: str, tensors: dict[str, Array], condition: str, inside: bool, tmp_path: Path
) -> None:
    model = branching(lines, condition, **tensors)
    model = stored_in_its_branch(model) if inside else model
    x = np.random.default_rng(1).normal(size=(2, 2, 8)).astype(np.float32)
    adapted = forward(model, "w1", "w2", "w3")
    assert not any(node.op_type in ("If", "Hardmax") for node in adapted.graph.node)
    np.testing.assert_array_equal(run(adapted, {"x": x}), run(model, {"x": x}))
    path = models.save(model, tmp_path / "vendor.onnx")
    assert set(same_bytes_but_for_metadata(path, tmp_path)) == {"w1", "w2", "w3"}


def test_of_a_condition_that_is_computed_only_what_has_no_gradient_inside_blocks_what_comes_before(
    tmp_path: Path,
) -> None:
    model = branching(
        "s = ReduceSum<keepdims = 0>(x)\n zero = Constant<value_float = 0.0>()\n c = Greater(s, zero)", "c"
    )
    path = models.save(model, tmp_path / "model.onnx")
    (blocked,) = [f for f in tgdonnx.check(path).findings if f.severity == "error"]
    assert blocked.op_type == "Hardmax"
    assert "has no gradient" in blocked.message
    tgdonnx.mask(path, tmp_path / "masked.onnx", tgdonnx.AllLayers())
    with pytest.raises(UntrainableError, match=r"\(Hardmax\) .*has no gradient"):
        tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts")
    tgdonnx.mask(path, tmp_path / "last.onnx", tgdonnx.LastLayers(1))
    assert tgdonnx.build(tmp_path / "last.onnx", tmp_path / "behind").trained == ("w3",)
    for node in model.graph.node:
        for attribute in node.attribute:
            for inner in attribute.g.node:
                inner.op_type = inner.op_type.replace("Hardmax", "Softmax")
    path = models.save(model, tmp_path / "softer.onnx")
    assert tgdonnx.check(path).trainable


@pytest.mark.parametrize(
    "attributes",
    [
        {"auto_pad": "SAME_UPPER", "strides": [2, 2], "output_padding": [1, 0]},
        {"auto_pad": "SAME_LOWER", "strides": [3, 2], "output_padding": [1, 1]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"strides": [2, 2], "output_shape": [9, 8]},
        # With batch and channels in it only old runtimes read it.
        pytest.param({"strides": [2, 2], "output_shape": [1, 4, 9, 8]}, marks=pytest.mark.training),
        {"strides": [2, 2], "output_shape": [9, 8], "auto_pad": "SAME_UPPER"},
    ],
)
@pytest.mark.parametrize("reader", ["to the old size", "instance norm", "global pooling", "rows in one"])
def test_shapes_behind_a_transposed_convolution_are_right(attributes: dict[str, Any], reader: str) -> None:
    rng = np.random.default_rng(0)
    nodes = {
        "to the old size": helper.make_node("Resize", ["t", "", "", "sizes"], ["r"], mode="linear"),
        "instance norm": helper.make_node("InstanceNormalization", ["t", "scale", "shift"], ["r"]),
        "global pooling": helper.make_node("GlobalMaxPool", ["t"], ["r"]),
        "rows in one": helper.make_node("Flatten", ["t"], ["r"], axis=2),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w1"], ["a"], "first"),
            helper.make_node("ConvTranspose", ["a", "w2"], ["t"], "up", **attributes),
            nodes[reader],
            *([helper.make_node("Conv", ["r", "w3"], ["y"])] if reader != "rows in one" else []),
        ],
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y" if reader != "rows in one" else "r", 1, None)],
        [
            numpy_helper.from_array(array.astype(np.float32), name)
            for name, array in {
                "w1": rng.normal(size=(3, 2, 1, 1)),
                "w2": rng.normal(size=(3, 4, 3, 3)),
                "w3": rng.normal(size=(2, 4, 1, 1)),
                "scale": rng.normal(size=4),
                "shift": rng.normal(size=4),
            }.items()
        ]
        + [numpy_helper.from_array(np.array([1, 4, 5, 6]), "sizes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = rng.normal(size=(1, 2, 4, 4)).astype(np.float32)
    y = run(model, {"x": x})
    adapted = forward(model, "w1")
    found = run(adapted, {"x": x})
    assert found.shape == y.shape
    np.testing.assert_allclose(found, y, rtol=0, atol=3e-6 * float(np.abs(y).max()))
    for value in adapted.graph.output:
        assert [dim.dim_value for dim in value.type.tensor_type.shape.dim] == list(y.shape)
    network = open_network(ModelFile(Path("vendor.onnx"), model.SerializeToString(), model))
    sizes = {value.name: shape for value, shape in network.sizes.shapes.items()}
    assert sizes[model.graph.output[0].name] == y.shape


def test_a_closing_softmax_of_an_old_set_is_one_over_the_axis_of_classes_though_shapes_are_computed() -> None:
    # As Paddle exports classifiers: the rank is known only once the operators before it are written in new words.
    network = """g (float[N, 3, H, W] x) => (float[N, 4] y) <float[1] rest = {5}, int64[1] zero = {0}, int64[1] one = {1}> {
        a = Conv(x, v)
        p = GlobalAveragePool(a)
        s = Shape(p)
        i = Cast<to = 6>(s)
        n = Slice(i, zero, one)
        m = Cast<to = 7>(n)
        k = Cast<to = 7>(rest)
        j = Concat<axis = 0>(m, k)
        f = Reshape(p, j)
        t = MatMul(f, w)
        y = Softmax<axis = 1>(t)
    }"""
    adapted = forward(text_model(network, opset=11, v=(5, 3, 3, 3), w=(5, 4)), "v", "w")
    (last,) = [node for node in adapted.graph.node if node.output[0] == adapted.graph.output[0].name]
    assert (last.op_type, [attribute.i for attribute in last.attribute]) == ("Softmax", [1])
