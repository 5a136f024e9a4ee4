"""Every part of a gated file is proved: whatever is changed in it, `verify` says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import tgdonnx
from tests.gated_model.gated_files import Pair, new_inputs, regrown, tuned_otherwise
from tests.support.forging import refused
from tests.support.models import dncnn
from tgdonnx.files.model_file import load_model
from tgdonnx.gated_model.detector import Detector
from tgdonnx.gated_model.reading import take_apart
from tgdonnx.gated_model.writing import choose_form, gated
from tgdonnx.layers import open_network

Edit = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Pair, Path]]:
    """For each form a pair and its gated file, with a detector and an input."""
    work = tmp_path_factory.mktemp("gated")
    found = {}
    for form, pair in (
        ("maps", regrown("batch norms", work / "maps")),
        ("branches", tuned_otherwise(dncnn(0), work / "branches", {"w1": [1, 4], "w2": [0]})),
    ):
        both = work / f"{form}.onnx"
        data = new_inputs(pair.vendor)
        tgdonnx.gate(pair.vendor, pair.tuned, both, input_name="g", data=tgdonnx.GateData(data), detector_outputs=True)
        found[form] = (pair, both)
    return found


def branch(model: onnx.ModelProto, name: str) -> onnx.GraphProto:
    (choice,) = [node for node in model.graph.node if node.op_type == "If"]
    found: onnx.GraphProto = next(a.g for a in choice.attribute if a.name == name)
    return found


def nudge(tensor: onnx.TensorProto) -> None:
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[0] += 1
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def stored(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    (found,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    return found


def made(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    (found,) = [node for node in model.graph.node if name in node.output]
    return found


def record_edited(**changes: Any) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        (entry,) = [entry for entry in model.metadata_props if entry.key == "tgdonnx.gate"]
        content = json.loads(entry.value)
        content.update({k: v for k, v in changes.items() if k != "detector"})
        content["detector"].update(changes.get("detector", {}))
        entry.value = json.dumps(content)

    return edit


def _reversed(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Less":
            node.input[:] = list(node.input)[::-1]


def _without_default(model: onnx.ModelProto) -> None:
    nudge(stored(model, "g"))


def _added_node(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Identity", [model.graph.input[0].name], ["gate/spy"], "gate/spy"))


def _output_kept(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("gate/residual", 1, None))


BOTH_FORMS: dict[str, Edit] = {
    "the detector's mean": lambda m: nudge(stored(m, "gate/mean")),
    "the detector's basis": lambda m: nudge(stored(m, "gate/basis")),
    "the detector's threshold": lambda m: nudge(stored(m, "gate/threshold")),
    "the detector's floor": lambda m: nudge(stored(m, "gate/floor")),
    "the detector's sum": lambda m: nudge(stored(m, "gate/ones")),
    "the detector's decision": _reversed,
    "g's product": lambda m: made(m, "gate/g").input.__setitem__(1, "g"),
    "g's default": _without_default,
    "a node more": _added_node,
    "an output more": _output_kept,
    "an output less": lambda m: m.graph.output.__delitem__(-1),
    "the record's form": record_edited(form="both"),
    "the record's input": record_edited(input="h"),
    "the record's base": record_edited(base_sha256="0" * 64),
    "the record's tuned file": record_edited(tuned_sha256="0" * 64),
    "the record's version": record_edited(tgdonnx=""),
    "the record's outputs": record_edited(outputs=False),
    "the record's layer": record_edited(detector={"value": "elsewhere"}),
    "the record's count": record_edited(detector={"images": 0}),
    "the record's threshold": record_edited(detector={"threshold": 5.0}),
    "the record's hash": record_edited(detector={"sha256": "0" * 64}),
    "the record's format": record_edited(format=2),
    "something in the record": record_edited(more=1),
    "the producer": lambda m: setattr(m, "producer_name", "somebody"),
    "the operator set": lambda m: setattr(m.opset_import[0], "version", m.opset_import[0].version + 1),
}
MAPS: dict[str, Edit] = {
    "a frozen tensor": lambda m: nudge(stored(m, "b3")),
    "a node of the network": lambda m: setattr(made(m, onnx_output(m)), "op_type", "Abs"),
    "which maps are multiplied": lambda m: nudge(stored(m, "gate/factors.0.new")),
    "a layer that reads past its factor": lambda m: _past(m),
}
BRANCHES: dict[str, Edit] = {
    "a shared tensor": lambda m: nudge(next(t for t in m.graph.initializer if t.name.startswith("gate/same/"))),
    "the vendor's version": lambda m: nudge(next(t for t in m.graph.initializer if t.name.startswith("gate/vendor/"))),
    "a small tensor of the vendor's": lambda m: nudge(branch(m, "else_branch").initializer[0]),
    "a small tensor of the tuned": lambda m: nudge(branch(m, "then_branch").initializer[-1]),
    "a node of the vendor's": lambda m: setattr(branch(m, "else_branch").node[-1], "op_type", "Abs"),
    "a node of the tuned": lambda m: setattr(branch(m, "then_branch").node[-1], "op_type", "Abs"),
    "the branches' places": lambda m: _exchanged(m),
    "the condition": lambda m: made(m, "gate/is_tuned").input.__setitem__(0, "g"),
    "the half": lambda m: nudge(stored(m, "gate/half")),
}


def onnx_output(model: onnx.ModelProto) -> str:
    return str(model.graph.output[0].name)


def _past(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name.startswith("gate/maps."):
                node.input[place] = name.split("/", 2)[2]


def _exchanged(model: onnx.ModelProto) -> None:
    (choice,) = [node for node in model.graph.node if node.op_type == "If"]
    for attribute in choice.attribute:
        attribute.name = {"then_branch": "else_branch", "else_branch": "then_branch"}[attribute.name]


CASES = [
    *(("maps", name, edit) for name, edit in {**BOTH_FORMS, **MAPS}.items()),
    *(("branches", name, edit) for name, edit in {**BOTH_FORMS, **BRANCHES}.items()),
]


@pytest.mark.parametrize(("form", "edit"), [pytest.param(f, e, id=f"{f}: {n}") for f, n, e in CASES])
def test_tampering_is_found(form: str, edit: Edit, pairs: dict[str, tuple[Pair, Path]], tmp_path: Path) -> None:
    pair, both = pairs[form]
    model = onnx.load(both)
    before = model.SerializeToString()
    edit(model)
    assert model.SerializeToString() != before
    (tmp_path / "forged.onnx").write_bytes(model.SerializeToString())
    assert refused(pair.vendor, tmp_path / "forged.onnx")


@pytest.mark.parametrize("form", ["maps", "branches"])
def test_what_is_not_forged_is_accepted(form: str, pairs: dict[str, tuple[Pair, Path]]) -> None:
    pair, both = pairs[form]
    report = tgdonnx.verify(pair.vendor, both)
    assert (report.ok, report.violations) == (True, ())
    assert report.changed == tgdonnx.verify(pair.vendor, pair.tuned).changed
    assert "g is set by the input 'g' and a detector" in str(report.gate)


@pytest.mark.parametrize("form", ["maps", "branches"])
def test_bytes_at_the_end_or_a_second_record_are_found(
    form: str, pairs: dict[str, tuple[Pair, Path]], tmp_path: Path
) -> None:
    pair, both = pairs[form]
    model = onnx.load(both)
    model.metadata_props.append(model.metadata_props[-1])
    (tmp_path / "t.onnx").write_bytes(model.SerializeToString())
    assert refused(pair.vendor, tmp_path / "t.onnx")
    (tmp_path / "u.onnx").write_bytes(both.read_bytes() + b"\xf2\x06\x03abc")  # a field that onnx.proto does not know
    assert refused(pair.vendor, tmp_path / "u.onnx")


def _narrow(detector: Detector) -> Detector:
    return replace(detector, mean=detector.mean[:-2], basis=detector.basis[:-2])


DETECTORS: dict[str, tuple[Callable[[Detector], Detector], str]] = {
    "a layer that is not there": (lambda d: replace(d, layer="nowhere"), "where none can look"),
    "another layer": (lambda d: replace(d, layer="conv3"), "where none can look"),
    "a value that is not there": (lambda d: replace(d, value="nothing"), "where none can look"),
    "features less": (_narrow, "features, and in front of"),
    "a threshold that is not finite": (lambda d: replace(d, threshold=float("inf")), "not what gate writes"),
    "a mean that is not finite": (lambda d: replace(d, mean=d.mean * np.float32("nan")), "are not finite"),
}


@pytest.mark.parametrize("form", ["maps", "branches"])
@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_that_gate_would_not_fit_here_is_found_though_all_follows_from_it(
    form: str, name: str, pairs: dict[str, tuple[Pair, Path]], tmp_path: Path
) -> None:
    forge, reason = DETECTORS[name]
    pair, both = pairs[form]
    network, tuned = open_network(load_model(pair.vendor)), load_model(pair.tuned)
    gate = take_apart(network.file, load_model(both)).gate
    assert gate.detector is not None
    forged = replace(gate, detector=forge(gate.detector))
    content = gated(network, tuned, forged, choose_form(network, tuned), "0.1.0").data
    (tmp_path / "forged.onnx").write_bytes(content)
    report = tgdonnx.verify(pair.vendor, tmp_path / "forged.onnx")
    assert not report.ok
    assert reason in report.violations[0]
