"""The node tests of the ONNX standard, as far as they are of our operators: the lowered graph gives the outputs they expect.

They are written for newer operator sets too; those of our operators differ there in nothing but the types they allow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.lowering.backend_cases import cases_of
from tests.lowering.gradcheck import lowered_by, run
from tgdonnx.lowering.global_pool import LowerGlobalPool
from tgdonnx.lowering.pad import LowerPad
from tgdonnx.lowering.pooling import LowerPooling

PASSES = (LowerGlobalPool(), LowerPad(), LowerPooling())
OP_TYPES = frozenset().union(*(lowering.op_types for lowering in PASSES))
FLOAT, INT32 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32
# Left out: the original operator does something else in onnxruntime 1.19 than the case expects, or it is refused.
NOT_IN_THIS_RUNTIME = {
    "test_averagepool_2d_ceil_last_window_starts_on_pad": "onnxruntime 1.19 keeps a window that lies in the padding",
    "test_maxpool_2d_ceil_output_size_reduce_by_one": "onnxruntime 1.19 keeps a window that lies in the padding",
    "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True": "onnxruntime 1.19 counts differently",
    "test_maxpool_with_argmax_2d_precomputed_pads": "the indices are an output",
    "test_maxpool_with_argmax_2d_precomputed_strides": "the indices are an output",
}


def collected() -> list[Any]:
    ours = []
    for case in cases_of(OP_TYPES):
        if "_expanded" not in case.name and case.name not in NOT_IN_THIS_RUNTIME:
            kind = case.model.graph.input[0].type.tensor_type.elem_type
            if kind in ((FLOAT, INT32) if case.model.graph.node[0].op_type == "Pad" else (FLOAT,)):
                ours.append(case)
    return ours


CASES = collected()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_gives_the_expected_output(case: Any) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    model.opset_import[0].version = min(model.opset_import[0].version, 21)
    model.ir_version = min(model.ir_version, 10)
    for inputs, outputs in case.data_sets:
        feeds = dict(zip([value.name for value in graph.input], map(np.asarray, inputs)))
        expected = np.asarray(outputs[0])
        if graph.input[0].type.tensor_type.elem_type == INT32:  # Pad; others of its cases are float32
            graph.input[0].type.tensor_type.elem_type = graph.output[0].type.tensor_type.elem_type = FLOAT
            feeds["x"], expected = feeds["x"].astype(np.float32), expected.astype(np.float32)
        # Pads, axes and limits are inputs there, but constants in a model that trains.
        for value in [value for value in graph.input if value.type.tensor_type.elem_type == onnx.TensorProto.INT64]:
            graph.input.remove(value)
            graph.initializer.append(numpy_helper.from_array(feeds.pop(value.name), value.name))
        found = run(lowered_by(model, *PASSES), feeds)
        assert found.shape == expected.shape
        largest = np.abs(expected[np.isfinite(expected)]).max(initial=1)
        assert np.allclose(found, expected, rtol=1e-5, atol=1e-6 * largest)


def test_there_are_cases_of_every_operator_but_one() -> None:
    assert OP_TYPES - {case.model.graph.node[0].op_type for case in CASES} == {"GlobalLpPool"}
    assert len(CASES) > 35
