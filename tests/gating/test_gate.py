"""What gate reports of a detector is what its file does, in ONNX Runtime as it is by default."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.adapting.networks import NETWORKS
from tests.gated_model.gated_files import Pair, adapted, answers, tuned_otherwise
from tests.support.models import Array
from tgdonnx.errors import DataError


@pytest.fixture(scope="module", params=["side paths", "branches"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair") / "files"
    if request.param == "side paths":
        return adapted(NETWORKS["conv"], folder)
    return tuned_otherwise(NETWORKS["conv"], folder, {"w": [0]})


def images(count: int, seed: int, spread: float) -> Array:
    """Images of which mean and contrast vary, of every channel by itself."""
    rng = np.random.default_rng(seed)
    offset, contrast = rng.normal(0, spread, (count, 3, 1, 1)), np.exp(rng.normal(0, spread, (count, 3, 1, 1)))
    return (offset + contrast * rng.normal(size=(count, 3, 8, 8))).astype(np.float32)


@pytest.mark.parametrize("accept", [0.8, 1.0])
def test_the_file_decides_by_the_shares_that_the_report_claims(accept: float, pair: Pair, tmp_path: Path) -> None:
    new, held_out, old = images(40, 0, 0.3), images(60, 1, 0.32), images(50, 2, 12.0)
    data = tgdonnx.GateData({"x": new}, {"x": held_out}, {"x": old}, accept=accept)
    both = tmp_path / "both.onnx"
    report = tgdonnx.gate(pair.vendor, pair.tuned, both, data=data, layer="A", detector_outputs=True)
    shares = report.separation
    assert shares is not None
    assert report.threshold is not None
    said = {}
    for name, inputs in (("held_out", held_out), ("old", old)):
        *_, is_new, residuals = answers(both, {"x": inputs})
        assert np.array_equal(is_new, residuals < np.float32(report.threshold))
        said[name] = is_new
    assert (shares.held_out, shares.retain) == (said["held_out"].mean(), 1 - said["old"].mean())
    assert shares.accept == accept <= shares.new
    # And by numpy alone: principal components of the input's own statistics.
    floor = 1e-4 * new.var(axis=(2, 3)).mean()
    values, others, olds = (
        np.hstack([x.mean(axis=(2, 3)), np.log(x.var(axis=(2, 3)) + floor)]).astype(np.float64)
        for x in (new, held_out, old)
    )
    left_out = [residual(values[i], np.delete(values, i, axis=0)) for i in range(40)]
    threshold = np.sort(left_out)[int(np.ceil(accept * 39))]
    assert report.threshold == pytest.approx(threshold, rel=1e-3)
    assert shares.new == np.mean(left_out <= threshold)
    for name, features in (("held_out", others), ("old", olds)):
        assert np.array_equal(said[name], [residual(each, values) <= threshold for each in features])
    proof = tgdonnx.verify(pair.vendor, both)
    assert (proof.ok, proof.violations) == (True, ())


def residual(value: Array, others: Array) -> float:
    """What 5 principal components leave of 6 features, by the eigenvectors of the covariance."""
    mean = others.mean(axis=0)
    least = np.linalg.eigh(np.cov((others - mean).T))[1][:, 0]
    return float(((value - mean) @ least) ** 2)


def test_of_the_share_the_file_keeps_the_threshold_alone(pair: Pair, tmp_path: Path) -> None:
    written = []
    for accept in (0.95, 1.0):  # of 8 inputs both take all
        data = tgdonnx.GateData({"x": images(8, 0, 0.3)}, accept=accept)
        tgdonnx.gate(pair.vendor, pair.tuned, tmp_path / "both.onnx", data=data, layer="A", overwrite=True)
        written.append((tmp_path / "both.onnx").read_bytes())
    assert written[0] == written[1]
    record = json.loads(
        next(p.value for p in onnx.load(tmp_path / "both.onnx").metadata_props if p.key == "tgdonnx.gate")
    )
    assert set(record["detector"]) == {"layer", "value", "images", "threshold", "sha256"}


def test_a_share_that_cannot_be_is_refused_before_anything_is_read() -> None:
    with pytest.raises(DataError, match=r"above 0\.5 and at most 1, got nan"):
        tgdonnx.GateData("nowhere.npz", accept=float("nan"))
