"""tgdonnx gate: the share of new inputs that is asked for, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.adapting.networks import NETWORKS
from tests.cli.commands import run, run_json
from tests.gated_model.gated_files import Pair, adapted
from tests.support.models import Array


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """With new, held-out and old inputs beside its files."""
    folder = tmp_path_factory.mktemp("gate")
    for name, inputs in (("new", images(40, 0, 1)), ("held_out", images(20, 3, 1)), ("old", images(8, 2, 1, 9))):
        np.savez(folder / f"{name}.npz", x=inputs)
    return adapted(NETWORKS["conv"], folder / "files")


def images(count: int, seed: int, contrast: float, offset: float = 0) -> Array:
    rng = np.random.default_rng(seed)
    return (offset + contrast * rng.normal(size=(count, 3, 8, 8))).astype(np.float32)


def command(pair: Pair, output: Path, *more: object) -> tuple[object, ...]:
    return ("gate", pair.vendor, pair.tuned, "-o", output, *more)


def of(pair: Pair, name: str) -> Path:
    return pair.vendor.parent.parent / f"{name}.npz"


@pytest.mark.parametrize("share", ["nan", "inf", "0", "0.5", "2", "-1", "most", "95%"])
def test_a_share_that_cannot_be_is_refused_before_anything_is_read(share: str, pair: Pair, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.npz"
    result = run(*command(pair, tmp_path / "both.onnx", "--data", nowhere, "--accept", share))
    assert result.exit_code == 2
    expected = "is not a valid float" if share in {"most", "95%"} else "above 0.5 and at most 1, got"
    assert expected in result.stderr
    assert "nowhere" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [(), ("--input", "g")])
def test_a_share_without_inputs_to_fit_a_detector_on_is_refused(
    more: tuple[str, ...], pair: Pair, tmp_path: Path
) -> None:
    result = run(*command(pair, tmp_path / "both.onnx", "--accept", "0.99", *more))
    assert result.exit_code == 2
    assert "--accept are for a detector; expected --data, to fit one on" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_options_on_reading_data_without_data_are_refused(pair: Pair, tmp_path: Path) -> None:
    for option in (("--scale", "255"), ("--layout", "NHWC"), ("--resize", "8"), ("--map", "image=x")):
        result = run(*command(pair, tmp_path / "both.onnx", "--input", "g", *option))
        assert result.exit_code == 2
        assert "options on reading data without data; expected --data" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_was_asked_for_and_what_was_reached_is_said(pair: Pair, tmp_path: Path) -> None:
    data = ("--data", of(pair, "new"), "--held-out", of(pair, "held_out"), "--retain", of(pair, "old"))
    usual = run(*command(pair, tmp_path / "usual.onnx", *data))
    assert usual.exit_code == 0
    assert "of the new inputs (95% asked for), " in usual.stdout
    result = run(*command(pair, tmp_path / "both.onnx", *data, "--accept", "1"))
    assert result.exit_code == 0
    assert "100% of the new inputs (100% asked for), " in result.stdout
    assert "the nearest old input has " in result.stderr
    assert "a larger --accept" in usual.stderr
    assert "a larger --accept" not in result.stderr


def test_the_json_document_has_the_share_the_distances_and_the_remarks(pair: Pair, tmp_path: Path) -> None:
    data = ("--data", of(pair, "new"), "--held-out", of(pair, "held_out"), "--retain", of(pair, "old"))
    found = {
        share: run_json(*command(pair, tmp_path / f"{share}.onnx", *data, "--accept", share)) for share in (0.9, 1.0)
    }
    assert [each["separation"]["accept"] for each in found.values()] == [0.9, 1.0]
    for share, report in found.items():
        assert share <= report["separation"]["new"] <= 1
    less, all_ = (each["separation"] for each in found.values())
    thresholds = found[0.9]["threshold"], found[1.0]["threshold"]
    assert all_["farthest_new"] == pytest.approx(1, rel=2e-6)
    # The distances are in units of the threshold, which alone differs.
    assert less["farthest_new"] == pytest.approx(thresholds[1] / thresholds[0], rel=1e-5)
    assert less["nearest_old"] / all_["nearest_old"] == pytest.approx(thresholds[1] / thresholds[0], rel=1e-5)
    assert any("a larger --accept lets none" in text for text in found[0.9]["remarks"])
