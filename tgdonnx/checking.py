"""Can this model be trained here? Answered operator by operator, before anyone waits.

The answer is found by doing what `tgdonnx.build` and `tgdonnx.train` do first: cut, lower, and if nothing stands in the way,
build artifacts in a temporary place and open their session. For a masked model it is the answer to that selection; for
another, to the largest that scores can make (every filter with a finite importance). Of several outputs, where none is chosen,
it is the answer to the first that can be trained on.

Codes:

    TGD001  the operator set is not supported             TGD010  a node is lowered, and by what
    TGD002  no output, or one of several, was chosen      TGD011  a node trains as it is
    TGD003  no weight, or one of a type, that trains      TGD101  no training runtime is installed
    TGD004  a node cannot be lowered                      TGD102  two runtimes are installed in each other's place
    TGD005  a node has no gradient                        TGD103  the runtime is another version than was measured
    TGD006  the runtime cannot build the gradient         TGD104  a shape that the file declares is wrong
    TGD007  the model computes with integers              TGD105  what training does first was not tried
    TGD008  the runtime cannot open the session           TGD106  training cannot be on the device
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Literal, Optional

import onnx_ir as ir

from tgdonnx.artifacts.forward import adapt, cut, finish, require_trainable
from tgdonnx.artifacts.losses import add_loss, parse_loss
from tgdonnx.artifacts.names import rename_conflicting
from tgdonnx.engines import ENGINES, Engine, EngineName, Objective, Problem, default_engine
from tgdonnx.errors import (
    ArtifactsError,
    IntegerArithmeticError,
    OutputError,
    RuntimeMissingError,
    SelectionError,
    TgdonnxError,
    UntrainableError,
)
from tgdonnx.files.model_file import ModelFile, StrPath, load_model
from tgdonnx.gradients.differentiability import makes_integers, why_no_gradient
from tgdonnx.graphs.operators import is_standard
from tgdonnx.graphs.paths import gradient_path
from tgdonnx.layers import Network, open_network
from tgdonnx.lowering import LOWERINGS, may_lower, prepare
from tgdonnx.masked_model import is_masked, read_masked, require_unmasked
from tgdonnx.runtime import CPU, CPU_NAME, Device, parse_device
from tgdonnx.runtime.availability import inference_remedy, training_remedy, why_not_available
from tgdonnx.runtime.devices import require_device
from tgdonnx.selection import AllLayers, Percentile, Strategy, plan_masks, select
from tgdonnx.tracing import trace_network
from tgdonnx.trial import try_training, why_not_tried

Severity = Literal["error", "warning", "info"]

_TRAINING = ("onnxruntime-training-cpu", "onnxruntime-training")
_INFERENCE = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
_MEASURED = "1.19.2"


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: which kind; stable, see the module.
        severity: an ``error`` stops training, a ``warning`` may.
        node: the node that it is about; empty if it is about the model or the environment.
        op_type: its operator.
        message: what was found.
        remedy: what would help; empty if nothing is wrong.
    """

    code: str
    severity: Severity
    node: str
    op_type: str
    message: str
    remedy: str


@dataclass(frozen=True)
class CheckReport:
    """Whether a model can be trained.

    Attributes:
        trainable: whether there is no error.
        findings: errors first.
    """

    trainable: bool
    findings: tuple[Finding, ...]


def check(
    model: StrPath, *, output: Optional[str] = None, engine: Optional[EngineName] = None, device: str = CPU_NAME
) -> CheckReport:
    """Finds out whether a model, masked or not, can be trained here.

    Args:
        model: the file.
        output: the output to train on, when it has several.
        engine: what shall train it; None for the one of the runtime that is installed.
        device: where it shall train; see `tgdonnx.TrainOptions`.

    Raises:
        DataError: there is no device of that name.
        ModelFileError: no usable model.
        MaskedModelError: its masks do not belong to it.
    """
    chosen = ENGINES[engine or default_engine()]
    where = parse_device(device)
    missing = _missing_device(chosen, where)
    findings = [*_environment(chosen), *missing, *_model(model, output, chosen, CPU if missing else where)]
    order = {"error": 0, "warning": 1, "info": 2}
    findings.sort(key=lambda finding: order[finding.severity])
    return CheckReport(all(finding.severity != "error" for finding in findings), tuple(findings))


def _environment(engine: Engine) -> Iterable[Finding]:
    versions = {}
    for name in (*_TRAINING, *_INFERENCE):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    training = [name for name in _TRAINING if name in versions]
    if engine.name == "onnxruntime-training" and not training:
        yield Finding("TGD101", "error", "", "", "onnxruntime-training is not installed", training_remedy())
    if not versions:
        yield Finding("TGD101", "error", "", "", "no onnxruntime is installed", inference_remedy())
    if len(versions) > 1:
        message = f"{' and '.join(versions)} install the same files: one of them is broken"
        alone = "make a new environment with 'tgdonnx[train]' alone"
        yield Finding("TGD102", "error", "", "", message, why_not_available() or alone)
    for name in training:
        if versions[name] != _MEASURED:
            message = f"{name} is of version {versions[name]}; {_MEASURED} is the one that was measured"
            yield Finding("TGD103", "warning", "", "", message, f"pip install {name}=={_MEASURED}")


def _missing_device(engine: Engine, device: Device) -> list[Finding]:
    if device == CPU:  # that there is a runtime, the other findings tell
        return []
    try:
        engine.require_device(device)
        require_device(device)
    except RuntimeMissingError as error:
        return [_blocked("TGD106", error)]
    return []


