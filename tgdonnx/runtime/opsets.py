"""What an operator means under one operator set and under another; and models of newer sets than the runtime knows.

Most new versions of an operator only admit more data types. Such an operator may be run under its other version; one whose
inputs, outputs or attributes changed may not, unless the change is not used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional

import onnx
import onnx_ir as ir

from tgdonnx.errors import UntrainableError

# The newest that onnxruntime-training 1.19.2 knows (measured).
NEWEST = 21  # of the operator sets
MAX_IR_VERSION = 10
_ONNX = ("", "ai.onnx")


class DowngradeOpset(ir.passes.InPlacePass):
    """Declares a model of a newer opset to be of opset `NEWEST`, if every node means the same there."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass.

        Raises:
            UntrainableError: a node is new, or changed, since opset `NEWEST`.
        """
        version = model.graph.opset_imports.get("", 0)
        if version <= NEWEST:
            return ir.passes.PassResult(model, modified=False)
        reason = _first_difference(model.graph.all_nodes(), version)
        if reason is not None:
            raise UntrainableError(reason, remedy=f"training knows opset {NEWEST}: export the model with it")
        model.graph.opset_imports[""] = NEWEST
        return ir.passes.PassResult(model, modified=True)


def as_known(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Optional[str]]:
    """Returns a model as runtimes know it that know no newer versions than `NEWEST` and `MAX_IR_VERSION`.

    The IR version says how a file is to be read, and what is in memory is read already. Newer ones brought data types, which a
    runtime either knows or refuses, and hints. The operator set is lowered where every node means the same in `NEWEST`.

    Args:
        model: any model; it stays as it is, and is what is returned if nothing has to change.

    Returns:
        The model, in which graph and functions are the given one's; and why its operator set is still a newer one, or None.
    """
    newer = [entry for entry in _imports(model) if entry.version > NEWEST]
    if model.ir_version <= MAX_IR_VERSION and not newer:
        return model, None
    problem = None
    if newer:
        opened = ir.from_proto(model)
        bodies = [(model.opset_import, opened.graph.all_nodes())]
        bodies += [
            (f.opset_import, opened.functions[f.domain, f.name, f.overload].all_nodes()) for f in model.functions
        ]
        problems = (_first_difference(nodes, _version(imports)) for imports, nodes in bodies)
        problem = next(filter(None, problems), None)
    known = onnx.ModelProto()
    known.CopyFrom(model)
    known.ir_version = min(model.ir_version, MAX_IR_VERSION)
    if problem is None:
        for entry in _imports(known):
            entry.version = min(entry.version, NEWEST)
    return known, problem


def _imports(model: onnx.ModelProto) -> list[onnx.OperatorSetIdProto]:
    holders = [model, *model.functions]
    return [entry for holder in holders for entry in holder.opset_import if entry.domain in _ONNX]


def _version(imports: Iterable[onnx.OperatorSetIdProto]) -> int:
    return max((entry.version for entry in imports if entry.domain in _ONNX), default=0)


def _first_difference(nodes: Iterable[ir.Node], version: int) -> Optional[str]:
    """Says which node of opset ``version``, if that is newer than `NEWEST`, means something else there, and how."""
    for node in nodes if version > NEWEST else ():
        reason = difference(node, version, NEWEST) if node.domain in _ONNX else None
        if reason is not None:
            name = node.meta.get("name") or node.name or node.outputs[0].name
            return f"node {str(name)!r} ({node.op_type}) {reason}"
    return None


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
