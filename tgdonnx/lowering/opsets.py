"""Models of newer operator sets than the runtime knows.

Most new versions of an operator only admit more data types. Such an operator may be run under its older version; one whose
inputs, outputs or attributes changed may not, unless the change is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import onnx
import onnx_ir as ir

from tgdonnx.errors import UntrainableError

NEWEST = 21  # of the operator sets that onnxruntime-training 1.19.2 knows


class LowerOpset(ir.passes.InPlacePass):
    """Declares a model of a newer opset to be of opset `NEWEST`, if every node means the same there."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass.

        Raises:
            UntrainableError: a node is new, or changed, since opset `NEWEST`.
        """
        version = model.graph.opset_imports.get("", 0)
        if version <= NEWEST:
            return ir.passes.PassResult(model, modified=False)
        for node in model.graph.all_nodes():
            if node.domain in ("", "ai.onnx"):
                reason = _difference(node, version)
                if reason is not None:
                    name = node.name or node.outputs[0].name
                    raise UntrainableError(
                        f"node {name!r} ({node.op_type}) {reason}; training knows opset {NEWEST}: export the model with it"
                    )
        model.graph.opset_imports[""] = NEWEST
        return ir.passes.PassResult(model, modified=True)


def _difference(node: ir.Node, version: int) -> Optional[str]:
    """Says how a node means something else under opset `NEWEST`; None if it does not."""
    try:
        new = onnx.defs.get_schema(node.op_type, version)
    except onnx.defs.SchemaError:
        return f"is not part of opset {version}"
    if new.since_version <= NEWEST:
        return None
    try:
        old = onnx.defs.get_schema(node.op_type, NEWEST)
    except onnx.defs.SchemaError:
        return f"is new in opset {new.since_version}"
    for name in node.attributes:
        if name not in old.attributes:
            return f"has the attribute {name!r}, which is new since opset {NEWEST}"
    for name in old.attributes.keys() & new.attributes.keys() - set(node.attributes):
        if old.attributes[name].default_value != new.attributes[name].default_value:
            return f"relies on the default of {name!r}, which changed since opset {NEWEST}"
    for kind, used, formal in (("input", node.inputs, old.inputs), ("output", node.outputs, old.outputs)):
        names = [parameter.name for parameter in formal]
        newer = [p.name for p in (new.inputs if kind == "input" else new.outputs)]
        if names != newer[: len(names)] or (len(used) > len(names) and not _is_variadic(formal)):
            return f"has other {kind}s since opset {new.since_version}"
    return None


def _is_variadic(formal: Sequence[onnx.defs.OpSchema.FormalParameter]) -> bool:
    return bool(formal) and formal[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
