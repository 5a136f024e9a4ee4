"""Integers that stand for real numbers: what is computed is what ONNX Runtime computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support import models
from tests.support.models import Array
from tests.support.sessions import open_session
from tests.support.training_models import text_model
from tgdonnx.layers import Network, Parameter, Quantization, open_network

TYPES = ["INT8", "UINT8", "INT16", "UINT16"]


def grid(dtype: str, *, per_axis: bool, seed: int = 0) -> Quantization:
    rng = np.random.default_rng(seed)
    kind = ir.DataType[dtype].numpy()
    limits = np.iinfo(kind)
    size: Any = (4,) if per_axis else ()
    scale = rng.uniform(0.01, 0.05, size).astype(np.float32)
    return Quantization(scale, np.asarray(rng.integers(limits.min, limits.max, size), kind), 1, ir.DataType[dtype])


def numbers(of: Quantization) -> Array:
    """Numbers inside the limits and beyond them, among them the borders between integers as float32 has them."""
    rng = np.random.default_rng(1)
    least, most = of.limits
    spread = np.where(
        rng.random((50, 4, 6)) < 0.5, rng.integers(least, most, (50, 4, 6)), rng.choice(of.limits, (50, 4, 6))
    )
    integers = spread + rng.integers(-20, 20, (50, 4, 6)) + rng.choice([0, 0.5, 0.3, -0.5], (50, 4, 6))
    scale, zero_point = of.scale.reshape(-1, 1), of.zero_point.astype(np.float64).reshape(-1, 1)
    return ((integers - zero_point) * scale).astype(np.float32)


def by_the_runtime(op_type: str, x: Array, of: Quantization) -> Array:
    node = helper.make_node(op_type, ["x", "s", "z"], ["y"], axis=1)
    kinds = [TensorProto.FLOAT, of.dtype.value]
    kinds = kinds if op_type == "QuantizeLinear" else kinds[::-1]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kinds[0], x.shape)],
        [helper.make_tensor_value_info("y", kinds[1], x.shape)],
        [numpy_helper.from_array(of.scale, "s"), numpy_helper.from_array(of.zero_point, "z")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (y,) = open_session(model).run(None, {"x": x})
    return np.asarray(y)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("per_axis", [False, True])
def test_quantises_and_dequantises_as_the_runtime_does(dtype: str, per_axis: bool) -> None:
    of = grid(dtype, per_axis=per_axis)
    x = numbers(of)
    integers = by_the_runtime("QuantizeLinear", x, of)
    assert {int(integers.min()), int(integers.max())} == set(of.limits)
    np.testing.assert_array_equal(of.quantize(x), integers)
    assert of.quantize(x).dtype == integers.dtype
    np.testing.assert_array_equal(of.dequantize(integers), by_the_runtime("DequantizeLinear", integers, of))


@pytest.mark.parametrize("dtype", TYPES)
def test_quantising_undoes_dequantising(dtype: str) -> None:
    of = grid(dtype, per_axis=True)
    integers = np.broadcast_to(np.arange(of.limits[0], of.limits[1] + 1)[:, None], (of.limits[1] - of.limits[0] + 1, 4))
    np.testing.assert_array_equal(of.quantize(of.dequantize(integers)), integers)


def test_biases_of_32_bits_are_limited_and_keep_24_bits() -> None:
    of = Quantization(np.float32(2.0**-10), np.int32(0), 1, ir.DataType.INT32)
    integers = np.array([0, -1, 2**23, -(2**24), 2**31 - 1, -(2**31)])
    np.testing.assert_array_equal(of.quantize(of.dequantize(integers))[:4], integers[:4])
    np.testing.assert_array_equal(of.quantize(np.array([1e30, -1e30])), [2**31 - 1, -(2**31)])


def network_of(tmp_path: Path, text: str, **tensors: Array) -> Network:
    model = text_model(
        f"g (float[N, 2, 8] x) => (float[N, m, w] y) {{ {text} y = Conv(a, last) }}",
        opset=21,
        last=(3, 4, 1),
        **tensors,
    )
    return open_network(models.save(model, tmp_path / "model.onnx"))


def test_integers_are_stored_through_what_lies_before_their_dequantizer(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(-128, 128, (2, 1, 4)).astype(np.int8)
    scale = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    network = network_of(
        tmp_path,
        """t = Transpose<perm = [2, 0, 1]>(w)
        d = DequantizeLinear<axis = 0>(t, s)
        a = Conv(x, d)""",
        w=stored,
        s=scale,
    )
    (parameter,) = network.dequantized["w"]
    np.testing.assert_array_equal(parameter.dequantized(), stored.astype(np.float32) * scale)
    np.testing.assert_array_equal(parameter.quantized(parameter.dequantized() + 0.04 * scale), stored)
    assert network.why_untrainable("w") is None


def test_float_weights_behind_a_pair_are_read_rounded(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).normal(size=(4, 2, 1)).astype(np.float32)
    network = network_of(
        tmp_path,
        """q = QuantizeLinear(w, s, z)
        d = DequantizeLinear(q, s, z)
        a = Conv(x, d)""",
        w=stored,
        s=np.float32(0.01),
        z=np.int8(3),
    )
    weight = network.layers[0].weight
    assert isinstance(weight, Parameter)
    assert (weight.name, weight.quantization, network.why_untrainable("w")) == ("w", None, None)
    expected = (np.clip(np.rint(stored / np.float32(0.01)) + 3, -128, 127) - 3).astype(np.float32) * np.float32(0.01)
    np.testing.assert_array_equal(weight.read(), expected)


WAYS_NOT_TO_TRAIN = {
    "4 bits": (
        "d = DequantizeLinear(w, s) a = Conv(x, d)",
        {"w": np.ones((4, 2, 1), ir.DataType.INT4.numpy())},
        "is INT4; training handles floating-point weights",
    ),
    "no scale": (
        "i = Cast<to = 1>(w) a = Conv(x, i)",
        {"w": np.ones((4, 2, 1), np.int8)},
        "is INT8; training handles floating-point weights",
    ),
    "two scales": (
        "d = DequantizeLinear(w, s) e = DequantizeLinear(w, other) b = Conv(x, d) c = Conv(x, e) a = Add(b, c)",
        {"w": np.ones((4, 2, 1), np.int8), "other": np.float32(0.2)},
        "is dequantised in several ways; store it once for each",
    ),
}


@pytest.mark.parametrize("case", WAYS_NOT_TO_TRAIN)
def test_integers_that_cannot_train_say_why(case: str, tmp_path: Path) -> None:
    text, tensors, reason = WAYS_NOT_TO_TRAIN[case]
    network = network_of(tmp_path, text, s=np.float32(0.1), **tensors)
    found = network.why_untrainable("w")
    assert found is not None
    assert str(found).startswith(reason)


@pytest.mark.parametrize("kind", [TensorProto.INT8, TensorProto.FLOAT16])
def test_numbers_of_varying_length_cannot_be_overwritten(kind: int, tmp_path: Path) -> None:
    step = "DequantizeLinear(w, s)" if kind == TensorProto.INT8 else "Cast<to = 1>(w)"
    values = np.arange(8).reshape(4, 2, 1).astype(helper.tensor_dtype_to_np_dtype(kind))
    model = text_model(
        f"g (float[N, 2, 8] x) => (float[N, m, w] y) {{ d = {step} y = Conv(x, d) }}", w=values, s=np.float32(0.1)
    )
    model.graph.initializer[0].CopyFrom(helper.make_tensor("w", kind, values.shape, values.reshape(-1)))
    assert not model.graph.initializer[0].raw_data
    network = open_network(models.save(model, tmp_path / "model.onnx"))
    assert (
        str(network.why_untrainable("w"))
        == "is stored as numbers of varying length; save the model again, with raw data"
    )
