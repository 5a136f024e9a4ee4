"""Flower's own programs on this machine: a SuperLink, SuperNodes, and `flwr run`. Its telemetry is off.

A `Federation` is a directory with the configuration and the logs of them; what is started in it is stopped at its end.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from certificates import Certificates

PROGRAMS = Path(sys.executable).parent
START = 120.0  # seconds that a program may take to listen, on a machine that has much else to do


@dataclass
class Federation:
    """A SuperLink, and what belongs to it.

    Attributes:
        folder: for configuration and logs.
        port: of the SuperLink.
        certificates: for TLS; None: connections are not encrypted, which is for one machine alone.
        processes: what was started, by name.
    """

    folder: Path
    port: int
    certificates: Certificates | None
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts one of Flower's programs; its output is in ``NAME.log``."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [PROGRAMS / program, *arguments], stdout=log, stderr=log, env=self.environment, cwd=self.folder
            )
        return self.processes[name]

    @property
    def environment(self) -> dict[str, str]:
        """What Flower's programs find in their environment."""
        found = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "FLWR_HOME": str(self.folder)}
        found["RAY_raylet_start_wait_time_s"] = f"{START:.0f}"  # of simulations
        found["PATH"] = f"{PROGRAMS}{os.pathsep}{found['PATH']}"
        return found

    def add_site(self, name: str, site: Path) -> subprocess.Popen[bytes]:
        """Starts the SuperNode of a site."""
        trust = (
            ["--insecure"] if self.certificates is None else ["--root-certificates", str(self.certificates.authority)]
        )
        link = f"{'127.0.0.1' if self.certificates is None else 'localhost'}:{self.port}"
        told = ["--superlink", link, "--port", str(free_port()), "--node-config", f'site="{site}"']
        return self.start(name, "flower-supernode", *trust, *told)

    def run(self, app: Path, config: Mapping[str, Any], *, seconds: float) -> str:
        """Runs an app to its end, as `flwr run --stream` does; returns what it printed. It does not say whether the run failed.

        Args:
            app: the directory with the app's ``pyproject.toml``.
            config: of the run; keys have to be in the app's own.
            seconds: after which it is given up.
        """
        return self._flwr_run(app, config, ["--stream"], seconds)

    def submit(self, app: Path, config: Mapping[str, Any]) -> str:
        """Gives an app to the SuperLink, as `flwr run` does, and does not wait for it; returns what that printed."""
        return self._flwr_run(app, config, [], START)

    def _flwr_run(self, app: Path, config: Mapping[str, Any], more: list[str], seconds: float) -> str:
        told = " ".join(f"{key}={_toml(value)}" for key, value in config.items())
        command = [PROGRAMS / "flwr", "run", str(app), *more, "--run-config", told]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.environment, timeout=seconds, check=False
        )
        if done.returncode:
            raise SystemExit(f"flwr run failed:\n{done.stdout}{done.stderr}")
        return done.stdout


@contextmanager
def federation(folder: Path, certificates: Certificates | None, *, simulated: int = 0) -> Iterator[Federation]:
    """Starts a SuperLink, and stops it, and what was started besides, at the end of the block.

    Args:
        folder: for configuration and logs; it is made.
        certificates: for TLS.
        simulated: how many SuperNodes it simulates by itself, one after the other; 0: they are processes, see `add_site`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = Federation(folder, free_port(), certificates)
    secure = ["--insecure"]
    where = f'address = "127.0.0.1:{made.port}"\ninsecure = true\n'
    if certificates is not None:
        secure = ["--ssl-ca-certfile", str(certificates.authority), "--ssl-certfile", str(certificates.certificate)]
        secure += ["--ssl-keyfile", str(certificates.key)]
        where = f'address = "localhost:{made.port}"\nroot-certificates = "{certificates.authority}"\n'
    options = ["--simulation"] if simulated else []
    if simulated:  # each takes both cores, so that they come one after the other
        where += f"options.num-supernodes = {simulated}\noptions.backend.client-resources.num-cpus = 2\n"
        where += "options.backend.init-args.num-cpus = 2\n"
    (folder / "config.toml").write_text(f'[superlink]\ndefault = "here"\n\n[superlink.here]\n{where}', "utf-8")
    try:
        install = "--disable-runtime-dependency-installation"  # what apps need is installed here
        link = made.start("superlink", "flower-superlink", *secure, *options, "--port", str(made.port), install)
        _wait_for(made.port, link, folder / "superlink.log")
        yield made
    finally:
        for process in reversed(made.processes.values()):
            process.terminate()
        for process in made.processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(folder / "apps", ignore_errors=True)


def free_port() -> int:
    """Returns a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"Flower did not start:\n{log.read_text('utf-8', 'replace')}")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, (str, Path)) else str(value)
