"""Flower's own differential privacy around our apps: what a site sends is clipped, or noisy, before it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.clientapp.mod import LocalDpMod, fixedclipping_mod
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideFixedClipping,
)

import tgdonnx
from tests.federated.flower.runs import CONFIG
from tests.federated.sites import artifacts, data, make_site
from tests.support.checkpoints import CHECKPOINT
from tgdonnx.federated.client_app import client_app
from tgdonnx.federated.here import Here
from tgdonnx.federated.plan import read_plan
from tgdonnx.federated.server_app import averaging, federate
from tgdonnx.finetuning.session import read_parameters

pytestmark = pytest.mark.federated
CLIP, NOISE = 0.05, 0.02


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifacts(tmp_path_factory.mktemp("built"))


def moved(built: Path, folder: Path, mods: list[Any], strategy: Any) -> np.ndarray:
    """How far all numbers that train moved in one round at two sites."""
    server = artifacts(folder / "server")
    sites = [make_site(folder, built, name, data(6, place)) for place, name in enumerate(("north", "south"))]
    plan = read_plan({**CONFIG, "artifacts": str(server), "output": str(folder / "tuned.onnx"), "rounds": 1})
    federate(Here(sites, client_app(mods)), plan, strategy)
    assert tgdonnx.verify(folder / "server" / "model.onnx", folder / "tuned.onnx").ok
    start, end = read_parameters(built, CHECKPOINT), read_parameters(server, CHECKPOINT)
    return np.concatenate([(end[name] - start[name]).astype(np.float64).ravel() for name in start])


def test_without_them_numbers_move_further_than_the_clip(built: Path, tmp_path: Path) -> None:
    assert np.linalg.norm(moved(built, tmp_path, [], averaging())) > 2 * CLIP


def test_what_a_site_sends_is_clipped_there(built: Path, tmp_path: Path) -> None:
    strategy = DifferentialPrivacyClientSideFixedClipping(averaging(), 0.0, CLIP, 2)
    assert np.linalg.norm(moved(built, tmp_path, [fixedclipping_mod], strategy)) <= CLIP * (1 + 1e-4)


def test_what_sites_sent_is_clipped_at_the_server(built: Path, tmp_path: Path) -> None:
    strategy = DifferentialPrivacyServerSideFixedClipping(averaging(), 0.0, CLIP, 2)
    assert np.linalg.norm(moved(built, tmp_path, [], strategy)) <= CLIP * (1 + 1e-4)


def test_noise_of_local_privacy_is_in_what_a_site_sends_and_in_nothing_that_is_frozen(
    built: Path, tmp_path: Path
) -> None:
    np.random.seed(0)  # noqa: NPY002  # Flower draws its noise from it
    delta, epsilon = 1e-5, 100.0
    sensitivity = NOISE * epsilon / np.sqrt(2 * np.log(1.25 / delta))
    found = moved(built, tmp_path, [LocalDpMod(1e-6, sensitivity, epsilon, delta)], averaging())
    noisy = found[found != 0]
    assert len(noisy) < len(found)
    # The mean of two draws, over n numbers: the estimate of its deviation is within 4 of its own.
    expected = NOISE / np.sqrt(2)
    assert abs(noisy.std() / expected - 1) < 4 / np.sqrt(2 * len(noisy))
