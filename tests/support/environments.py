"""Virtual environments other than the one that the tests run in.

They are made once and kept in pytest's cache directory, under a name that follows from what is in them and from the Python
that made them; an environment that was not finished is made again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    path: Path

    @property
    def python(self) -> Path:
        return self.path / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def pip(self, *arguments: str) -> None:
        # By the pip of this environment, and uncompiled: what is imported is compiled then, and most never is.
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--no-compile"]
        command = [*pip, "--quiet", "--disable-pip-version-check", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.path, timeout=900)
        assert done.returncode == 0, done.stderr

    def run(self, code: str, *arguments: object, cwd: Path, path: Sequence[str] = ()) -> str:
        """Runs code, isolated from the checkout, and returns what it printed. ``path``: searched after everything else."""
        code = f"import sys\nsys.path += {list(path)!r}\n{code}"
        command = [str(self.python), "-I", "-c", code, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout


def make_environment(cache: pytest.Cache, name: str, requirements: Sequence[str], made_from: str = "") -> Environment:
    """Returns an environment with the requirements, from the cache if it is there.

    Args:
        cache: pytest's.
        name: the beginning of the name of its directory.
        requirements: for pip.
        made_from: what else decides about its content.
    """
    identity = "\n".join([*requirements, made_from, sys.version, sysconfig.get_platform()])
    key = f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    environment = Environment(cache.mkdir("environments") / key)
    finished = environment.path / "finished"
    with FileLock(f"{environment.path}.lock"):  # tests run in several processes
        if not finished.exists():
            shutil.rmtree(environment.path, ignore_errors=True)
            subprocess.run(
                [sys.executable, "-m", "venv", "--without-pip", str(environment.path)], check=True, timeout=300
            )
            environment.pip(*requirements)
            finished.touch()
    return environment


@pytest.fixture(scope="session")
def stock_environment(pytestconfig: pytest.Config) -> Environment:
    """The newest onnxruntime as everybody has it, numpy, and nothing else."""
    assert pytestconfig.cache is not None
    return make_environment(pytestconfig.cache, "stock", ["numpy", "onnxruntime"])


@pytest.fixture(scope="session")
def no_torch_environment(pytestconfig: pytest.Config) -> Environment:
    """``tgdonnx[train]`` as a user installs it, from this checkout; no torch."""
    assert pytestconfig.cache is not None
    requirement = f"{ROOT}[train]"
    metadata = (ROOT / "pyproject.toml").read_text("utf-8")
    environment = make_environment(pytestconfig.cache, "no-torch", [requirement], made_from=metadata)
    installed, now = environment.path / "checkout", _content_of_checkout()
    with FileLock(f"{environment.path}.lock"):  # not while tests in another process use it
        if not installed.is_file() or installed.read_text("utf-8") != now:
            environment.pip("--no-deps", "--force-reinstall", str(ROOT))
            installed.write_text(now, "utf-8")
    return environment


def _content_of_checkout() -> str:
    """A hash of what is installed."""
    digest = hashlib.sha256()
    for path in sorted([ROOT / "pyproject.toml", ROOT / "README.md", *(ROOT / "tgdonnx").rglob("*.*")]):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(str(path.relative_to(ROOT)).encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
