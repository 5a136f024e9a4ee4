"""The node tests of the ONNX standard for the operators that move, resize and contract: a peer's expected outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from tests.lowering.backend_cases import cases_of
from tests.lowering.graphs import run
from tgdonnx.errors import UntrainableError
from tgdonnx.lowering.conv_transpose import LowerConvTranspose
from tgdonnx.lowering.einsum import LowerEinsum
from tgdonnx.lowering.grid_sample import LowerGridSample
from tgdonnx.lowering.resize import LowerResize

PASSES = (LowerConvTranspose(), LowerResize(), LowerEinsum(), LowerGridSample())
OP_TYPES = frozenset().union(*(lowering.op_types for lowering in PASSES))
REFUSED = {
    "test_einsum_batch_diagonal": "takes a diagonal",
    "test_resize_downsample_scales_cubic_antialias": "antialias",
    "test_resize_downsample_scales_linear_antialias": "antialias",
    "test_resize_downsample_sizes_cubic_antialias": "antialias",
    "test_resize_downsample_sizes_linear_antialias": "antialias",
}
# Where the standard and onnxruntime 1.19 differ we follow the runtime, whose models we train.
OTHERWISE_IN_THIS_RUNTIME = {
    "test_resize_downsample_scales_cubic_align_corners": "it spaces the outputs by the size rounded down",
    "test_resize_downsample_scales_linear_align_corners": "it spaces the outputs by the size rounded down",
}
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)


def collected() -> list[Any]:
    return [case for case in cases_of(OP_TYPES) if case.model.graph.input[0].type.tensor_type.elem_type in FLOATS]


def lowered(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = ir.from_proto(model)
    modified = [lowering(copy).modified for lowering in PASSES]
    assert sum(modified) == 1
    proto = ir.to_proto(copy)
    onnx.checker.check_model(proto, full_check=True)
    return proto


CASES = collected()


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float32 in place of float64, at an operator set that the runtime knows."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.opset_import[0].version = min(copy.opset_import[0].version, 21)
    copy.ir_version = min(copy.ir_version, 10)
    for value in (*copy.graph.input, *copy.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return copy


@pytest.mark.parametrize("as_constants", [False, True], ids=["fed", "constant"])
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_gives_the_expected_output(case: Any, as_constants: bool) -> None:
    model = in_float32(case.model)
    graph = model.graph
    for inputs, outputs in case.data_sets:
        arrays = [np.asarray(array) for array in inputs]
        feeds = {
            value.name: array.astype(np.float32) if array.dtype == np.float64 else array
            for value, array in zip(graph.input, arrays)
        }
        if as_constants:
            for value in list(graph.input)[1:]:
                graph.input.remove(value)
                graph.initializer.append(numpy_helper.from_array(feeds.pop(value.name), value.name))
        if case.name in REFUSED:
            with pytest.raises(UntrainableError, match=REFUSED[case.name]):
                lowered(model)
            return
        lower = lowered(model)
        assert not OP_TYPES & {node.op_type for node in lower.graph.node}
        found, expected = run(lower, feeds), np.asarray(outputs[0])
        assert found.shape == expected.shape
        if case.name in OTHERWISE_IN_THIS_RUNTIME:
            expected = run(model, feeds)
        assert np.abs(found - expected).max() <= 1e-5 * max(1, np.abs(expected).max())


def test_there_are_cases_of_every_operator() -> None:
    assert {case.model.graph.node[0].op_type for case in CASES} == OP_TYPES
    assert len(CASES) > 70
