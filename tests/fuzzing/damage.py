"""Damage to files: what bad disks, bad exporters and people who mean harm make of them. All of it follows from a seed."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzzing.damaged_models import damaged_model
from tests.fuzzing.junk import JUNK, NAMES


def damage(rng: random.Random, path: Path, copies: Path) -> None:
    """Damages the file or directory at a path, which lies, links resolved, below the directory of copies.

    Raises:
        ValueError: it lies elsewhere, where the damage would be real.
    """
    if copies.resolve() not in path.resolve().parents:
        raise ValueError(f"{path} is none of the copies in {copies}")
    if path.is_dir():
        _damage_directory(rng, path, copies)
        return
    if rng.random() < 0.75:
        try:
            _damage_content(rng, path)
            return
        except Exception:  # damaged before, so that its content cannot be read any more
            pass
    _damage_bytes(rng, path)


def _damage_content(rng: random.Random, path: Path) -> None:
    if path.suffix == ".onnx":
        path.write_bytes(damaged_model(rng, path.read_bytes()))
    elif path.suffix in (".json", ".jsonl", ".yaml", ".toml"):
        _damage_text(rng, path)
    elif path.suffix in (".npz", ".npy"):
        _damage_arrays(rng, path)
    else:
        _damage_bytes(rng, path)


def _damage_directory(rng: random.Random, path: Path, copies: Path) -> None:
    files = sorted(entry for entry in path.rglob("*") if entry.is_file())
    if not files:
        return
    chosen = rng.choice(files)
    kind = rng.randrange(5)
    if kind == 0:
        chosen.unlink()
    elif kind == 1:
        chosen.unlink()
        chosen.symlink_to(rng.choice(("nowhere", chosen.name, "../in/dncnn.onnx", "/dev/null", "..")))
    elif kind == 2:
        (path / rng.choice(("[bold].npy", "\x1b[31m.png", os.fsdecode(b"\xff\xfe.npy"), "loop"))).write_bytes(b"junk")
    else:
        damage(rng, chosen, copies)


def _damage_bytes(rng: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    kind = rng.randrange(6)
    if kind == 0:
        content = content[: rng.randrange(len(content) + 1)]
    elif kind == 1:
        content = bytearray(rng.randbytes(rng.randrange(200))) if hasattr(rng, "randbytes") else content[:0]
    elif kind == 2:
        content = bytearray()
    elif kind == 3 and content:
        at = rng.randrange(len(content))
        content[at:at] = bytes(rng.getrandbits(8) for _ in range(rng.randrange(1, 9)))
    elif content:
        for _ in range(rng.choice((1, 1, 3, 20))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _damage_text(rng: random.Random, path: Path) -> None:
    kind = rng.randrange(6)
    if kind == 0:
        deep = rng.choice((100, 5_000, 200_000))
        path.write_text(rng.choice(("[" * deep, "[" * deep + "]" * deep, '{"a":' * deep + "1" + "}" * deep)))
    elif kind == 1:
        path.write_text(rng.choice(("null", "[]", "3", '"x"', "{", "a: b: c", "!!python/object/apply:os.system [id]")))
    elif kind == 2:
        path.write_bytes(rng.choice((b"\xff\xfe\x00", b"\xef\xbb\xbf{}", b"{}\x00", b"x = 1" * 50_000)))
    elif path.suffix == ".jsonl":
        lines = path.read_text().splitlines() or ["{}"]
        at = rng.randrange(len(lines))
        lines[at] = _damaged_json(rng, lines[at])
        path.write_text("\n".join(lines))
    elif path.suffix == ".json":
        path.write_text(_damaged_json(rng, path.read_text()))
    else:
        key = rng.choice(("steps", "batch", "lr", "data", "metric", "nonsense", "config", "json", "loss", "scale"))
        value = json.dumps(rng.choice([junk for junk in JUNK if junk != "\ud800"]))
        path.write_text(f"{key}: {value}\n" if path.suffix == ".yaml" else f"{key} = {value}\n")


def _damaged_json(rng: random.Random, text: str) -> str:
    try:
        document = json.loads(text)
    except ValueError:
        return text[:-1]
    holder: Any = document
    while isinstance(holder, (dict, list)) and holder:
        key = rng.choice(sorted(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
        if isinstance(holder[key], (dict, list)) and holder[key] and rng.random() < 0.8:
            holder = holder[key]
            continue
        if rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = rng.choice(JUNK)
        break
    return json.dumps(document)


def _damage_arrays(rng: random.Random, path: Path) -> None:
    with np.load(path) if path.suffix == ".npz" else _Single(path) as stored:
        arrays = dict(stored)
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    changes: tuple[Callable[[], Any], ...] = (
        lambda: array.astype(rng.choice(("f8", "f2", "i1", "i8", "u1", "c8", "?", "S3", "U3", ">f4"))),
        lambda: array[..., 0],
        lambda: array[:0],
        lambda: array[..., :0],
        lambda: np.full_like(array, rng.choice((np.nan, np.inf, 1e38, -1e38, 0))),
        lambda: array[:, :1],
        lambda: array[:1],
        lambda: array.transpose(0, 2, 3, 1),
        lambda: np.float32(1),
        lambda: np.zeros(4, [("a", "f4"), ("b", "i2")]),
        lambda: np.array([{"a": 1}, None], dtype=object),
        lambda: np.array(["2020-01-01"], "M8[D]"),
        lambda: np.broadcast_to(np.float32(0), (1, 3, 2, 2)),
    )
    kind = rng.randrange(4)
    if kind == 0 and path.suffix == ".npy":
        path.write_bytes(_npy_header(rng))
        return
    if kind == 1:
        arrays[rng.choice([name for name in NAMES if name and len(name) < 1000 and "\x00" not in name])] = arrays.pop(
            name
        )
    elif kind == 2 and rng.random() < 0.3:
        del arrays[name]
    else:
        with np.errstate(invalid="ignore"):  # NaN as a whole number
            arrays[name] = rng.choice(changes)()
    if path.suffix == ".npy":
        np.save(path, next(iter(arrays.values()), np.zeros(0)), allow_pickle=True)
    else:
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=True, **{key: value for key, value in arrays.items() if key != "file"})
        path.write_bytes(buffer.getvalue())


class _Single:
    """A .npy file read like an .npz file."""

    def __init__(self, path: Path) -> None:
        self.arrays = {"": np.load(path)}

    def __enter__(self) -> dict[str, Any]:
        return self.arrays

    def __exit__(self, *_: object) -> None:
        pass


def _npy_header(rng: random.Random) -> bytes:
    shape = rng.choice(("(-1, 3)", "(99999999999999999999,)", f"({2**40}, {2**40})", "(3, 'x')", "[3]", "(True,)", "9"))
    kind = rng.choice(("'<f4'", "'|O'", "'<f99'", "3", "'<U999999999'", "[('a', '<f4')]"))
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(48)


def odd_place(rng: random.Random, directory: Path) -> str:
    """Makes something at a path that is no honest file; returns the path, relative to the directory."""
    kind = rng.randrange(9)
    path = directory / "odd"
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.symlink_to("odd")
    elif kind == 2:
        path.symlink_to("nowhere")
    elif kind == 3:
        path.mkdir()
    elif kind == 4:
        path.write_bytes(b"")
    elif kind == 5:
        name = rng.choice(
            (
                "[/bold].onnx",
                "\x1b[31m.npz",
                "\u202egpj.npy",
                os.fsdecode(b"\xff\xfe.onnx"),
                "$x$.onnx",
                "-x",
                "a b.onnx",
            )
        )
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(directory / "in" / "dncnn.onnx", path)
        return name
    elif kind == 6:
        # Only for what is read: a program that is wrong must not be able to harm the machine that tests it.
        return rng.choice(("/dev/null", "/dev/zero", "/dev/full", "/proc/self/mem", "/etc/passwd", "/", ".", "..", "~"))
    elif kind == 7:
        return rng.choice(
            ("", "-", "n" * 300, "d/" * 2500 + "x", "a\x00b", "in/dncnn.onnx/x", "nowhere/x", "in/../in/dncnn.onnx")
        )
    else:
        return rng.choice(("\udcff\udcfe", "\ud800", "a\nb", "\x1b[31mx", "in", "out", "built", "trained/checkpoint"))
    return "odd"
