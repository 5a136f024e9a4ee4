"""What kills ONNX Runtime is refused before a session is made. None of these models may be given to a session in this process.

Each was seen to end the process, or to read beyond a tensor, with onnxruntime-training 1.19.2; those marked with 1.32 as well
with stock onnxruntime 1.32.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support import models
from tgdonnx.errors import ModelFileError
from tgdonnx.runtime import open_inference
from tgdonnx.runtime.soundness import require_sound

RNG = np.random.default_rng(2)
WEIGHT = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)
BACK = RNG.normal(size=(3, 4, 3, 3)).astype(np.float32)


def node(op_type: str, inputs: str, outputs: str = "y", name: str = "the/node", **attributes: Any) -> onnx.NodeProto:
    """A node; inputs and outputs are separated by commas."""
    made = helper.make_node(op_type, inputs.split(","), outputs.split(","), name=name)
    for key, value in attributes.items():
        ints = onnx.AttributeProto(name=key, type=onnx.AttributeProto.INTS)
        made.attribute.append(ints if value == [] else helper.make_attribute(key, value))
    return made


def model(nodes: Sequence[onnx.NodeProto], opset: int = 18, **tensors: Any) -> onnx.ModelProto:
    """A model of an input x (float[N, 3, H, W])."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()]
    graph = helper.make_graph(list(nodes), "g", inputs, outputs, stored)
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", opset)])


def sparse(values: Any, indices: Any, dims: Sequence[int] = WEIGHT.shape) -> onnx.SparseTensorProto:
    made = onnx.SparseTensorProto(dims=dims)
    made.values.CopyFrom(numpy_helper.from_array(np.asarray(values, np.float32), "w"))
    indices = np.asarray(indices) if np.size(indices) else np.zeros(0, np.int64)
    made.indices.CopyFrom(numpy_helper.from_array(indices, "places"))
    return made


def sparse_model(tensor: onnx.SparseTensorProto, where: str = "initializer") -> onnx.ModelProto:
    made = model([node("Conv", "x,w")])
    if where == "initializer":
        made.graph.sparse_initializer.append(tensor)
    elif where == "constant":
        constant = helper.make_node("Constant", [], ["w"], name="stored")
        constant.attribute.append(helper.make_attribute("sparse_value", tensor))
        made.graph.node.insert(0, constant)
    else:
        branches = {}
        for branch in ("then", "else"):
            out = helper.make_tensor_value_info(branch, TensorProto.FLOAT, None)
            inner = helper.make_graph([helper.make_node("Identity", ["w"], [branch])], branch, [], [out])
            inner.sparse_initializer.append(tensor)
            branches[f"{branch}_branch"] = inner
        made = model([node("If", "c", "u", **branches), node("Conv", "x,u")], c=np.array(True))
    return made


def changed(tensor: onnx.SparseTensorProto, **fields: Any) -> onnx.SparseTensorProto:
    for name, value in fields.items():
        part, _, field = name.partition("_")
        message = getattr(tensor, part)
        if field == "dims":
            message.dims[:] = value
        else:
            setattr(message, field, value)
    return tensor


