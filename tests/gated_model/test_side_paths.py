"""Side paths times g: the vendor's outputs at 0, the tuned ones at 1, and a detector that sees the input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.adapting.networks import NETWORKS, NORMED, input_of
from tests.gated_model.gated_files import adapted, answers, same_bits
from tgdonnx.errors import ModelFileError


@pytest.mark.parametrize("name", ["conv", NORMED, "groups", "matrices", "volumes", "shared"])
def test_g_0_is_the_vendors_network_and_g_1_the_tuned_one_to_the_bit(name: str, tmp_path: Path) -> None:
    pair = adapted(NETWORKS[name], tmp_path / "files")
    report = tgdonnx.gate(pair.vendor, pair.tuned, tmp_path / "both.onnx", input_name="g")
    assert (report.form, report.why_branches) == ("maps", "")
    onnx.checker.check_model(str(tmp_path / "both.onnx"), full_check=True)
    feeds = {"x": input_of(name)}
    vendor, tuned = answers(pair.vendor, feeds), answers(pair.tuned, feeds)
    assert same_bits(answers(tmp_path / "both.onnx", feeds, 0.0), vendor)
    assert same_bits(answers(tmp_path / "both.onnx", feeds, 1.0), tuned)
    assert same_bits(answers(tmp_path / "both.onnx", feeds), tuned)
    assert not same_bits(vendor, tuned)
    proof = tgdonnx.verify(pair.vendor, tmp_path / "both.onnx")
    assert (proof.ok, proof.violations) == (True, ())


def test_between_the_ends_g_is_the_blend(tmp_path: Path) -> None:
    pair = adapted(NETWORKS["conv"], tmp_path / "files")
    tgdonnx.gate(pair.vendor, pair.tuned, tmp_path / "both.onnx", input_name="g")
    tgdonnx.export(tmp_path / "files" / "run" / "artifacts", tmp_path / "half.onnx", blend=0.5)
    feeds = {"x": input_of("conv")}
    (found,), (expected,) = answers(tmp_path / "both.onnx", feeds, 0.5), answers(tmp_path / "half.onnx", feeds)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_side_path_whose_weights_are_not_finite_is_refused(value: float, tmp_path: Path) -> None:
    pair = adapted(NETWORKS["conv"], tmp_path / "files")
    model = onnx.load(pair.tuned)
    up = next(each for each in model.graph.initializer if each.name.endswith(".up"))
    numbers = numpy_helper.to_array(up).copy()
    numbers[1] = value
    content = pair.tuned.read_bytes()
    assert content.count(up.raw_data) == 1
    pair.tuned.write_bytes(content.replace(up.raw_data, numbers.tobytes()))
    report = tgdonnx.verify(pair.vendor, pair.tuned)
    assert (report.ok, report.violations) == (False, (f"values of filter 1 of {up.name!r} are not finite",))
    with pytest.raises(ModelFileError, match="are not finite"):
        tgdonnx.gate(pair.vendor, pair.tuned, tmp_path / "both.onnx", input_name="g")
    assert not (tmp_path / "both.onnx").exists()


def test_a_side_path_that_is_rewired_past_g_is_found(tmp_path: Path) -> None:
    pair = adapted(NETWORKS["conv"], tmp_path / "files")
    tgdonnx.gate(pair.vendor, pair.tuned, tmp_path / "both.onnx", input_name="g")
    model = onnx.load(tmp_path / "both.onnx")
    node = next(each for each in model.graph.node if each.name == "tgdonnx.adapter.1.Y.path")
    assert node.input[0] != "tgdonnx.adapter.1.Y.maps"
    node.input[0] = "tgdonnx.adapter.1.Y.maps"
    (tmp_path / "both.onnx").write_bytes(model.SerializeToString())
    assert not tgdonnx.verify(pair.vendor, tmp_path / "both.onnx").ok


def test_a_detector_looks_at_what_no_side_path_reaches(tmp_path: Path) -> None:
    pair = adapted(NETWORKS["conv"], tmp_path / "files")
    rng = np.random.default_rng(0)
    new = rng.normal(size=(24, 3, 8, 8)).astype(np.float32)
    old = (0.2 * rng.normal(size=(8, 3, 8, 8)) + 3).astype(np.float32)
    data = tgdonnx.GateData({"x": new}, retain={"x": old})
    report = tgdonnx.gate(pair.vendor, pair.tuned, tmp_path / "both.onnx", data=data)
    assert report.layer == "A"
    assert same_bits(answers(tmp_path / "both.onnx", {"x": old}), answers(pair.vendor, {"x": old}))
    assert same_bits(answers(tmp_path / "both.onnx", {"x": new[:1]}), answers(pair.tuned, {"x": new[:1]}))
    assert tgdonnx.verify(pair.vendor, tmp_path / "both.onnx").ok
