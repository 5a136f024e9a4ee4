"""g = 1 is the tuned network and g = 0 the vendor's, bit for bit, in a default session."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.adapting.networks import NETWORKS, input_of
from tests.blending.runs import invented
from tests.gated_model.gated_files import adapted, answers, new_inputs, regrown, same_bits, tuned_otherwise
from tests.masked_model.regrown import VARIANTS
from tests.regrowing.starts import ANY_CHANGE
from tests.regrowing.topologies import TOPOLOGIES
from tests.support.models import dncnn, random_feeds
from tgdonnx import Reinitialization
from tgdonnx.errors import DataError, MaskedModelError, ModelFileError
from tgdonnx.selection import Filters

QUICK = {"batch norms", "grouped", "matrix products", "float16", "int8", "constant nodes"}


def quickly(names: Iterable[str]) -> list[Any]:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", quickly(name for name in TOPOLOGIES if name != "integer weights"))
def test_reinitialised_maps_times_g(name: str, tmp_path: Path) -> None:
    pair = regrown(name, tmp_path / "files")
    report = tgdonnx.gate(pair.vendor, pair.tuned, tmp_path / "both.onnx", input_name="g")
    assert (report.form, report.why_branches) == ("maps", "")
    onnx.checker.check_model(str(tmp_path / "both.onnx"), full_check=True)
    feeds = random_feeds(onnx.load(pair.vendor))
    tuned = answers(pair.tuned, feeds)
    assert same_bits(answers(tmp_path / "both.onnx", feeds, 1.0), tuned)
    assert same_bits(answers(tmp_path / "both.onnx", feeds), tuned)
    at_0, without = answers(tmp_path / "both.onnx", feeds, 0.0), answers(pair.without, feeds)
    assert all(np.array_equal(a, b) for a, b in zip(at_0, without))  # -0 is 0
    assert not same_bits(tuned, without)
    assert tgdonnx.verify(pair.vendor, tmp_path / "both.onnx").ok


def test_between_the_ends_g_is_the_blend(tmp_path: Path) -> None:
    pair = regrown("batch norms", tmp_path / "files")
    tgdonnx.gate(pair.vendor, pair.tuned, tmp_path / "both.onnx", input_name="g")
    tgdonnx.export(tmp_path / "files" / "run" / "artifacts", tmp_path / "half.onnx", blend=0.5)
    feeds = random_feeds(onnx.load(pair.vendor))
    for found, expected in zip(answers(tmp_path / "both.onnx", feeds, 0.5), answers(tmp_path / "half.onnx", feeds)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_nothing_is_stored_twice_and_only_readers_are_multiplied(tmp_path: Path) -> None:
    pair = regrown("batch norms", tmp_path / "files")
    tgdonnx.gate(pair.vendor, pair.tuned, tmp_path / "both.onnx", input_name="g")
    tuned, both = onnx.load(pair.tuned), onnx.load(tmp_path / "both.onnx")
    kept = {tensor.name: tensor for tensor in both.graph.initializer}
    assert all(kept[tensor.name] == tensor for tensor in tuned.graph.initializer)
    products = {node.output[0]: node for node in both.graph.node if node.output[0].startswith("gate/maps.")}
    assert len(products) == 2  # of w1 and w2, each read by one layer
    new = [node for node in both.graph.node if not node.output[0].startswith("gate/")]
    for node, old in zip(new, tuned.graph.node):
        node.input[:] = [products[name].input[0] if name in products else name for name in node.input]
        assert node == old
    assert (both.ir_version, list(both.opset_import)) == (tuned.ir_version, list(tuned.opset_import))
    assert list(both.graph.output) == list(tuned.graph.output)


@pytest.mark.parametrize("name", quickly(name for name in (*VARIANTS, "constant nodes") if name != "ir 3"))
def test_branches(name: str, tmp_path: Path) -> None:
    if name == "constant nodes":
        model = TOPOLOGIES[name].build()
        pair = tuned_otherwise(model, tmp_path / "files", {"w1": [1, 4]})
    else:
        model = VARIANTS[name](0)
        first = next(iter(tgdonnx.score(_saved(model, tmp_path)).layers)).weight
        pair = tuned_otherwise(model, tmp_path / "files", {str(first): [1, 2]})
    report = tgdonnx.gate(pair.vendor, pair.tuned, tmp_path / "both.onnx", input_name="g")
    assert report.form == "branches"
    onnx.checker.check_model(str(tmp_path / "both.onnx"), full_check=True)
    feeds = random_feeds(model)
    vendor, tuned = answers(pair.vendor, feeds), answers(pair.tuned, feeds)
    assert not same_bits(vendor, tuned)
    assert same_bits(answers(tmp_path / "both.onnx", feeds, 0.0), vendor)
    assert same_bits(answers(tmp_path / "both.onnx", feeds, 1.0), tuned)
    assert same_bits(answers(tmp_path / "both.onnx", feeds), tuned)
    assert same_bits(answers(tmp_path / "both.onnx", feeds, float("nan")), vendor)
    assert tgdonnx.verify(pair.vendor, tmp_path / "both.onnx").ok


def _saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "scored.onnx")
    return folder / "scored.onnx"


def test_branches_store_equal_tensors_once(tmp_path: Path) -> None:
    pair = tuned_otherwise(dncnn(0), tmp_path / "files", {"w1": [1, 4]})
    tgdonnx.gate(pair.vendor, pair.tuned, tmp_path / "both.onnx", input_name="g")
    both = onnx.load(tmp_path / "both.onnx")
    names = [tensor.name for tensor in both.graph.initializer]
    assert len(set(names)) == len(names)
    big = [t for t in onnx.load(pair.vendor).graph.initializer if t.dims and len(t.raw_data) >= 1024]
    assert big
    for tensor in big:
        assert ("gate/same/" + tensor.name in names) != ("gate/vendor/" + tensor.name in names)
    assert len(both.SerializeToString()) < 2 * pair.vendor.stat().st_size


def test_a_quantised_regrown_model_gets_branches(tmp_path: Path) -> None:
    pair = regrown("integer weights", tmp_path / "files")
    report = tgdonnx.gate(pair.vendor, pair.tuned, tmp_path / "both.onnx", input_name="g")
    assert report.form == "branches"
    assert "quantised" in report.why_branches
    feeds = random_feeds(onnx.load(pair.vendor))
    assert same_bits(answers(tmp_path / "both.onnx", feeds, 0.0), answers(pair.vendor, feeds))
    assert same_bits(answers(tmp_path / "both.onnx", feeds, 1.0), answers(pair.tuned, feeds))


def test_before_ir_version_4_there_are_no_branches(tmp_path: Path) -> None:
    pair = tuned_otherwise(VARIANTS["ir 3"](0), tmp_path / "files", {"w1": [1]})
    with pytest.raises(ModelFileError, match="expected 4 or newer"):
        tgdonnx.gate(pair.vendor, pair.tuned, tmp_path / "both.onnx", input_name="g")


def test_what_cannot_be_gated_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    pair = regrown("batch norms", tmp_path / "files")
    other = tuned_otherwise(dncnn(0), tmp_path / "others", {"w1": [1]})
    both, again = tmp_path / "both.onnx", tmp_path / "again.onnx"
    tgdonnx.gate(pair.vendor, pair.tuned, both, input_name="g")
    image = onnx.load(pair.vendor).graph.input[0].name
    for vendor, tuned, name, error, reason in (
        (pair.vendor, other.tuned, "g", ModelFileError, "is no tuned version of"),
        (
            pair.tuned,
            pair.vendor,
            "g",
            ModelFileError,
            "from that; name the vendor's file, and what export made of it$",
        ),
        (pair.vendor, both, "g", ModelFileError, "is gated already"),
        (both, pair.tuned, "g", ModelFileError, "is gated already"),
        (pair.vendor, pair.tuned, image, ModelFileError, "has a value"),
        (pair.vendor, pair.tuned, None, DataError, "nothing would set g"),
    ):
        with pytest.raises(error, match=reason):
            tgdonnx.gate(vendor, tuned, again, input_name=name)
    assert not again.exists()


@pytest.mark.parametrize("mode", ["maps", "side paths", "branches"])
def test_an_input_that_is_named_like_what_gate_adds_or_the_model_has_is_refused(mode: str, tmp_path: Path) -> None:
    if mode == "maps":
        pair = regrown("batch norms", tmp_path / "files")
    elif mode == "side paths":
        pair = adapted(NETWORKS["conv"], tmp_path / "files")
    else:
        pair = tuned_otherwise(dncnn(0), tmp_path / "files", {"w1": [1]})
    tuned = onnx.load(pair.tuned).graph
    own = {
        "",
        "gate/factors.0",
        "gate/shape.4",
        "gate/half",
        "gate/residual",
        tuned.initializer[-1].name,
        tuned.node[0].name,
    }
    own |= {tuned.node[-1].output[0]} - {""}
    for name in own:
        with pytest.raises(ModelFileError, match="choose another name for the input"):
            tgdonnx.gate(pair.vendor, pair.tuned, tmp_path / "both.onnx", input_name=name)
    data = tgdonnx.GateData(new_inputs(pair.vendor))
    for name in ("gate_is_new", "gate_residual"):
        with pytest.raises(ModelFileError, match="choose another name for the input"):
            tgdonnx.gate(
                pair.vendor, pair.tuned, tmp_path / "both.onnx", input_name=name, data=data, detector_outputs=True
            )
    assert not (tmp_path / "both.onnx").exists()


def test_side_paths_and_a_round_of_another_mode_are_refused_and_gated_from_the_file_between(tmp_path: Path) -> None:
    first = adapted(NETWORKS["conv"], tmp_path / "files")
    tuned, both = tmp_path / "tuned.onnx", tmp_path / "both.onnx"
    weight = str(next(iter(tgdonnx.score(first.vendor).layers)).weight)
    tgdonnx.export(invented(first.tuned, tmp_path / "second", Filters({weight: [1]})), tuned)
    assert tgdonnx.verify(first.vendor, tuned).ok
    with pytest.raises(ModelFileError, match="has side paths besides; name as the vendor's the file that has"):
        tgdonnx.gate(first.vendor, tuned, both, input_name="g")
    assert not both.exists()
    tgdonnx.gate(first.tuned, tuned, both, input_name="g")
    feeds = {"x": input_of("conv")}
    assert same_bits(answers(both, feeds, 1.0), answers(tuned, feeds))
    assert tgdonnx.verify(first.tuned, both).ok


@pytest.mark.parametrize("mode", ["maps", "branches"])
def test_rounds_are_gated_together(mode: str, tmp_path: Path) -> None:
    first = regrown("batch norms", tmp_path / "files")
    if mode == "branches":
        tuned_otherwise(first.tuned, tmp_path / "second", {"w3": [0]})
    else:
        masking = tgdonnx.MaskOptions("regrow", Reinitialization("he", tolerance=ANY_CHANGE))
        artifacts = invented(first.tuned, tmp_path / "second", Filters({"w1": [2]}), masking)
        tgdonnx.export(artifacts, tmp_path / "second" / "tuned.onnx")
    tuned = tmp_path / "second" / "tuned.onnx"
    report = tgdonnx.gate(first.vendor, tuned, tmp_path / "both.onnx", input_name="g")
    assert report.form == mode
    feeds = random_feeds(onnx.load(first.vendor))
    assert same_bits(answers(tmp_path / "both.onnx", feeds, 1.0), answers(tuned, feeds))
    if mode == "branches":
        expected = answers(first.vendor, feeds)
        assert same_bits(answers(tmp_path / "both.onnx", feeds, 0.0), expected)
    assert tgdonnx.verify(first.vendor, tmp_path / "both.onnx").ok


def test_a_gated_file_is_inspected_as_one_and_nothing_is_trained_from_it(tmp_path: Path) -> None:
    pairs = (regrown("batch norms", tmp_path / "a"), tuned_otherwise(dncnn(0), tmp_path / "b", {"w1": [1]}))
    for pair, form in zip(pairs, ("reinitialised maps", "as branches")):
        both = tmp_path / "both.onnx"
        tgdonnx.gate(pair.vendor, pair.tuned, both, input_name="g", overwrite=True)
        assert form in str(tgdonnx.inspect(both).gate)
        assert tgdonnx.inspect(pair.tuned).gate is None
        for refusing in (tgdonnx.check, lambda path: tgdonnx.mask(path, tmp_path / "m.onnx", tgdonnx.AllLayers())):
            with pytest.raises(MaskedModelError, match="is gated: it holds the vendor's network and a tuned one"):
                refusing(both)