SPARSE = {
    "beyond the end": (sparse([1, 2], [3, 108]), "indices outside of its shape [4, 3, 3, 3]"),
    "far beyond it": (sparse([1, 2], [3, 2**40]), "indices outside"),
    "before the begin": (sparse([1, 2], [-1, 3]), "indices outside"),
    "beyond an axis": (sparse([1, 2], [[0, 0, 0, 1], [4, 2, 2, 2]]), "indices outside"),
    "far beyond an axis": (sparse([1, 2], [[0, 0, 0, 1], [3, 2, 2, 2**40]]), "indices outside"),
    "descending": (sparse([1, 2], [50, 3]), "not in ascending order"),
    "descending by axes": (sparse([1, 2], [[1, 0, 0, 0], [0, 2, 2, 2]]), "not in ascending order"),
    "twice": (sparse([1, 2], [3, 3]), "not in ascending order"),
    "fewer than values": (sparse([1, 2, 3], [1, 2]), "values of shape [3] and indices of [2]"),
    "more than values": (sparse([1, 2], [1, 2, 3]), "values of shape [2] and indices of [3]"),
    "of too few axes": (sparse([1, 2], [[0, 0], [3, 2]]), "indices of [2, 2]"),
    "of 32 bits": (sparse([1, 2], np.array([3, 50], np.int32)), "expected indices of type int64"),
    "values of two axes": (sparse([[1], [2]], [3, 50]), "values of shape [2, 1]"),
    "fewer values than said": (changed(sparse([1, 2], [3, 50]), values_dims=[1000]), "expected 4,000 for [1000]"),
    "fewer indices than said": (changed(sparse([1, 2], [3, 50]), indices_raw_data=bytes(9)), "expected 16 for [2]"),
    "a negative size": (sparse([1, 2], [3, 50], [4, 3, 3, -3]), "the shape [4, 3, 3, -3]"),
    "no size": (sparse([1], [0], []), "the shape []"),
    "more than there is memory": (sparse([1, 2], [3, 50], [2**40, 2**40]), "at most 268,435,456 elements"),
}


@pytest.mark.parametrize("where", ["initializer", "constant", "branch"])
@pytest.mark.parametrize(("tensor", "message"), SPARSE.values(), ids=SPARSE)
def test_sparse_tensors_whose_indices_do_not_fit(tensor: onnx.SparseTensorProto, message: str, where: str) -> None:
    with pytest.raises(ModelFileError, match=re.escape(message)):
        require_sound(sparse_model(tensor, where))


@pytest.mark.parametrize("indices", [[3, 50], [[0, 0, 1, 0], [1, 2, 1, 2]], []])
def test_sparse_tensors_that_fit_run(indices: Any) -> None:
    values = RNG.normal(size=len(indices)).astype(np.float32)
    dense = np.zeros(108, np.float32)
    dense[[3, 50][: len(indices)]] = values
    x = RNG.normal(size=(1, 3, 5, 6)).astype(np.float32)
    found = open_inference(sparse_model(sparse(values, indices))).run({"x": x})[0]
    expected = open_inference(model([node("Conv", "x,w")], w=dense.reshape(WEIGHT.shape))).run({"x": x})[0]
    assert (found == expected).all()


