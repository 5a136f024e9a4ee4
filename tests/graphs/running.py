"""One node of every operator of ONNX that computes with numbers alone, to be run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator

from tests.support.sessions import open_session

Array = NDArray[Any]
Schema = onnx.defs.OpSchema
SHAPE = (2, 3, 4)
OPSET = 21
_REQUIRED: Mapping[str, Mapping[str, Any]] = {"Cast": {"to": 6}, "BitShift": {"direction": "LEFT"}}
_RANDOM = {"Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike"}
_KINDS = ("tensor(float)", "tensor(uint8)", "tensor(bool)")  # what is tried, in this order


def operators() -> list[Schema]:
    """Returns the newest form of each operator that takes at least one tensor and asks for no attribute but for a few."""
    newest = {schema.name: schema for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    return [
        schema
        for _, schema in sorted(newest.items())
        if schema.min_input >= 1
        and not schema.deprecated
        and schema.name not in _RANDOM
        and all(name in _REQUIRED.get(schema.name, {}) for name, a in schema.attributes.items() if a.required)
    ]


def inputs_of(schema: Schema, seed: int = 0) -> Optional[list[Array]]:
    """Returns arrays of one shape for the inputs that an operator needs, of several two; None where it takes no such."""
    rng = np.random.default_rng(seed)
    formals = list(schema.inputs)
    variadic = formals[-1].option == Schema.FormalParameterOption.Variadic
    count = 2 if variadic else schema.min_input
    arrays = []
    for place in range(count):
        kinds = formals[min(place, len(formals) - 1)].types
        kind = next((kind for kind in _KINDS if kind in kinds), None)
        if kind is None:
            return None
        if kind == "tensor(float)":
            arrays.append(rng.uniform(0.1, 0.9, SHAPE).astype(np.float32))
        elif kind == "tensor(bool)":
            arrays.append(rng.integers(0, 2, SHAPE).astype(bool))
        else:
            arrays.append(rng.integers(1, 4, SHAPE).astype(np.uint8))
    if schema.name == "Acosh":  # which begins where Atanh ends
        arrays[0] += np.float32(1)
    return arrays


def model_of(schema: Schema, arrays: Sequence[Array]) -> onnx.ModelProto:
    opset = max(OPSET, schema.since_version)
    names = [f"x{place}" for place in range(len(arrays))]
    node = helper.make_node(schema.name, names, ["y"], **_REQUIRED.get(schema.name, {}))
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for name, a in zip(names, arrays)
    ]
    graph = helper.make_graph(
        [node], "g", inputs, [helper.make_tensor_value_info("y", onnx.TensorProto.UNDEFINED, None)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(model)
    model.graph.output[0].CopyFrom(inferred.graph.output[0])
    return model


class Runner:
    """Runs a node: with the runtime, or, of operators that it does not have, with ONNX's reference implementation."""

    def __init__(self, schema: Schema, arrays: Sequence[Array]) -> None:
        model = model_of(schema, arrays)
        try:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            session = open_session(model, options)
            self._run = session.run
        except Exception:  # not implemented for these types, or too new
            self._run = ReferenceEvaluator(model).run
        self(arrays)

    def __call__(self, arrays: Sequence[Array]) -> Array:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # of what is not a number
            return self._once(arrays)

    def _once(self, arrays: Sequence[Array]) -> Array:
        return np.asarray(self._run(None, {f"x{place}": array for place, array in enumerate(arrays)})[0])
