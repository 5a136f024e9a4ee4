"""Whether every node between what trains and the output can be trained through: by doing what build does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from typing import Optional

import onnx_ir as ir

from tgdonnx.artifacts.forward import adapt, cut, finish, require_trainable
from tgdonnx.artifacts.losses import add_loss, parse_loss
from tgdonnx.artifacts.names import rename_conflicting
from tgdonnx.checking.codes import CODES
from tgdonnx.checking.findings import Finding, any_error, blocked
from tgdonnx.engines import Engine, Objective, Problem
from tgdonnx.errors import (
    RuntimeMissingError,
    UntrainableError,
)
from tgdonnx.gradients.differentiability import makes_integers, why_no_gradient
from tgdonnx.graphs.operators import is_standard
from tgdonnx.graphs.paths import gradient_path
from tgdonnx.layers import Network
from tgdonnx.lowering import LOWERINGS, may_lower, prepare
from tgdonnx.trial import why_not_tried


def operator_findings(network: Network, wanted: list[str], output: Optional[str], engine: Engine) -> list[Finding]:
    """Does what build does, and says how far it comes."""
    network = network.clone()
    nodes = sum(1 for _ in network.graph.all_nodes())
    stages: tuple[tuple[str, Callable[[], object]], ...] = (
        ("TGD001", lambda: adapt(network)),
        ("TGD003", lambda: require_trainable(network, wanted)),
        ("TGD002", lambda: cut(network, wanted, () if output is None else (output,))),
    )
    findings: list[Finding] = []
    for code, stage in stages:
        try:
            stage()
        except UntrainableError as error:
            return [*findings, blocked(code, error)]
        if code == "TGD001":
            findings = _wrong_shapes(network)
    graph = network.graph
    trained = [name for name in wanted if name in graph.initializers]
    findings += _lower(network.model, trained)
    if any_error(findings):
        return findings
    try:
        finish(network.model, trained)
        if why_not_tried(network.file, nodes) is not None:
            _differentiate(network.model, trained, engine)
    except UntrainableError as error:
        findings.append(blocked("TGD005" if error.node else "TGD006", error))
    return findings


def _differentiate(model: ir.Model, trained: Collection[str], engine: Engine) -> None:
    """Builds the gradient of a model that is too large for more, in memory."""
    renamed, graph = rename_conflicting(model), model.graph
    output = graph.outputs[0]
    graph.outputs[:] = [add_loss(model, output, parse_loss("mse")), output]
    parameters = tuple(renamed.get(name, name) for name in trained)
    with contextlib.suppress(RuntimeMissingError):  # TGD101 says so
        engine.differentiate(Problem(model, parameters, Objective()))


def _wrong_shapes(network: Network) -> list[Finding]:
    """Warns of shapes that the file declares, but that cannot be; what is inferred from the inputs is used."""
    graph = network.file.proto.graph
    made = {str(value.name) for node in network.graph for value in node.outputs}
    declared = {
        value.name: value.type.tensor_type for value in (*graph.value_info, *graph.output) if value.name in made
    }
    findings = []
    for node in network.graph:
        for value in node.outputs:
            told = declared.get(str(value.name))
            if told is None or not told.HasField("shape") or value.shape is None:
                continue
            sizes = [dim.dim_value if dim.dim_value > 0 else None for dim in told.shape.dim]
            known = [dim if isinstance(dim, int) else None for dim in value.shape]
            if len(sizes) == len(known) and all(a == b or a is None or b is None for a, b in zip(sizes, known)):
                continue
            message = f"{value.name!r} is declared as {_shape(sizes)}, but is {_shape(known)}; the latter is used"
            name = str(node.meta.get("name", value.name))
            findings.append(Finding("TGD104", "warning", name, node.op_type, message, CODES["TGD104"].remedy))
    return findings


def _shape(sizes: Sequence[Optional[int]]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in sizes)}]"


def _lower(model: ir.Model, trained: list[str]) -> list[Finding]:
    """Lowers node by node, and says of every node on the gradient path what becomes of it."""
    before = [node for node in gradient_path(model.graph, trained) if "name" in node.meta]
    told = {node: (str(node.meta["name"]), node.op_type) for node in before}
    findings: dict[str, Finding] = {}
    try:
        prepare(model)
    except UntrainableError as error:
        return [blocked("TGD004", error)]
    for lowering in LOWERINGS:
        path = gradient_path(model.graph, trained)
        for node in path:
            standard = is_standard(node)
            if node.op_type not in lowering.op_types or not standard or not may_lower(node):
                continue
            name = str(node.meta.get("name", node.outputs[0].name))
            try:
                if lowering([node], path)(model).modified and node in told:
                    what = f"lowered by {lowering.__name__}"
                    findings[name] = Finding("TGD010", "info", name, node.op_type, what, "")
            except UntrainableError as error:
                findings[name] = blocked("TGD004", error)
    for node in gradient_path(model.graph, trained):
        name = str(node.meta.get("name", node.outputs[0].name))
        problem = why_no_gradient(node)
        if problem is None:
            if node in told and name not in findings:
                findings[name] = Finding("TGD011", "info", name, node.op_type, "trains as it is", "")
        elif name not in findings or findings[name].severity != "error":
            operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            reason, remedy = problem
            message = f"{operator} {reason}, and lies between a filter that may retrain and the output"
            code = "TGD007" if makes_integers(node) else "TGD005"
            findings[name] = Finding(code, "error", name, node.op_type, message, remedy)
    for name, op_type in told.values():
        if name not in findings:
            findings[name] = Finding("TGD010", "info", name, op_type, "lowered", "")
    return list(findings.values())