def _model(path: StrPath, output: Optional[str], engine: Engine, device: Device) -> list[Finding]:
    file = load_model(path)
    strategy: Strategy = AllLayers()
    if is_masked(file):
        masked = read_masked(path)
        wanted = [name for name, values in masked.masks.items() if values.any()]
        network = masked.network
    else:
        require_unmasked(file)
        try:
            network = open_network(file)
            wanted, strategy = _selectable(network)
        except IntegerArithmeticError as error:
            return [_blocked("TGD007", error)]
        except SelectionError as error:
            return [_blocked("TGD003", error)]
    nodes = sum(1 for _ in network.graph.all_nodes())
    frozen = list(_untrainable_tensors(network, "warning" if wanted else "error"))
    if frozen and not wanted:
        return frozen
    outputs = [str(value.name) for value in network.graph.outputs]
    if output is not None or len(outputs) == 1:
        found, chosen = _training(network, wanted, output, engine), output
    else:
        found, chosen = _of_several_outputs(network, outputs, wanted, engine)
    return [*frozen, *found, *([] if _any_error(found) else _trial(file, nodes, strategy, chosen, engine, device))]


def _any_error(findings: Iterable[Finding]) -> bool:
    return any(finding.severity == "error" for finding in findings)


def _of_several_outputs(
    network: Network, outputs: Sequence[str], wanted: list[str], engine: Engine
) -> tuple[list[Finding], Optional[str]]:
    """Returns what is found of the first output that can be trained on, else of the first, and its name."""
    first: Optional[list[Finding]] = None
    for name in outputs:
        found = _training(network, wanted, name, engine)
        if not _any_error(found):
            message = f"the model has {len(outputs)} outputs; found out for {name!r}, the first that can be trained on"
            remedy = f"choose one with `output`: {', '.join(outputs)}"
            return [Finding("TGD002", "warning", "", "", message, remedy), *found], name
        first = found if first is None else first
    assert first is not None
    return first, None


def _trial(
    file: ModelFile, nodes: int, strategy: Strategy, output: Optional[str], engine: Engine, device: Device
) -> list[Finding]:
    """Does what training does first, as far as this machine can."""
    reason = why_not_tried(file, nodes)
    if reason is None:
        try:
            try_training(file, strategy, output, engine.name, device)
        except UntrainableError as error:
            return [_blocked("TGD006", error)]
        except ArtifactsError as error:
            return [_blocked("TGD008", error)]
        except RuntimeMissingError:
            reason = "the runtime is not installed here"
        except OutputError as error:
            reason = str(error)
        else:
            return []
    message = f"building the gradient and opening the session were not tried: {reason}"
    return [
        Finding("TGD105", "warning", "", "", message, "`tgdonnx.build` and `tgdonnx.dry_run` try it where it can be")
    ]


def _untrainable_tensors(network: Network, severity: Severity) -> Iterable[Finding]:
    """Yields the weights and biases that stay frozen because of how they are stored."""
    for layer in network.layers:
        for parameter in (layer.weight, layer.bias):
            reason = network.why_untrainable(parameter.name) if parameter is not None else None
            if parameter is not None and reason is not None:
                message = f"{parameter.name!r} stays frozen: it {reason.problem}"
                yield Finding("TGD003", severity, layer.name, layer.op_type, message, reason.remedy)


def _training(network: Network, wanted: list[str], output: Optional[str], engine: Engine) -> list[Finding]:
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
            return [*findings, _blocked(code, error)]
        if code == "TGD001":
            findings = _wrong_shapes(network)
    graph = network.graph
    trained = [name for name in wanted if name in graph.initializers]
    findings += _lower(network.model, trained)
    if _any_error(findings):
        return findings
    try:
        finish(network.model, trained)
        if why_not_tried(network.file, nodes) is not None:
            _differentiate(network.model, trained, engine)
    except UntrainableError as error:
        findings.append(_blocked("TGD005" if error.node else "TGD006", error))
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
            remedy = "nothing, for training; other tools may trust the declaration: export the model with right shapes"
            name = str(node.meta.get("name", value.name))
            findings.append(Finding("TGD104", "warning", name, node.op_type, message, remedy))
    return findings


def _shape(sizes: Sequence[Optional[int]]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in sizes)}]"


def _selectable(network: Network) -> tuple[list[str], Strategy]:
    """Returns the tensors in which some selection by score lets something train; if none does, all; and the selection."""
    provenance = trace_network(network)
    strategy: Strategy = Percentile(100)
    try:
        selection = select(provenance, strategy)
    except SelectionError:
        strategy = AllLayers()
        selection = select(provenance, strategy)
    masks = plan_masks(provenance, selection, "paper")
    return [mask.parameter.name for mask in masks if mask.values.any()], strategy


def _lower(model: ir.Model, trained: list[str]) -> list[Finding]:
    """Lowers node by node, and says of every node on the gradient path what becomes of it."""
    before = [node for node in gradient_path(model.graph, trained) if "name" in node.meta]
    told = {node: (str(node.meta["name"]), node.op_type) for node in before}
    findings: dict[str, Finding] = {}
    try:
        prepare(model)
    except UntrainableError as error:
        return [_blocked("TGD004", error)]
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
                findings[name] = _blocked("TGD004", error)
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


def _blocked(code: str, error: TgdonnxError) -> Finding:
    return Finding(code, "error", error.node, error.op_type, error.problem, error.remedy)
