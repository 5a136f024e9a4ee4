"""A gated model is applied with one decision for all of the data."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import tgdonnx
from tests.gated_model.gated_files import Pair, adapted, regrown, tuned_otherwise
from tests.regrowing.topologies import TOPOLOGIES
from tests.support.models import Array

SIZE = 24


@pytest.fixture(scope="module", params=["maps", "branches"])
def gated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Path]:
    work = tmp_path_factory.mktemp("gated")
    if request.param == "maps":
        pair = regrown("batch norms", work / "files")
    else:
        pair = tuned_otherwise(TOPOLOGIES["batch norms"].build(), work / "files", {"w1": [1, 4]})
    data = {input_of(pair.vendor): images(24, new=True)}
    report = tgdonnx.gate(pair.vendor, pair.tuned, work / "both.onnx", data=tgdonnx.GateData(data))
    assert report.form == request.param
    return pair, work / "both.onnx"


def input_of(model: Path) -> str:
    return str(onnx.load(model).graph.input[0].name)


def images(count: int, *, new: bool, seed: int = 0) -> Array:
    """New images are bright and flat, old ones dark and rough."""
    rng = np.random.default_rng([seed, int(new)])
    shape = (count, 2, SIZE, SIZE)
    return (rng.normal(5, 0.1, shape) if new else rng.normal(0, 2, shape)).astype(np.float32)


@pytest.mark.parametrize(("new", "kind"), [(True, "tuned"), (False, "vendor")])
def test_a_case_goes_to_one_side_whole_and_the_decision_is_written_beside_it(
    new: bool, kind: str, gated: tuple[Pair, Path], tmp_path: Path
) -> None:
    pair, both = gated
    case = images(3, new=new, seed=1)
    report = tgdonnx.apply(both, case, tmp_path / "both.npy", options=tgdonnx.ApplyOptions(tile=(16, 16)))
    # Blend 0 is the vendor's file, or of mode regrow the network without the filters that would be reinitialised.
    tgdonnx.apply(
        pair.tuned if new else pair.without, case, tmp_path / "alone.npy", options=tgdonnx.ApplyOptions(tile=(16, 16))
    )
    found, expected = np.load(tmp_path / "both.npy"), np.load(tmp_path / "alone.npy")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert report.gate is not None
    assert (report.gate.is_new, report.gate.new, report.gate.judged) == (new, 3 if new else 0, 3)
    assert f"the {kind}" in " ".join(report.remarks)
    assert report.tiles > 1
    written = json.loads((tmp_path / "both.npy.gate.json").read_text("utf-8"))
    assert written["is_new"] is new
    assert written["residuals"] == list(report.gate.residuals)


def test_a_case_with_as_many_old_samples_as_new_ones_is_the_vendors(gated: tuple[Pair, Path], tmp_path: Path) -> None:
    _, both = gated
    case = np.concatenate([images(2, new=True, seed=1), images(2, new=False, seed=1)])
    report = tgdonnx.apply(both, case, tmp_path / "both.npy")
    assert report.gate is not None
    assert (report.gate.is_new, report.gate.new, report.gate.judged) == (False, 2, 4)


def test_the_decision_is_never_overwritten_unasked(gated: tuple[Pair, Path], tmp_path: Path) -> None:
    _, both = gated
    (tmp_path / "both.npy.gate.json").write_text("mine")
    with pytest.raises(tgdonnx.errors.OutputError, match=r"gate\.json exists"):
        tgdonnx.apply(both, images(1, new=True), tmp_path / "both.npy")
    assert not (tmp_path / "both.npy").exists()


def test_gated_by_an_input_the_tuned_network_answers(tmp_path: Path) -> None:
    pair = regrown("batch norms", tmp_path / "files")
    tgdonnx.gate(pair.vendor, pair.tuned, tmp_path / "both.onnx", input_name="g")
    report = tgdonnx.apply(tmp_path / "both.onnx", images(1, new=True), tmp_path / "both.npy")
    tgdonnx.apply(pair.tuned, images(1, new=True), tmp_path / "alone.npy")
    assert np.array_equal(np.load(tmp_path / "both.npy"), np.load(tmp_path / "alone.npy"))
    assert report.gate is None
    assert any("gated by an input" in remark for remark in report.remarks)
    assert not (tmp_path / "both.npy.gate.json").exists()


@pytest.mark.parametrize("form", ["side paths", "branches"])
def test_of_a_classifier_every_picture_has_its_own_decision_in_a_column(form: str, tmp_path: Path) -> None:
    if form == "side paths":
        pair = adapted(classifier(), tmp_path / "files")
    else:
        pair = tuned_otherwise(classifier(), tmp_path / "files", {"w1": [0, 2]})
    new, old = images(24, new=True), images(3, new=False)
    both = tmp_path / "both.onnx"
    data = tgdonnx.GateData({"x": new}, retain={"x": old})
    tgdonnx.gate(pair.vendor, pair.tuned, both, data=data, detector_outputs=True)
    case = np.concatenate([new[:2], old])
    every_class = tgdonnx.ApplyOptions(form="probabilities")
    report = tgdonnx.apply(both, case, tmp_path / "both.csv", options=every_class)
    for name, model in (("vendor", pair.vendor), ("tuned", pair.tuned)):
        tgdonnx.apply(model, case, tmp_path / f"{name}.csv", options=every_class)
    texts = {name: (tmp_path / f"{name}.csv").read_text("utf-8") for name in ("both", "vendor", "tuned")}
    tables = {name: list(csv.DictReader(text.splitlines())) for name, text in texts.items()}
    assert [row["is_new"] for row in tables["both"]] == ["1", "1", "0", "0", "0"]
    assert list(tables["both"][0])[:4] == ["file", "class", "probability", "is_new"]
    assert len(tables["vendor"][0]) > 4
    for found, kind, index in zip(tables["both"], ("tuned",) * 2 + ("vendor",) * 3, range(5)):
        assert {k: v for k, v in found.items() if k != "is_new"} == tables[kind][index]
    assert [row["probability"] for row in tables["vendor"]] != [row["probability"] for row in tables["tuned"]]
    assert "2 of 5 pictures are new to the detector" in " ".join(report.remarks)


def test_of_a_classifier_gated_by_an_input_it_is_said_which_network_answers(tmp_path: Path) -> None:
    pair = tuned_otherwise(classifier(), tmp_path / "files", {"w1": [0, 2]})
    tgdonnx.gate(pair.vendor, pair.tuned, tmp_path / "both.onnx", input_name="g")
    report = tgdonnx.apply(tmp_path / "both.onnx", images(2, new=True), tmp_path / "both.csv")
    tgdonnx.apply(pair.tuned, images(2, new=True), tmp_path / "tuned.csv")
    assert (tmp_path / "both.csv").read_text() == (tmp_path / "tuned.csv").read_text()
    assert "gated by an input, which is 1 here" in " ".join(report.remarks)


def classifier() -> onnx.ModelProto:
    """Three classes of images of two maps."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 2, 3, 3), "w2": (8, 8, 3, 3), "wf": (3, 8)}
    stored = [numpy_helper.from_array(rng.normal(0, 0.3, s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "conv1", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["r"], "relu1"),
        helper.make_node("Conv", ["r", "w2"], ["b"], "conv2", pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["b"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "wf"], ["y"], "fc", transB=1),
    ]
    x, y = (helper.make_tensor_value_info(n, 1, s) for n, s in (("x", ["N", 2, "H", "W"]), ("y", ["N", 3])))
    graph = helper.make_graph(nodes, "classifier", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
