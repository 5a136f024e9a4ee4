"""Flower's own programs on this machine: its simulation, and a SuperLink with SuperNodes and TLS.

They come to the file that the apps come to in this process, byte for byte.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import tgdonnx
from tests.federated.sites import artifacts, data, make_site
from tgdonnx.federated.here import federate_here
from tgdonnx.federated.history import read_history
from tgdonnx.federated.plan import read_plan

sys.path.insert(1, str(Path(__file__).parents[3] / "samples" / "federated"))

from certificates import make_certificates
from flower import Federation, federation

pytestmark = [pytest.mark.federated, pytest.mark.slow]
SAMPLE = Path(__file__).parents[3] / "samples" / "federated"
SIZES = {"north": 4, "south": 6}
CONFIG: dict[str, Any] = {"rounds": 2, "batch": 4, "learning-rate": 1e-3, "metrics": "rmse"}
SECONDS = 300.0


class World:
    """A server and its sites, with what they come to in this process."""

    def __init__(self, folder: Path) -> None:
        built = artifacts(folder / "built")
        self.model = folder / "built" / "model.onnx"
        self.server, self.output = Path(shutil.copytree(built, folder / "server")), folder / "tuned.onnx"
        self.sites = [
            make_site(folder, built, name, data(size, place), validation=data(3, 9))
            for place, (name, size) in enumerate(SIZES.items())
        ]
        here = Path(shutil.copytree(built, folder / "here"))
        plan = read_plan({**CONFIG, "artifacts": str(here), "output": str(folder / "here.onnx")})
        federate_here(plan, self.sites)
        self.expected = (folder / "here.onnx").read_bytes()

    @property
    def config(self) -> dict[str, Any]:
        return {**CONFIG, "artifacts": self.server, "output": self.output, "sites": len(self.sites)}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world")


def logs(flower: Federation) -> str:
    return "\n".join(f"{path.name}:\n{path.read_text('utf-8', 'replace')}" for path in flower.folder.glob("*.log"))


def test_flowers_simulation_comes_to_the_same_file(world: World, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for site in world.sites:
        text = site.read_text("utf-8").replace('"artifacts"', f'"{site.parent}/artifacts"')
        text = text.replace('"data.npz"', f'"{site.parent}/data.npz"')
        text = text.replace('"validation.npz"', f'"{site.parent}/validation.npz"')
        (files / f"{site.parent.name}.toml").write_text(text, "utf-8")
    with federation(tmp_path / "flower", None, simulated=len(world.sites)) as flower:
        told = flower.run(SAMPLE / "app", {**world.config, "site-files": files}, seconds=SECONDS)
        assert world.output.is_file(), told + logs(flower)
    assert world.output.read_bytes() == world.expected


def test_a_superlink_and_supernodes_with_tls_come_to_the_same_file(world: World, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    with federation(tmp_path / "flower", certificates) as flower:
        for site in world.sites:
            flower.add_site(site.parent.name, site)
        told = flower.run(SAMPLE / "app", world.config, seconds=SECONDS)
        assert world.output.is_file(), told + logs(flower)
    assert world.output.read_bytes() == world.expected
    assert tgdonnx.verify(world.model, world.output).ok


def test_a_site_that_is_killed_is_waited_for_as_long_as_is_said_and_the_rounds_go_on(
    world: World, tmp_path: Path
) -> None:
    certificates, timeout = make_certificates(tmp_path / "certificates"), 60.0
    with federation(tmp_path / "flower", certificates) as flower:
        nodes = [flower.add_site(site.parent.name, site) for site in world.sites]
        submitted = flower.submit(SAMPLE / "app", {**world.config, "rounds": 3, "timeout": timeout, "wait": 120.0})
        end = time.monotonic() + SECONDS
        while len(rounds(world.server)) < 2 and time.monotonic() < end:  # the start, and the first round
            time.sleep(0.5)
        nodes[1].kill()
        while not world.output.is_file() and time.monotonic() < end:
            time.sleep(0.5)
        assert world.output.is_file(), submitted + logs(flower)
    found = rounds(world.server)
    assert [site.site for site in found[1].sites if site.samples] == ["north", "south"]
    assert [site.site for site in found[3].sites if site.samples] == ["north"]
    assert any(each.site == "south" for later in found[2:] for each in later.refused)
    assert all(later.seconds < 2 * timeout + 60 for later in found[2:])
    assert tgdonnx.verify(world.model, world.output).ok


def rounds(server: Path) -> Any:
    return read_history(server).rounds if (server / "federated.json").is_file() else ()
