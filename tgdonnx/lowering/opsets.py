"""What an operator means under one operator set and under another; and models of newer sets than the runtime knows.

Most new versions of an operator only admit more data types. Such an operator may be run under its other version; one whose
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
                reason = difference(node, version, NEWEST)
                if reason is not None:
                    name = node.meta.get("name") or node.name or node.outputs[0].name
                    raise UntrainableError(
                        f"node {str(name)!r} ({node.op_type}) {reason}; "
                        f"training knows opset {NEWEST}: export the model with it"
                    )
        model.graph.opset_imports[""] = NEWEST
        return ir.passes.PassResult(model, modified=True)


def difference(node: ir.Node, written: int, read: int) -> Optional[str]:
    """Says how a node that was written for one opset means something else under another; None if it does not.

    It compares the two definitions of the operator; what they say only in prose it cannot tell.
    """
    try:
        theirs = onnx.defs.get_schema(node.op_type, written)
    except onnx.defs.SchemaError:
        return f"is not part of opset {written}"
    try:
        ours = onnx.defs.get_schema(node.op_type, read)
    except onnx.defs.SchemaError:
        return f"is not part of opset {read}"
    if theirs.since_version == ours.since_version:
        return None
    if ours.deprecated:
        return f"is not part of opset {read}"
    for name in node.attributes:
        if name not in ours.attributes:
            return f"has the attribute {name!r}, which opset {read} does not know"
        if ours.attributes[name].type.name != node.attributes[name].type.name:  # type: ignore[attr-defined]  # an enum
            return f"has the attribute {name!r}, which is of another type in opset {read}"
    for name in ours.attributes.keys() - set(node.attributes):
        if name not in theirs.attributes:
            if ours.attributes[name].required:
                return f"lacks the attribute {name!r}, which opset {read} requires"
        elif ours.attributes[name].default_value != theirs.attributes[name].default_value:
            return f"relies on the default of {name!r}, which is another in opset {read}"
        elif ours.attributes[name].required and not theirs.attributes[name].required:
            return f"lacks the attribute {name!r}, which opset {read} requires"
    for kind, used, formal, other in (
        ("input", node.inputs, ours.inputs, theirs.inputs),
        ("output", node.outputs, ours.outputs, theirs.outputs),
    ):
        names, others = [parameter.name for parameter in formal], [parameter.name for parameter in other]
        common = min(len(names), len(others))
        if names[:common] != others[:common] or (len(used) > len(names) and not _is_variadic(formal)):
            return f"has other {kind}s in opset {read}"
        if len(used) < sum(p.option == onnx.defs.OpSchema.FormalParameterOption.Single for p in formal):
            return f"has fewer {kind}s than opset {read} requires"
    return None


def _is_variadic(formal: Sequence[onnx.defs.OpSchema.FormalParameter]) -> bool:
    return bool(formal) and formal[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
