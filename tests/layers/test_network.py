"""The layers of a graph, and where their parameters lie in the vendor's bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support import models
from tests.support.models import MODELS, Builder, bias, conv_weight, parse, random_feeds, save
from tests.tracing.oracle import session
from tgdonnx.errors import ModelFileError
from tgdonnx.files import wire
from tgdonnx.files.model_file import load_model
from tgdonnx.layers import Network, Parameter, open_network, opset_version

RNG = np.random.default_rng(7)


def stored_tensors(model: onnx.ModelProto) -> dict[str, TensorProto]:
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = node.attribute[0].t
    return found


def opened(model: onnx.ModelProto, directory: Path) -> Network:
    return open_network(save(model, directory / "model.onnx"))


def computed_values(model: onnx.ModelProto, names: list[str], feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime computes for the named values."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    return dict(zip(names, session(copy).run(None, feeds)))


def two_layers(lines: str, *, inputs: str = "float[1, 4, 5, 5] x", opset: int = 17) -> onnx.ModelProto:
    """Not checked: some are broken on purpose."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": {opset}]> g ({inputs}) => (float[n, c, h, w] y) {{
            {lines}
            [last] y = Conv(t, w2)
        }}"""
    )
    weights = {
        "w1": conv_weight(RNG, 6, 2, 3, 3, group=2),
        "b1": bias(RNG, 6),
        "w2": conv_weight(RNG, 3, 6, 1, 1),
    }
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
def test_layers_have_the_shapes_and_tensors_of_the_file(builder: Builder, tmp_path: Path) -> None:
    model = builder(0)
    network = opened(model, tmp_path)
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    tensors = {name: numpy_helper.to_array(tensor) for name, tensor in stored_tensors(model).items()}
    assert [layer.index for layer in network.layers] == list(range(len(convs)))
    assert [layer.name for layer in network.layers] == [conv.name or conv.output[0] for conv in convs]
    for layer, conv in zip(network.layers, convs):
        name = conv.input[1].removesuffix("_copy")
        group = next((a.i for a in conv.attribute if a.name == "group"), 1)
        assert layer.problem is None
        assert layer.weight is not None
        assert (layer.op_type, layer.group, layer.weight.name) == ("Conv", group, name)
        assert layer.weight.shape == tensors[name].shape
        assert (layer.filters, layer.maps) == (len(tensors[name]), group * tensors[name].shape[1])
        np.testing.assert_array_equal(layer.weight.numpy(), tensors[name])
        if len(conv.input) > 2:
            assert layer.bias is not None
            np.testing.assert_array_equal(layer.bias.numpy(), tensors[conv.input[2].removesuffix("_copy")])
        else:
            assert layer.bias is None


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
def test_the_path_of_a_parameter_leads_to_its_tensor_in_the_bytes(builder: Builder, tmp_path: Path) -> None:
    model = builder(0)
    network = opened(model, tmp_path)
    found = network.stored_parameters
    tensors = stored_tensors(model)
    assert set(found) == set(tensors)
    data = network.file.data
    spans = wire.locate(data, [parameter.path for parameter in found.values()])
    for name, parameter in found.items():
        span = spans[parameter.path]
        assert TensorProto.FromString(data[span.start : span.end]) == tensors[name]
    for layer in network.layers:
        assert layer.weight is not None
        assert layer.weight == found[layer.weight.name]


def test_elements_are_read_only(tmp_path: Path) -> None:
    weight = opened(models.chain(), tmp_path).layers[0].weight
    assert weight is not None
    with pytest.raises(ValueError, match="read-only"):
        weight.numpy()[0] = 0


def test_layers_come_in_the_order_of_the_computation(tmp_path: Path) -> None:
    model = models.dncnn()
    nodes = list(reversed(model.graph.node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert [layer.name for layer in opened(model, tmp_path).layers] == ["conv1", "conv2", "conv3", "conv4"]


def test_the_places_of_constant_nodes_are_those_in_the_file_and_not_in_the_sorted_graph(tmp_path: Path) -> None:
    model = models.constant_nodes()
    nodes = list(reversed(model.graph.node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    network = opened(model, tmp_path)
    data = network.file.data
    for layer in network.layers:
        assert layer.weight is not None
        span = wire.locate(data, [layer.weight.path])[layer.weight.path]
        tensor = TensorProto.FromString(data[span.start : span.end])
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), layer.weight.numpy())


def test_a_value_behind_identities_is_the_stored_tensor(tmp_path: Path) -> None:
    network = opened(models.shared_through_identity(), tmp_path)
    left, right = (layer for layer in network.layers if layer.name.endswith("_shared"))
    assert left.weight == right.weight
    assert left.bias == right.bias
    assert isinstance(left.weight, Parameter)
    assert (left.weight.name, left.weight.path) == ("w", ((wire.GRAPH, 0), (wire.INITIALIZER, 3)))


@pytest.mark.parametrize(
    ("attribute", "value"), [("value_float", 0.5), ("value_floats", [0.5, 1.0, 1.5, 2.0, 2.5, 3.0])]
)
def test_a_constant_that_is_no_tensor_is_not_a_parameter(attribute: str, value: object, tmp_path: Path) -> None:
    model = two_layers("t = Conv<pads = [1, 1, 1, 1], group = 2>(x, w1, b)")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["b"], name="constant", **{attribute: value}))
    layer = opened(model, tmp_path).layers[0]
    assert layer.bias is None
    assert layer.problem is None


@pytest.mark.parametrize(
    ("lines", "inputs", "problem"),
    [
        (
            "[first] t = Conv(x, w)",
            "float[1, 4, 5, 5] x, float[6, 4, 1, 1] w",
            "its weight is not stored in the file: 'w' is an input of the graph",
        ),
        (
            "[double] w = Add(w1, w1) [first] t = Conv<group = 2>(x, w)",
            "float[1, 4, 5, 5] x",
            "its weight is not stored in the file: 'w' is computed by node 'double' (Add)",
        ),
        (
            "v = Neg(w1) w = Identity(v) [first] t = Conv<group = 2>(x, w)",
            "float[1, 4, 5, 5] x",
            "its weight is not stored in the file: 'v' is computed by node 'v' (Neg)",
        ),
        (
            "[first] t = Conv<group = 4>(x, w1)",
            "float[1, 4, 5, 5] x",
            "its weight 'w1' has shape [6, 2, 3, 3], which does not fit group = 4",
        ),
        (
            "[first] t = Conv<group = 0>(x, w1)",
            "float[1, 4, 5, 5] x",
            "its weight 'w1' has shape [6, 2, 3, 3], which does not fit group = 0",
        ),
        (
            "[first] t = Conv(x, b1)",
            "float[1, 4, 5, 5] x",
            "its weight 'b1' has shape [6], which does not fit group = 1",
        ),
    ],
)
def test_a_layer_whose_weight_cannot_be_had_says_why(lines: str, inputs: str, problem: str, tmp_path: Path) -> None:
    first, last = opened(two_layers(lines, inputs=inputs), tmp_path).layers
    assert first.name == "first"
    assert (first.problem, first.weight, first.filters, first.maps) == (problem, None, 0, 0)
    assert last.problem is None


@pytest.mark.parametrize(
    "break_it",
    [
        lambda conv: conv.input.__delitem__(slice(1, None)),
        lambda conv: conv.input.__delitem__(slice(0, None)),
        lambda conv: conv.input.__setitem__(1, ""),
        lambda conv: conv.attribute.append(helper.make_attribute("group", "two")),
    ],
    ids=["one input", "no input", "a weight without name", "a group that is no number"],
)
def test_a_malformed_layer_is_a_problem_or_a_bad_file_but_no_crash(break_it: object, tmp_path: Path) -> None:
    model = two_layers("[first] t = Conv(x, w1)")
    break_it(model.graph.node[0])  # type: ignore[operator]
    try:
        first = opened(model, tmp_path).layers[0]
    except ModelFileError:
        return
    assert first.weight is None
    assert first.problem is not None


def test_a_convolution_of_another_domain_is_no_layer(tmp_path: Path) -> None:
    model = two_layers("[first] t = Conv<group = 2>(x, w1)")
    model.opset_import.add(domain="vendor", version=1)
    model.graph.node[0].domain = "vendor"
    assert [layer.name for layer in opened(model, tmp_path).layers] == ["last"]


def test_a_constant_of_another_domain_is_no_parameter(tmp_path: Path) -> None:
    model = models.constant_nodes()
    model.opset_import.add(domain="vendor", version=1)
    node = next(node for node in model.graph.node if node.output[0] == "w2")
    node.domain = "vendor"
    network = opened(model, tmp_path)
    assert network.layers[1].weight is None
    assert "w2" not in network.stored_parameters


def test_layers_inside_of_the_branches_of_an_if_are_layers(tmp_path: Path) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 2, 5, 5] x) => (float[n, c, h, w] y) <bool yes = {1}> {
            [outer] t = Conv(x, w)
            y = If<then_branch = p () => (float[n, c, h, w] u) { [inner] u = Conv(t, v) },
                   else_branch = q () => (float[n, c, h, w] z) { z = Relu(t) }>(yes)
        }""",
        {"w": conv_weight(RNG, 3, 2, 1, 1), "v": conv_weight(RNG, 3, 3, 1, 1)},
    )
    network = opened(model, tmp_path)
    assert [layer.name for layer in network.layers] == ["outer", "inner"]
    inner = network.layers[1]
    assert inner.weight is not None
    place = [tensor.name for tensor in model.graph.initializer].index("v")
    assert (inner.weight.name, inner.weight.path) == ("v", ((wire.GRAPH, 0), (wire.INITIALIZER, place)))