WINDOWS: dict[str, tuple[onnx.ModelProto, str]] = {
    **{
        f"{op_type} {name} {numbers}": (
            model([node(op_type, "x,w", **{name: numbers})], w=weight),
            f"has {name} {numbers}",
        )
        for op_type, weight in (("Conv", WEIGHT), ("ConvTranspose", BACK))
        for name, numbers in (
            *(("strides", [0, 0]), ("strides", [2**40, 1]), ("strides", [1]), ("strides", [1, 1, 1])),
            *(("dilations", [0, 0]), ("dilations", [-1, 1]), ("dilations", [1] * 5)),
            *(("pads", [0, 0, -3, -3]), ("pads", [-1] * 4), ("pads", [2**62] * 4), ("pads", [1]), ("pads", [1] * 6)),
            *(("kernel_shape", [0, 3]), ("kernel_shape", [5, 5]), ("kernel_shape", [3])),
        )
    },
    "group of 0": (model([node("Conv", "x,w", group=0)], w=WEIGHT), "has group [0]; expected numbers from 1"),
    "group of 0 back": (model([node("ConvTranspose", "x,w", group=0)], w=BACK), "has group [0]"),
    "group that divides nothing": (model([node("Conv", "x,w", group=3)], w=WEIGHT), "does not fit group = 3"),
    "output padding": (
        model([node("ConvTranspose", "x,w", output_padding=[-1, 0])], w=BACK),
        "has output_padding [-1, 0]",
    ),
    "output shape": (model([node("ConvTranspose", "x,w", output_shape=[-1, 5])], w=BACK), "has output_shape [-1, 5]"),
    "bias too short": (
        model([node("Conv", "x,w,b")], w=WEIGHT, b=WEIGHT[:3, 0, 0, 0]),
        "a bias of shape [3] for 4 filters",
    ),
    "bias of none": (
        model([node("Conv", "x,w,b")], w=WEIGHT, b=WEIGHT[:0, 0, 0, 0]),
        "a bias of shape [0] for 4 filters",
    ),
    "bias a scalar": (
        model([node("Conv", "x,w,b")], w=WEIGHT, b=WEIGHT[0, 0, 0, 0]),
        "a bias of shape [] for 4 filters",
    ),
    "bias of another axis": (
        model([node("ConvTranspose", "x,w,b")], w=BACK, b=WEIGHT[0, :, 0, 0]),
        "of shape [3] for 4 filters",
    ),
    "no axis of space": (model([node("Conv", "x,w")], w=WEIGHT[..., 0, 0]), "has a weight of shape [4, 3]"),
    "an axis of nothing": (model([node("Conv", "x,w")], w=WEIGHT[..., :0]), "has a weight of shape [4, 3, 3, 0]"),
    "an axis too few": (model([node("ConvTranspose", "x,w")], w=BACK[..., 0]), "has a weight of 3 axes for data of 4"),
    "an axis too many": (model([node("Conv", "x,w")], w=WEIGHT[..., None]), "has a weight of 5 axes for data of 4"),
    "an axis too many further on": (
        model([node("Relu", "x", "a"), node("Transpose", "a", "b"), node("Conv", "b,w")], w=WEIGHT[..., None]),
        "has a weight of 5 axes for data of 4",
    ),
    "pool of no step": (model([node("MaxPool", "x", kernel_shape=[2, 2], strides=[0, 1])]), "has strides [0, 1]"),
    "pool of no size": (model([node("AveragePool", "x", kernel_shape=[0, 2])]), "has kernel_shape [0, 2]"),
    "pool of too few pads": (model([node("LpPool", "x", kernel_shape=[2, 2], pads=[1])]), "expected 4 numbers"),
    "index beyond an unpooled map": (
        model([node("MaxUnpool", "x,i", kernel_shape=[2, 2])], i=np.full((1, 3, 2, 2), -5)),
        "has indices from -5 to -5",
    ),
    "index beyond a said size": (
        model([node("MaxUnpool", "x,i,s", kernel_shape=[2, 2])], i=np.full((1, 3, 2, 2), 12), s=np.array([1, 3, 2, 2])),
        "has indices from 12 to 12; expected 0 to below 12",
    ),
}
ARGUMENTS: dict[str, tuple[onnx.ModelProto, str]] = {
    "block that overflows": (model([node("DepthToSpace", "x", blocksize=2**40)]), f"has blocksize {2**40}"),
    "block of 0": (model([node("SpaceToDepth", "x", blocksize=0)]), "has blocksize 0"),
    "no groups": (
        model([node("GroupNormalization", "x,s,s", num_groups=0)], 21, s=np.ones(3, np.float32)),
        "has num_groups 0",
    ),
    "diagonal that overflows": (model([node("Trilu", "x,k")], k=np.array(-(2**63))), "has the diagonal -92233"),
    "parts of 0": (
        model([node("SplitToSequence", "x,k", "s"), node("SequenceAt", "s,k")], k=np.array(0)),
        "splits into parts of 0",
    ),
    "image larger than its columns": (
        model([node("Col2Im", "c,i,k")], c=np.zeros((1, 12, 4), np.float32), i=np.array([99, 99]), k=np.array([2, 2])),
        "reads columns of shape [1, 12, 4]; expected 9604 of them",
    ),
    "image of no size": (
        model([node("Col2Im", "c,i,k")], c=np.zeros((1, 12, 4), np.float32), i=np.array([-99, 3]), k=np.array([2, 2])),
        "has an image of [-99, 3]",
    ),
    "image that is computed": (
        model(
            [node("Shape", "x", "i"), node("Col2Im", "c,i,k")], c=np.zeros((1, 12, 4), np.float32), k=np.array([2, 2])
        ),
        "computes the sizes of its image",
    ),
    "region of no sample": (
        model([node("RoiAlign", "x,r,i")], r=np.zeros((2, 4), np.float32), i=np.array([0, -99])),
        "takes regions from samples [-99, 0]",
    ),
    "input left out, 1.32": (model([node("Max", "x,")]), "leaves out its input 1"),
    "output left out, 1.32": (
        model([node("Split", "x", "y,", axis=3, num_outputs=2)]),
        "node 'the/node' (Split) leaves out its output 1, which has to be there",
    ),
    "first input left out, 1.32": (model([node("Sum", ",x")]), "leaves out its input 0"),
    "operator set beyond numbers": (model([node("Relu", "x")], 2**31), "imports version 2147483648"),
}


