"""Command lines: honest ones of every command, of which some parts are replaced by wrong ones.

A case follows from a seed and its number, and from nothing else but the options that the commands have.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

import click

from tests.fuzzing import world
from tests.fuzzing.damage import damage, odd_place
from tests.fuzzing.junk import NAMES
from tgdonnx.cli import main

_JUNK = (
    "",
    "-",
    "--",
    "x",
    "nan",
    "inf",
    "-1",
    "0",
    "1e308",
    "-1e999",
    "1e-320",
    str(2**63),
    "9" * 400,
    "1_0",
    "٣",
    "0x10",
    "x" * 5000,
)
_TEXTS: dict[str, Sequence[str]] = {
    "--loss": (
        "mse",
        "l1",
        "0.8*l1+0.2*ssim",
        "ce",
        "bce",
        "charbonnier",
        "1e308*l1",
        "0*l1",
        "nan*l1",
        "l1+l1",
        "*",
        "+" * 3000,
    ),
    "--blend": ("0", "0.5", "1", "auto"),
    "--at": ("0.5", "0,1", "0.25,0.75,0.25", ",", "0.5,x"),
    "--layout": (
        "NCHW",
        "NHWC",
        "HW",
        "HWC",
        "DHW",
        "x=NCHW",
        "NCHW:NHWC",
        "CC",
        "nowhere=HW",
        "=",
        "x=",
        ":",
        "N" * 999,
    ),
    "--scale": (
        "255",
        "minmax",
        "zscore",
        "percentile",
        "x=255",
        "0",
        "-1",
        "nan",
        "1e308",
        "1e-320",
        "nowhere=2",
        "=",
    ),
    "--patch": ("4x4", "4", "0x0", "-1x-1", "99x99", "4x4x4", f"{2**40}x{2**40}", "x", "4x", "1e3x2"),
    "--tile": ("4x4", "4", "0x0", "-1x-1", "99x99", "4x4x4", f"{2**40}x{2**40}", "x", "4x", "1x1"),
    "--map": ("x=x", "target=x", "nowhere=x", "x=nowhere", "=", "a=b=c", "x", "0", "1", "99"),
    "--phi": ("0.3", "auto", "0.1,0.2", ",", "0.3,nan", "1", "0", ",".join(["0.5"] * 3000)),
    "--augment": ("flip", "rot90", "flip,rot90", "nonsense", ",", "noise"),
    "--select": ("tgd", "last", "all", "tgd,all", "random", "nonsense", "tgd+l2sp", "all+agree", ",", "+", "tgd,tgd"),
    "--layer": ("conv1", "conv3", "nowhere"),
    "--output": ("y", "t1", "nowhere", "x"),
    "--checkpoint": ("checkpoint", "checkpoint.best", "nowhere", "../in/dncnn.onnx", "manifest.json", "."),
    "--max-time": ("1s", "0", "-1s", "x", "1d", "nan", "0.5"),
    "--checkpoint-every": ("1s", "0", "1h", "-1", "x", "1e308h"),
}
_WRITTEN = ("-o", "--plot", "--report", "--applied", "--tensorboard")
_PLACES = (
    "out/x",
    "out",
    "out/none/x",
    "out/x.onnx",
    "out/x.npy",
    "out/x.html",
    "out/x.png",
    "out/x.json",
    "out/" + "n" * 300,
    "out/a\x00b",
)
_ODD_OUTPUTS = (
    "",
    "-",
    ".",
    "in",
    "in/dncnn.onnx",
    "in/data.npz",
    "built",
    "trained/checkpoint",
    "trained",
    "out/\x1b[31m.onnx",
)
_NAMED_OUTPUTS = (
    "out/[/bold].onnx",
    "out/\u202egpj.onnx",
    "out/\udcff.onnx",
    "out/$x$.png",
    "out/a\nb.csv",
    "out/x.NPZ",
    "in/none/../x.onnx",
)
_BRIEF = ("--max-time", "3s", "--steps", "2", "--batch", "2")


@dataclass(frozen=True)
class Part:
    """A word of a command line with what belongs to it.

    Attributes:
        option: ``--data``; empty for an argument.
        value: what follows; None for a flag.
        role: what kind of file the value names; empty for no file.
    """

    option: str
    value: Optional[str] = None
    role: str = ""

    def words(self) -> list[str]:
        return [word for word in (self.option, self.value) if word is not None and (word or not self.option)]


@dataclass(frozen=True)
class Case:
    """A command line.

    Attributes:
        seed: of all cases.
        number: of this one.
        arguments: to be run in the directory of files.
    """

    seed: int
    number: int
    arguments: tuple[str, ...]


def make_case(seed: int, number: int, directory: Path) -> Case:
    """Chooses a case, and damages files in a fresh copy of the world in ``directory`` as it wants."""
    rng = random.Random(f"{seed}-{number}")
    command = rng.choice(sorted(main.commands))
    parts = [_existing(part, rng) for part in _honest(command, rng)]
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3))):
        parts = _spoilt(command, parts, rng, directory)
    for flag, chance in (("--json", 0.3), ("--overwrite", 0.2)):
        if rng.random() < chance and flag in _options(command):
            parts.append(Part(flag))
    words = [
        word
        for part in parts
        for word in ((part.option, part.value) if part.option else (part.value,))
        if word is not None
    ]
    return Case(seed, number, (command, *words))


def _options(command: str) -> dict[str, click.Option]:
    found = {}
    for parameter in main.commands[command].params:
        if isinstance(parameter, click.Option) and parameter.name != "config":
            found[max(parameter.opts, key=len)] = parameter
    return found


def _honest(command: str, rng: random.Random) -> list[Part]:
    model = Part("", "", "model")
    data = Part("--data", "", "data")
    brief = [Part(option, value) for option, value in zip(_BRIEF[::2], _BRIEF[1::2])]
    output = {
        "mask": "out/x.onnx",
        "export": "out/x.onnx",
        "finetune": "out/x.onnx",
        "apply": "out/x.npy",
        "report": "out/x.html",
    }
    written = Part("-o", output.get(command, "out/x"))
    selection = rng.choice(
        [
            [Part("--phi", "0.3")],
            [Part("--all")],
            [Part("--last", "1")],
            [Part("--filters", "", "filters")],
            [Part("--percentile", "20")],
        ]
    )
    templates = {
        "inspect": [model],
        "score": [model],
        "trace": [model],
        "check": [model],
        "sweep": [model, data],
        "mask": [model, written, *selection],
        "build": [Part("", "", "masked"), written],
        "train": [Part("", "", "artifacts"), data, *brief],
        "export": [Part("", "trained", "artifacts"), written],
        "blend": [Part("", "trained", "artifacts"), Part("--validation", "", "data")],
        "verify": [Part("", "in/dncnn.onnx", "model"), Part("", "", "tuned")],
        "finetune": [model, data, written, *selection, *brief],
        "compare": [model, data, written, *brief[1:], Part("--validation", "", "data")],
        "apply": [model, Part("--data", "", "image"), written],
        "report": [Part("", "trained", "artifacts"), written],
    }
    return (
        templates[command]
        if command in templates
        else [model, *([written] if "-o" in str(main.commands[command].params) else [])]
    )


_POOLS = {
    "model": world.MODELS,
    "masked": world.MASKED,
    "tuned": world.TUNED,
    "artifacts": world.ARTIFACTS,
    "data": world.DATA,
    "image": world.IMAGES,
    "filters": world.FILTERS,
    "config": world.CONFIGS,
}


def _existing(part: Part, rng: random.Random) -> Part:
    return replace(part, value=rng.choice(_POOLS[part.role])) if part.role and not part.value else part


def _spoilt(command: str, parts: list[Part], rng: random.Random, directory: Path) -> list[Part]:
    """Returns the parts with one thing wrong, or only different."""
    files = [at for at, part in enumerate(parts) if part.role]
    kind = rng.random()
    if kind < 0.35 and files:
        # Only copies of honest files: whatever else a part may name by now lies outside, where damage would be real.
        value = str(parts[rng.choice(files)].value)
        if any(value in pool for pool in _POOLS.values()):
            damage(rng, directory / value, directory)
        return parts
    if kind < 0.5 and files:
        at = rng.choice(files)
        return [
            *parts[:at],
            replace(parts[at], value=_other_file(parts[at], command, rng, directory)),
            *parts[at + 1 :],
        ]
    if kind < 0.58 and parts:
        at = rng.randrange(len(parts))
        return parts[:at] + parts[at + 1 :] if parts[at].option not in _BRIEF else parts
    if kind < 0.62:
        return [*parts, Part("", rng.choice(_JUNK))]
    if kind < 0.66:
        at = next((at for at, part in enumerate(parts) if part.option == "-o"), None)
        places = (*_PLACES, *_ODD_OUTPUTS, *_NAMED_OUTPUTS)
        return parts if at is None else [*parts[:at], Part("-o", rng.choice(places)), *parts[at + 1 :]]
    if kind < 0.70 and command in ("train", "finetune", "compare"):
        config = rng.choice(world.CONFIGS)
        if rng.random() < 0.7:
            damage(rng, directory / config, directory)
        return [*parts, Part("--config", config, "config")]
    options = _options(command)
    # A comparison of 2 ** 63 steps is no fault, only long; other commands are ended by --max-time.
    left = {"--json", "--overwrite", *(("--steps", "--epochs") if command == "compare" else ())}
    name = rng.choice(sorted(set(options) - left) or ["--json"])
    kept = [part for part in parts if part.option != name or options[name].multiple]
    return [*kept, *_option(name, options[name], command, rng, directory)]


def _option(name: str, option: click.Option, command: str, rng: random.Random, directory: Path) -> list[Part]:
    if option.is_flag:
        return [Part(name)]
    if name in _WRITTEN or (name == "--artifacts" and command == "finetune"):
        return [Part(name, rng.choice((*_PLACES, *_ODD_OUTPUTS, *_NAMED_OUTPUTS)))]
    if option.nargs == 2:
        first, second = (_file("image", command, rng, directory) for _ in range(2))
        return [Part(name, first), Part("", second)]
    if isinstance(option.type, click.Path):
        roles = {
            "--model": "model",
            "--tuned": "tuned",
            "--masked": "masked",
            "--filters": "filters",
            "--artifacts": "artifacts",
        }
        role = roles.get(name, "image" if name == "--apply" else "data")
        return [Part(name, _file(role, command, rng, directory), role)]
    if isinstance(option.type, click.Choice):
        return [Part(name, rng.choice((*option.type.choices, *option.type.choices, *_JUNK)))]
    if name in _TEXTS:
        junk = () if name == "--max-time" else (*_JUNK, *NAMES[:12])
        texts = _TEXTS[name]
        return [Part(name, rng.choice(texts if rng.random() < 0.75 else (*texts, *junk)).replace("\x00", ""))]
    if isinstance(option.type, click.types.StringParamType):
        return [Part(name, rng.choice((*_JUNK, *NAMES)).replace("\x00", ""))]
    return [Part(name, rng.choice((*_JUNK, "1", "2", "3", "0.5", "0.01", "1.0", "7")))]


def _file(role: str, command: str, rng: random.Random, directory: Path) -> str:
    honest = rng.choice(_POOLS[role])
    return honest if rng.random() < 0.6 else _other_file(Part("", honest, role), command, rng, directory)


def _other_file(part: Part, command: str, rng: random.Random, directory: Path) -> str:
    """Returns a file of another kind, or none."""
    if rng.random() < 0.4:
        return rng.choice([path for pool in _POOLS.values() for path in pool])
    if part.role == "artifacts" and command == "train":
        return rng.choice(("nowhere", "in", "out", "in/dncnn.onnx", ".", "", "n" * 300, "\x1b[31m"))
    if os.path.lexists(directory / "odd"):
        return rng.choice(("nowhere", "", "-"))
    return odd_place(rng, directory)
