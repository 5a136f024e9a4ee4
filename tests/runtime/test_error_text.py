"""What the runtime says, without its source and status around it."""

from __future__ import annotations

import pytest

from tgdonnx.runtime import reason_of


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "RuntimeError"),
        ("plain", "plain"),
        ("[ONNXRuntimeError] : 10 : INVALID_GRAPH : This is an invalid model.\nmore", "This is an invalid model."),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Reshape node. Name:'head/r' "
            "Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:45 "
            "onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, onnxruntime::TensorShapeVector&, bool) "
            "input_shape_size == size was false. The input tensor cannot be reshaped",
            "Reshape node 'head/r': input_shape_size == size was false. The input tensor cannot be reshaped",
        ),
        (
            "Load model from a.onnx failed:/onnxruntime_src/onnxruntime/core/graph/model.cc:165 onnxruntime::Model::Model("
            "onnx::ModelProto&&, const onnxruntime::ModelOptions&) ModelProto does not have a graph.",
            "Load model from a.onnx failed:ModelProto does not have a graph.",
        ),
        (
            "/onnxruntime_src/orttraining/orttraining_pybind_state.cc:945 onnxruntime::python::add(pybind11::module&)::"
            "<lambda(const std::string&)> [ONNXRuntimeError] : 1 : FAIL : checkpoint.cc:867 ToCheckpointState "
            "Checkpoint verification failed.",
            "ToCheckpointState Checkpoint verification failed.",
        ),
        (
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Add node. Name:'' "
            "Status Message: sizes differ",
            "Add node: sizes differ",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running MatMul node. Name:'' Status Message: "
            "matmul_helper.h:180 Compute MatMul dimension mismatch",
            "MatMul node: Compute MatMul dimension mismatch",
        ),
    ],
)
def test_the_reason_stays_and_the_rest_goes(said: str, reason: str) -> None:
    assert reason_of(RuntimeError(said)) == reason


def test_an_endless_reason_is_cut() -> None:
    reason = reason_of(RuntimeError("no kernel for " + "node " * 1000))
    assert len(reason) < 420
    assert reason.endswith(" ...")