@pytest.mark.parametrize(("made", "message"), {**WINDOWS, **ARGUMENTS}.values(), ids={**WINDOWS, **ARGUMENTS})
def test_operators_whose_arguments_the_kernels_take_on_trust(made: onnx.ModelProto, message: str) -> None:
    with pytest.raises(ModelFileError, match=re.escape(message)) as caught:
        require_sound(made, "this.onnx")
    assert str(caught.value).startswith("ONNX Runtime cannot run this.onnx safely: ")
    assert str(caught.value).endswith("; export the model again")
    error = caught.value
    assert f"safely: node {error.node!r} ({error.op_type}) " in str(error) if "node" in str(error) else not error.node


def body(inputs: int, outputs: int, *first: str) -> onnx.GraphProto:
    names = [*first, *(f"in{index}" for index in range(inputs))]
    kinds = {"i": TensorProto.INT64, "c": TensorProto.BOOL}
    taken = [helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None) for name in names]
    nodes = [helper.make_node("Identity", ["c"], ["again"])] if first else []
    nodes += [helper.make_node("Identity", ["x"], [f"out{index}"]) for index in range(outputs)]
    given = [
        helper.make_tensor_value_info(n.output[0], kinds["c"] if n.output[0] == "again" else 1, None) for n in nodes
    ]
    return helper.make_graph(nodes, "body", taken, given)


TRUE, THREE = np.array(True), np.array(3)
BODIES = {
    "loop with a state too many": (
        model([node("Loop", "m,c,x,x", body=body(2, 1, "i", "c"))], m=THREE, c=TRUE),
        "carries 2 values and has 1 outputs, and its body has 2",
    ),
    "loop whose body takes less": (
        model([node("Loop", "m,c,x", body=body(0, 1, "i", "c"))], m=THREE, c=TRUE),
        "its body 2",
    ),
    "loop without a body": (model([node("Loop", "m,c,x")], m=THREE, c=TRUE), "has no body"),
    "output of a loop left out, 1.32": (
        model([node("Loop", "m,c,x", ",y", body=body(1, 2, "i", "c"))], m=THREE, c=TRUE),
        "leaves out its output 0",
    ),
    "scan of more inputs than there are": (
        model([node("Scan", "x", num_scan_inputs=2, body=body(1, 1))]),
        "has num_scan_inputs 2; expected 1 to its 1 inputs",
    ),
    "scan of many": (model([node("Scan", "x", num_scan_inputs=99, body=body(1, 1))]), "has num_scan_inputs 99"),
    "scan of no number": (model([node("Scan", "x", body=body(1, 1))]), "has num_scan_inputs missing"),
    "scan whose body gives less": (model([node("Scan", "x", num_scan_inputs=1, body=body(1, 0))]), "its body 1 and 0"),
    "scan without a body": (model([node("Scan", "x", num_scan_inputs=1)]), "has no body"),
    "if without a branch": (model([node("If", "c", then_branch=body(0, 1))], c=TRUE), "has no else_branch"),
    "if whose branch gives less": (
        model([node("If", "c", then_branch=body(0, 1), else_branch=body(0, 0))], c=TRUE),
        "has a else_branch of 0 inputs and 0 outputs; expected 0 and 1",
    ),
    "if whose branch takes something": (
        model([node("If", "c", then_branch=body(1, 1), else_branch=body(0, 1))], c=TRUE),
        "has a then_branch of 1 inputs",
    ),
}