def test_a_tensor_that_is_stored_inside_of_a_branch_is_found_there(tmp_path: Path) -> None:
    inner = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        p (float[1, 3, 5, 5] t) => (float[1, 3, 5, 5] u) { [inner] u = Conv(t, v) }""",
        {"v": conv_weight(RNG, 3, 3, 1, 1)},
    ).graph
    del inner.input[:]
    model = two_layers("[outer] t = Conv<group = 2>(x, w1)")
    orelse = onnx.parser.parse_graph("q () => (float[n, c, h, w] z) { z = Relu(s) }")
    del model.graph.node[1:]
    model.graph.node[0].output[0] = "s"
    inner.node[0].input[0] = "s"
    inner.initializer[0].CopyFrom(numpy_helper.from_array(conv_weight(RNG, 3, 6, 1, 1), "v"))
    model.graph.node.append(helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))))
    model.graph.node.append(helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=orelse))
    network = opened(model, tmp_path)
    assert [layer.name for layer in network.layers] == ["outer", "inner"]
    weight = network.layers[1].weight
    assert weight is not None
    span = wire.locate(network.file.data, [weight.path])[weight.path]
    assert TensorProto.FromString(network.file.data[span.start : span.end]) == inner.initializer[0]


# Names of nodes.


# Opening.


def test_shapes_are_inferred_and_those_that_the_file_declares_inside_are_ignored(tmp_path: Path) -> None:
    model = models.chain()
    feeds = random_feeds(model)
    for value in model.graph.input:
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, feeds[value.name].shape))
    model.graph.value_info.append(helper.make_tensor_value_info("t1", TensorProto.FLOAT, [2, 99, 9, 8]))
    network = opened(model, tmp_path)
    shapes = {str(value.name): shape for value, shape in network.sizes.shapes.items()}
    names = [value.name for node in network.graph for value in node.outputs]
    computed = computed_values(models.chain(), names, feeds)
    assert {name: shapes[name] for name in names} == {name: computed[name].shape for name in names}
    assert not network.sizes.has_stand_ins


def test_a_graph_is_not_changed_by_looking_at_it(tmp_path: Path) -> None:
    model = models.grouped()
    file = load_model(save(model, tmp_path / "model.onnx"))
    network = open_network(file)
    assert list(network.stored_parameters)
    assert file.proto == model
    assert file.path.read_bytes() == model.SerializeToString()


def test_the_version_of_the_default_operator_set_is_found() -> None:
    model = models.chain()
    assert opset_version(model) == 17
    model.opset_import.insert(0, helper.make_opsetid("vendor", 99))
    assert opset_version(model) == 17
    del model.opset_import[:]
    assert opset_version(model) == 0
    model.opset_import.append(helper.make_opsetid("ai.onnx", 12))
    assert opset_version(model) == 12
