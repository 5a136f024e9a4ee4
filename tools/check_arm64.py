"""Fine-tunes a small net end to end on ARM64, by emulation, and holds its losses against those of this machine.

    python tools/check_arm64.py ROOT [--write]

Makes a Debian for arm64 in the directory ROOT, or takes the one that is there; installs tgdonnx, onnx and onnxruntime in it
from their wheels; runs `tgdonnx finetune` and `tgdonnx verify` there and here, with one model and one data set; and has each
machine prove what the other one made. Exit status 1 says that something differs. Needs a Python with tgdonnx installed, the
rights of root, `apt-get install debootstrap qemu-user-static`, 2 GiB, and about 15 minutes for a new ROOT. Emulation is for
correctness: its timings say nothing.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import onnx
from dncnn import dncnn
from guide_tables import markdown, write_table

SOURCE = Path(__file__).parents[1]
RELEASE, MIRROR, PYTHON = "bookworm", "http://deb.debian.org/debian", "3.11"
PLATFORMS = ("manylinux_2_17_aarch64", "manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64")
BINFMT = Path("/proc/sys/fs/binfmt_misc")
CERTIFICATES = Path("etc/ssl/certs/ca-certificates.crt")
PLACE, STEPS = "work", 20
TABLE = "arm64"
TOLERANCE = 1e-5
"""Of the losses, relative: sums are taken in another order there."""


@dataclass(frozen=True)
class Machine:
    """Where commands run: here, or in another root.

    Attributes:
        name: what the table calls it.
        python: the interpreter in the environment that tgdonnx is in.
        work: the directory of files, as it is called from here.
        root: None for this machine.
    """

    name: str
    python: str
    work: Path
    root: Path | None = None

    def run(self, *command: str) -> str:
        """Returns what a command puts on stdout; it runs in the directory of files."""
        if self.root is None:
            return _out(command, self.work)
        inside = "/" + str(self.work.relative_to(self.root))
        return _out(["chroot", str(self.root), "sh", "-c", f'cd {inside} && exec "$@"', "sh", *command], self.work)

    def tgdonnx(self, *arguments: str) -> str:
        """Returns what a command of ours puts on stdout."""
        return self.run(self.python, "-m", "tgdonnx", *arguments)


@dataclass(frozen=True)
class Outcome:
    """What a machine made of the net."""

    machine: str
    runtime: str
    losses: tuple[float, ...]
    rows: int
    seconds: float


def make_root(root: Path) -> None:
    """Puts a small Debian for arm64, with Python, into a directory, unless it is there."""
    if (root / "usr/bin/python3").exists() and not (root / "debootstrap").exists():
        return
    for tool in ("debootstrap", "qemu-aarch64-static"):
        if shutil.which(tool) is None:
            raise click.UsageError(f"{tool} is not installed: apt-get install debootstrap qemu-user-static")
    packages = "--include=python3,python3-venv,ca-certificates"
    kinds = ["--arch=arm64", "--foreign", "--variant=minbase", packages]
    _out(["debootstrap", *kinds, RELEASE, str(root), MIRROR], root.parent)
    _out(["chroot", str(root), "/debootstrap/debootstrap", "--second-stage"], root.parent)


def require_emulation() -> None:
    """Has the kernel start programs of ARM64 by qemu, in other roots too."""
    if platform.machine() == "aarch64" or (BINFMT / "qemu-aarch64").exists():
        return
    if not (BINFMT / "register").exists():
        _out(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], Path("/"))
    if not (BINFMT / "qemu-aarch64").exists():
        (BINFMT / "register").write_text(Path("/usr/lib/binfmt.d/qemu-aarch64.conf").read_text().strip())


def install(machine: Machine) -> None:
    """Installs tgdonnx and any ONNX Runtime in a fresh environment of another root; wheels are fetched from here."""
    assert machine.root is not None
    wheels = machine.work / "wheels"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _out([*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(SOURCE)], SOURCE)
    (ours,) = wheels.glob("tgdonnx-*.whl")
    kinds = [word for tag in PLATFORMS for word in ("--platform", tag)]
    which = ["--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp", *kinds]
    _out([*pip, "download", *which, "--dest", str(wheels), f"{ours}[ort]"], SOURCE)
    environment = str(Path(machine.python).parents[1])
    machine.run("python3", "-m", "venv", "--clear", environment)
    offline = ["--quiet", "--no-index", "--find-links", "wheels"]
    machine.run(machine.python, "-m", "pip", "install", *offline, f"wheels/{ours.name}[ort]")


def make_files(work: Path) -> None:
    """Writes the net and the data: noisy and clean images, small."""
    onnx.save(dncnn([8, 16, 8], batch_norm=True), work / "model.onnx")
    rng = np.random.default_rng(0)
    clean = rng.random((16, 1, 24, 24), np.float32)
    noise = 0.1 * rng.standard_normal(clean.shape)
    np.savez(work / "data.npz", x=(clean + noise).astype(np.float32), target=clean)


def tune(machine: Machine) -> Outcome:
    """Fine-tunes the net on a machine, and proves it there."""
    begin = time.perf_counter()
    what = ["finetune", "model.onnx", "--data", "data.npz", "--percentile", "40", "--engine", "onnxruntime"]
    how = ["--steps", str(STEPS), "--batch", "4", "--lr", "1e-3", "--seed", "1", "--json"]
    report = json.loads(machine.tgdonnx(*what, *how, "-o", "tuned.onnx", "--overwrite"))
    if not json.loads(machine.tgdonnx("verify", "model.onnx", "tuned.onnx", "--json"))["ok"]:
        raise SystemExit(f"{machine.name}: the tuned model is not proved")
    told = machine.run(
        machine.python, "-c", "import onnxruntime, platform as p; print(p.machine(), onnxruntime.__version__)"
    )
    rows = sum(len(changed["filters"]) for changed in report["verify"]["changed"])
    seconds = time.perf_counter() - begin
    return Outcome(machine.name, told.strip(), tuple(report["train"]["loss"]), rows, seconds)


def prove(machine: Machine, tuned: Path) -> bool:
    """Has a machine prove what another one made."""
    shutil.copy(tuned, machine.work / "other.onnx")
    return bool(json.loads(machine.tgdonnx("verify", "model.onnx", "other.onnx", "--json"))["ok"])


def largest_difference(tuned: Sequence[Path]) -> float:
    """Returns how far two tuned models are apart: the norm of the difference of a tensor by its norm, the largest."""
    first, second = ({t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(p).graph.initializer} for p in tuned)
    return max(float(np.linalg.norm(first[n] - second[n]) / (np.linalg.norm(first[n]) or 1)) for n in first)


def _out(command: Sequence[str], directory: Path) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONPATH": str(SOURCE) if command[0] != "chroot" else ""}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{done.stderr}{' '.join(command)} ended with status {done.returncode}")
    return done.stdout


@click.command()
@click.argument("root", type=click.Path(path_type=Path, file_okay=False, resolve_path=True))
@click.option("--write", is_flag=True, help="Write the table into the guide to numbers.")
def main(root: Path, write: bool) -> None:
    """Fine-tunes a small net on ARM64 in the directory ROOT, and here."""
    require_emulation()
    root.parent.mkdir(parents=True, exist_ok=True)
    make_root(root)
    if Path("/", CERTIFICATES).exists():
        shutil.copy(Path("/", CERTIFICATES), root / CERTIFICATES)
    for name in ("here", PLACE):
        (root / name).mkdir(exist_ok=True)
        make_files(root / name)
    here = Machine("this machine", sys.executable, root / "here")
    there = Machine("ARM64, emulated", "/environment/bin/python", root / PLACE, root)
    install(there)
    found = [tune(here), tune(there)]
    tuned = [machine.work / "tuned.onnx" for machine in (here, there)]
    proofs = prove(here, tuned[1]), prove(there, tuned[0])
    pairs = list(zip(found[0].losses, found[1].losses))
    loss = max(abs(a - b) / abs(a) for a, b in pairs)
    apart = largest_difference(tuned)
    rows = [
        [
            each.machine,
            each.runtime,
            f"{each.losses[0]:.7f} → {each.losses[-1]:.7f}",
            str(each.rows),
            "ok" if ok else "NO",
        ]
        for each, ok in zip(found, reversed(proofs))
    ]
    print(markdown(TABLE, rows), end="")
    print(f"{STEPS} steps; losses differ by {loss:.1e} at most, tensors by {apart:.1e} of their norm")
    print(f"seconds of finetune and verify: {', '.join(f'{each.seconds:.0f}' for each in found)}")
    if len(pairs) != STEPS or loss > TOLERANCE or not all(proofs) or found[0].rows != found[1].rows:
        raise SystemExit(1)
    if write:
        write_table(TABLE, rows)


if __name__ == "__main__":
    main()
