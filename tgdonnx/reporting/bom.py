"""The record of a tuned model as a CycloneDX 1.6 document (ML-BOM).

The document is made by the library cyclonedx-python-lib: the tuned model is its subject, of the type machine-learning-model,
with the vendor's as its ancestor, and data sets are components of the type data. What the library (11) has no words for is the
model card of a component; it is put into the JSON as the schema of 1.6 has it.
"""

from __future__ import annotations

import importlib
import json
from typing import Any, Optional

from tgdonnx.errors import RuntimeMissingError
from tgdonnx.reporting.card import Card, DataFacts, Measured
from tgdonnx.reporting.proof import FileFacts

_SUBJECT = "tuned-model"


def require_cyclonedx() -> Any:
    """Returns the library's module ``cyclonedx.model``.

    Raises:
        RuntimeMissingError: it is not installed.
    """
    try:
        return importlib.import_module("cyclonedx.model")
    except ImportError as error:
        raise RuntimeMissingError(
            f"a CycloneDX document needs cyclonedx-python-lib ({error})", remedy="pip install 'tgdonnx[bom]'"
        ) from error


def bom_of(card: Card) -> bytes:
    """Returns the document, as JSON.

    Raises:
        RuntimeMissingError: the library is not installed.
    """
    require_cyclonedx()
    component, output, schema = (
        importlib.import_module(f"cyclonedx.{name}") for name in ("model.component", "output", "schema")
    )
    bom = importlib.import_module("cyclonedx.model.bom").Bom()
    subject = _model(card.tuned, "the tuned model", bom_ref=_SUBJECT)
    vendor = _model(card.vendor, "the vendor's model", bom_ref="vendor-model")
    subject.pedigree = component.Pedigree(ancestors=[vendor], notes=_what_changed(card))
    subject.properties.update(_properties(card))
    bom.metadata.component = subject
    bom.metadata.tools.components.add(
        component.Component(name="tgdonnx", version=card.tool, type=component.ComponentType.APPLICATION)
    )
    data = [_data(number, each) for number, each in enumerate(card.data, 1)]
    bom.components.update(data)
    bom.register_dependency(subject, data)
    made = output.make_outputter(bom, schema.OutputFormat.JSON, schema.SchemaVersion.V1_6).output_as_string()
    document = json.loads(made)
    document["metadata"]["component"]["modelCard"] = _model_card(card)
    return json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _model(file: FileFacts, role: str, *, bom_ref: str) -> Any:
    component, model = importlib.import_module("cyclonedx.model.component"), require_cyclonedx()
    hashes = [] if file.sha256 is None else [model.HashType(alg=model.HashAlgorithm.SHA_256, content=file.sha256)]
    return component.Component(
        name=file.name or role,
        type=component.ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=bom_ref,
        description=role,
        hashes=hashes,
    )


def _data(number: int, data: DataFacts) -> Any:
    component, model = importlib.import_module("cyclonedx.model.component"), require_cyclonedx()
    facts = {"samples": data.samples, "cases": data.cases, "files": data.files, "fingerprint": data.fingerprint}
    told = [("told", each) for each in data.told]
    return component.Component(
        name=data.role,
        type=component.ComponentType.DATA,
        bom_ref=f"data-{number}",
        description=data.where,
        properties=[
            model.Property(name=f"tgdonnx:{name}", value=str(value)) for name, value in (*facts.items(), *told)
        ],
    )


def _properties(card: Card) -> list[Any]:
    model, proof = require_cyclonedx(), card.proof
    facts: dict[str, Optional[str]] = {
        "selection": json.dumps(card.selection, ensure_ascii=False, default=str),
        "of run": str(card.of_run).lower(),
        "trained share of weights": None if card.trained is None else f"{card.trained:.6g}",
        "loss": card.loss,
        "steps": None if card.steps is None else str(card.steps),
        "proof:ok": str(proof.ok).lower(),
        "proof:form": proof.form,
        "proof:evidence": proof.evidence,
        "proof:changed rows": str(sum(proof.changed.values())),
        "gate": proof.gate,
        "not measured": card.not_measured or None,
    }
    if card.acceptance is not None:
        facts["acceptance:passed"] = str(card.acceptance.passed).lower()
        facts["acceptance:file"] = card.acceptance.file
        facts["acceptance:sha256"] = card.acceptance.sha256
        facts["acceptance:subgroups:file"] = card.acceptance.groups
        facts["acceptance:subgroups:sha256"] = card.acceptance.groups_sha256
        facts["acceptance:problem"] = card.acceptance.problem or None
        for number, each in enumerate(card.acceptance.criteria, 1):
            where = f" ({each.subgroup}, {each.cases} cases)" if each.subgroup is not None else f" ({each.cases} cases)"
            met = "met" if each.passed else "not met"
            facts[f"acceptance:criterion {number}"] = f"{each.criterion}{where}: {each.found}, {met}"
    told = [("proof:told", each) for each in proof.told]
    return [
        model.Property(name=f"tgdonnx:{name}", value=value)
        for name, value in (*facts.items(), *told)
        if value is not None
    ]


def _what_changed(card: Card) -> str:
    rows, tensors = sum(card.proof.changed.values()), len(card.proof.changed)
    if not card.proof.ok:
        return "not verified: the file differs from the vendor's in more than retrained filters"
    return f"verified: nothing but {rows} rows of {tensors} tensors differs from the vendor's file"


def _model_card(card: Card) -> dict[str, Any]:
    parameters: dict[str, Any] = {"approach": {"type": "supervised"}}
    if card.data:
        parameters["datasets"] = [{"ref": f"data-{number}"} for number in range(1, len(card.data) + 1)]
    found: dict[str, Any] = {"bom-ref": "model-card", "modelParameters": parameters}
    metrics = [metric for each in card.measured for metric in _metrics(each)]
    if metrics:
        found["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    return found


def _metrics(measured: Measured) -> list[dict[str, str]]:
    where = f"{measured.data}, {measured.cases} cases, output {measured.output}"
    where += "" if measured.label is None else f", class {measured.label}"
    return [
        {"type": measured.metric, "value": f"{value:.6g}", "slice": f"{where}, {which}"}
        for which, value in (("tuned model", measured.tuned), ("vendor's model", measured.vendor))
        if value is not None
    ]