@pytest.mark.parametrize(("made", "message"), BODIES.values(), ids=BODIES)
def test_bodies_that_do_not_fit_their_node(made: onnx.ModelProto, message: str) -> None:
    with pytest.raises(ModelFileError, match=re.escape(message)):
        require_sound(made)


@pytest.mark.parametrize("names", ["f", "fg", "fgh"])
def test_functions_that_call_themselves(names: str) -> None:
    made = model([helper.make_node("f", ["x"], ["y"], domain="local")])
    made.opset_import.append(helper.make_opsetid("local", 1))
    for name, callee in zip(names, names[1:] + names[0]):
        inner = [helper.make_node("Relu", ["a"], ["c"]), helper.make_node(callee, ["c"], ["b"], domain="local")]
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
        made.functions.append(helper.make_function("local", name, ["a"], ["b"], inner, opsets))
    with pytest.raises(ModelFileError, match="its function 'f' calls itself"):
        require_sound(made)


def in_function(inner: Sequence[onnx.NodeProto], opset: int = 18) -> onnx.ModelProto:
    made = model([helper.make_node("f", ["x", "w"], ["y"], domain="local")], w=WEIGHT[..., None])
    made.opset_import.append(helper.make_opsetid("local", 1))
    opsets = [helper.make_opsetid("", opset)]
    made.functions.append(helper.make_function("local", "f", ["a", "v"], ["b"], inner, opsets))
    return made


def test_functions_are_looked_into_with_what_they_are_called_with() -> None:
    with pytest.raises(ModelFileError, match="has a weight of 5 axes for data of 4"):
        require_sound(in_function([node("Conv", "a,v", "b")]))


def test_functions_of_another_opset_are_looked_into_as_far_as_that_goes() -> None:
    with pytest.raises(ModelFileError, match=r"has strides \[0, 1\]"):
        require_sound(in_function([node("Conv", "a,v", "b", strides=[0, 1])], 17))


@pytest.mark.parametrize("builder", models.MODELS.values(), ids=models.MODELS)
def test_sound_models_stay_as_they_are(builder: models.Builder) -> None:
    made = builder(0)
    before = made.SerializeToString()
    require_sound(made)
    assert made.SerializeToString() == before


def test_declared_shapes_that_are_wrong_do_not_count() -> None:
    made = model([node("Relu", "x", "a"), node("Conv", "a,w")], w=WEIGHT)
    made.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 3, 7]))
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 3, 4, 5]))
    require_sound(made)


def test_looking_takes_time_that_grows_with_the_model_and_not_faster() -> None:
    def chain(nodes: int) -> onnx.ModelProto:
        steps = [node("Conv", f"v{n},w", f"v{n + 1}", name=f"n{n}", pads=[1, 1, 1, 1]) for n in range(nodes)]
        steps.append(node("Relu", f"v{nodes}"))
        return model([node("Relu", "x", "v0"), *steps], w=RNG.normal(size=(3, 3, 3, 3)).astype(np.float32))

    seconds = []
    for nodes in (500, 8000):
        made, begin = chain(nodes), time.perf_counter()
        require_sound(made)
        seconds.append(time.perf_counter() - begin)
    assert seconds[1] <= 16 * 4 * max(seconds[0], 0.02)
