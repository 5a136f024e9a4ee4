"""The answer to whether a model can be trained here: file, environment, operators, and a try of what training does first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from tgdonnx.checking.codes import CODES, Severity
from tgdonnx.checking.environment import device_findings, environment_findings
from tgdonnx.checking.findings import Finding, any_error, blocked
from tgdonnx.checking.operators import operator_findings
from tgdonnx.engines import DEFAULT_ENGINE, ENGINES, Engine, EngineName
from tgdonnx.errors import (
    ArtifactsError,
    IntegerArithmeticError,
    OutputError,
    RuntimeMissingError,
    SelectionError,
    UntrainableError,
)
from tgdonnx.files.model_file import ModelFile, ModelSource, load_model
from tgdonnx.layers import Network, open_network
from tgdonnx.masked_model import is_masked, read_masked, require_unmasked
from tgdonnx.presenting import Presented
from tgdonnx.runtime import CPU, CPU_NAME, Device, parse_device
from tgdonnx.selection import AllLayers, Percentile, Strategy, plan_masks, select
from tgdonnx.tracing import trace_network
from tgdonnx.trial import try_training, why_not_tried


@dataclass(frozen=True, repr=False)
class CheckReport(Presented):
    """Whether a model can be trained.

    Attributes:
        trainable: whether there is no error.
        findings: errors first.
    """

    trainable: bool
    findings: tuple[Finding, ...]


def check(
    model: ModelSource, *, output: Optional[str] = None, engine: EngineName = DEFAULT_ENGINE, device: str = CPU_NAME
) -> CheckReport:
    """Finds out whether a model, masked or not, can be trained here.

    Args:
        model: the file, or a model in memory; see `tgdonnx.files.in_memory`.
        output: the output to train on, when it has several.
        engine: what shall train it.
        device: where it shall train; see `tgdonnx.TrainOptions`.

    Raises:
        DataError: there is no device of that name.
        ModelFileError: no usable model.
        MaskedModelError: its masks do not belong to it.
    """
    chosen = ENGINES[engine]
    where = parse_device(device)
    missing = device_findings(chosen, where)
    findings = [*environment_findings(chosen), *missing, *_model(model, output, chosen, CPU if missing else where)]
    order = {"error": 0, "warning": 1, "info": 2}
    findings.sort(key=lambda finding: order[finding.severity])
    return CheckReport(all(finding.severity != "error" for finding in findings), tuple(findings))


def _model(model: ModelSource, output: Optional[str], engine: Engine, device: Device) -> list[Finding]:
    file = load_model(model)
    strategy: Strategy = AllLayers()
    if is_masked(file):
        masked = read_masked(file)
        wanted = [name for name, values in masked.masks.items() if values.any()]
        network = masked.network
    else:
        require_unmasked(file)
        try:
            network = open_network(file)
            wanted, strategy = _selectable(network)
        except IntegerArithmeticError as error:
            return [blocked("TGD007", error)]
        except SelectionError as error:
            return [blocked("TGD003", error)]
    nodes = sum(1 for _ in network.graph.all_nodes())
    frozen = list(_untrainable_tensors(network, "warning" if wanted else "error"))
    if frozen and not wanted:
        return frozen
    outputs = [str(value.name) for value in network.graph.outputs]
    if output is not None or len(outputs) == 1:
        found, chosen = operator_findings(network, wanted, output, engine), output
    else:
        found, chosen = _of_several_outputs(network, outputs, wanted, engine)
    return [*frozen, *found, *([] if any_error(found) else _trial(file, nodes, strategy, chosen, engine, device))]


def _of_several_outputs(
    network: Network, outputs: Sequence[str], wanted: list[str], engine: Engine
) -> tuple[list[Finding], Optional[str]]:
    """Returns what is found of the first output that can be trained on, else of the first, and its name."""
    first: Optional[list[Finding]] = None
    for name in outputs:
        found = operator_findings(network, wanted, name, engine)
        if not any_error(found):
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
            return [blocked("TGD006", error)]
        except ArtifactsError as error:
            return [blocked("TGD008", error)]
        except RuntimeMissingError:
            reason = "the runtime is not installed here"
        except OutputError as error:
            reason = str(error)
        else:
            return []
    message = f"building the gradient and opening the session were not tried: {reason}"
    return [Finding("TGD105", "warning", "", "", message, CODES["TGD105"].remedy)]


def _untrainable_tensors(network: Network, severity: Severity) -> Iterable[Finding]:
    """Yields the weights and biases that stay frozen because of how they are stored."""
    for layer in network.layers:
        for parameter in (layer.weight, layer.bias):
            reason = network.why_untrainable(parameter.name) if parameter is not None else None
            if parameter is not None and reason is not None:
                message = f"{parameter.name!r} stays frozen: it {reason.problem}"
                yield Finding("TGD003", severity, layer.name, layer.op_type, message, reason.remedy)


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
