"""Flower's secure aggregation around our apps: the average comes out, and what each site did does not."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from flwr.common import bytes_to_ndarray
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key
from flwr.server.workflow import SecAggPlusWorkflow

import tgdonnx
from tests.federated.flower.runs import CONFIG
from tests.federated.sites import artifacts, data, make_site
from tests.support.checkpoints import CHECKPOINT
from tgdonnx.errors import FederationError
from tgdonnx.federated.client_app import client_app
from tgdonnx.federated.here import Here
from tgdonnx.federated.history import History, read_history
from tgdonnx.federated.plan import read_plan
from tgdonnx.federated.secure import SecureGrid, secure_mod
from tgdonnx.federated.server_app import averaging, federate
from tgdonnx.finetuning.session import read_parameters

pytestmark = pytest.mark.federated
SIZES = {"north": 4, "south": 6, "west": 5}
CLIP, RANGE, MOST = 4.0, 2**22, 8.0
STEP = 2 * CLIP / RANGE  # to which a site's numbers, weighted by its samples over MOST, are rounded


class Overheard(Here):
    """A grid that keeps what sites answered."""

    def __init__(self, sites: Sequence[Path], client: Any) -> None:
        super().__init__(sites, client)
        self.heard: list[Message] = []

    def send_and_receive(self, *messages: Any, **more: Any) -> list[Message]:
        replies = super().send_and_receive(*messages, **more)
        self.heard += deepcopy(replies)
        return replies


def workflow() -> SecAggPlusWorkflow:
    return SecAggPlusWorkflow(1.0, 2, max_weight=MOST, clipping_range=CLIP, quantization_range=RANGE)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifacts(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifacts(tmp_path_factory.mktemp("another"), seed=1)


def sites_of(folder: Path, built: Path, names: Sequence[str], odd: Path) -> list[Path]:
    """The files of sites; those that are not named have other artifacts."""
    return [
        make_site(folder, built if name in names else odd, name, data(size, place))
        for place, (name, size) in enumerate(SIZES.items())
    ]


def run(folder: Path, grid: Any, rounds: int) -> tuple[dict[str, np.ndarray], History]:
    server = artifacts(folder / "server")
    told = {"artifacts": str(server), "output": str(folder / "tuned.onnx"), "rounds": rounds, "learning-rate": 1e-3}
    federate(grid, read_plan({**CONFIG, **told}), averaging())
    assert tgdonnx.verify(folder / "server" / "model.onnx", folder / "tuned.onnx").ok
    return read_parameters(server, CHECKPOINT), read_history(server)


def test_the_average_is_that_of_the_same_sites_without_it(built: Path, another: Path, tmp_path: Path) -> None:
    plain, _ = run(tmp_path / "plain", Here(sites_of(tmp_path / "a", built, list(SIZES), another)), 1)
    secured = Here(sites_of(tmp_path / "b", built, list(SIZES), another), client_app([secure_mod]))
    found, history = run(tmp_path / "secured", SecureGrid(secured, workflow()), 1)
    start = read_parameters(built, CHECKPOINT)
    share = sum(SIZES.values()) / MOST
    bound = len(SIZES) * STEP / share + 1e-6  # of every site one step, and float32 beside it
    assert max(np.abs(found[name] - plain[name]).max() for name in plain) < bound
    assert max(np.abs(plain[name] - start[name]).max() for name in plain) > 100 * bound
    assert [each.site for each in history.rounds[1].sites if each.samples] == sorted(SIZES)


def test_what_a_site_sends_are_numbers_under_a_mask(built: Path, another: Path, tmp_path: Path) -> None:
    grid = Overheard(sites_of(tmp_path, built, list(SIZES), another), client_app([secure_mod]))
    run(tmp_path, SecureGrid(grid, workflow()), 2)
    assert all(not record for reply in grid.heard for record in reply.content.array_records.values())
    told = [dict(reply.content.config_records.get(RECORD_KEY_CONFIGS, {})) for reply in grid.heard]
    masked = [each[Key.MASKED_PARAMETERS] for each in told if Key.MASKED_PARAMETERS in each]
    assert len(masked) == 2 * len(SIZES)
    for arrays in masked:  # uniform over 2^32, where the numbers themselves lie close together
        values = np.concatenate([bytes_to_ndarray(each).ravel() for each in arrays]) / 2**32
        assert abs(values.mean() - 0.5) < 6 / np.sqrt(12 * len(values))
        assert np.histogram(values, 4, (0, 1))[0].min() > len(values) / 8


def test_a_site_that_refuses_is_named_and_the_others_go_on(built: Path, another: Path, tmp_path: Path) -> None:
    names = ["north", "west"]
    files = sites_of(tmp_path / "a", built, names, another)
    plain, _ = run(tmp_path / "plain", Here(files), 1)
    secured = Here(sites_of(tmp_path / "b", built, names, another), client_app([secure_mod]))
    found, history = run(tmp_path / "secured", SecureGrid(secured, workflow()), 1)
    bound = 2 * STEP * MOST / (SIZES["north"] + SIZES["west"]) + 1e-6
    assert max(np.abs(found[name] - plain[name]).max() for name in plain) < bound
    assert [each.site for each in history.rounds[1].sites if each.samples] == names
    (refused,) = history.rounds[1].refused
    assert refused.reason.startswith("south: the site's artifacts are not the server's")


def test_where_too_few_are_left_no_round_counts(built: Path, another: Path, tmp_path: Path) -> None:
    grid = Here(sites_of(tmp_path, built, ["north"], another), client_app([secure_mod]))
    with pytest.raises(FederationError, match="secure aggregation was halted"):
        run(tmp_path, SecureGrid(grid, workflow()), 1)
