"""Hostile data files: what bad disks, bad exporters and people who mean harm make of every format. Each maker writes one."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import h5py
import nibabel
import numpy as np
from PIL import Image

from tests.data import slices

Maker = Callable[[Path], Path]
VALUES = np.arange(48, dtype=np.float32).reshape(2, 1, 4, 6)
SHAPE = "(2, 1, 4, 6)"


def saved(array: Any = VALUES) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy(descr: str = "'<f4'", order: str = "False", shape: str = SHAPE, *, header: Optional[str] = None) -> bytes:
    """A ``.npy`` file with any header."""
    text = header if header is not None else f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin1") + VALUES.tobytes()


class Touch:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (self.path,))


def files(x: bytes) -> Maker:
    def make(path: Path) -> Path:
        (path / "x.npy").write_bytes(x)
        (path / "target.npy").write_bytes(saved())
        return path

    return make


def archive(x: bytes, *more: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> Maker:
    def make(path: Path) -> Path:
        with warnings.catch_warnings(), zipfile.ZipFile(path / "data.npz", "w", method) as made:
            warnings.simplefilter("ignore")  # of names that are there
            for name, content in (("x.npy", x), ("target.npy", saved()), *more):
                made.writestr(name, content)
        return path / "data.npz"

    return make


def edited(maker: Maker, edit: Callable[[bytearray], object]) -> Maker:
    """What another maker makes, with its bytes edited."""

    def make(path: Path) -> Path:
        made = maker(path)
        data = bytearray(made.read_bytes())
        edit(data)
        made.write_bytes(data)
        return made

    return make


def in_headers(local: int, central: int, value: int) -> Callable[[bytearray], None]:
    """Sets a byte in every header of a zip archive."""

    def edit(data: bytearray) -> None:
        for mark, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
            at = data.find(mark)
            while at >= 0:
                data[at + offset] = value
                at = data.find(mark, at + 4)

    return edit


def pickled(path: Path) -> Path:
    return archive(pickle.dumps(Touch(str(path / "pwned"))))(path)


def object_array(path: Path) -> Path:
    array = np.empty(2, object)
    array[:] = [Touch(str(path / "pwned")), 1]
    return archive(saved(array))(path)


def bomb(path: Path) -> Path:
    with zipfile.ZipFile(path / "data.npz", "w", zipfile.ZIP_BZIP2, compresslevel=1) as made:
        with made.open("x.npy", "w", force_zip64=True) as content:
            content.write(npy(shape="(2, 1, 20000, 7000)")[: -VALUES.nbytes])
            for _ in range(280):
                content.write(bytes(4 * 10**6))
        made.writestr("target.npy", saved())
    return path / "data.npz"


def hdf5(write: Callable[[h5py.File, Path], object]) -> Maker:
    def make(path: Path) -> Path:
        with h5py.File(path / "data.h5", "w") as file:
            file["target"] = VALUES
            write(file, path)
        return path / "data.h5"

    return make


def virtual(source: str) -> Maker:
    def write(file: h5py.File, path: Path) -> None:
        if source == "there.h5":
            with h5py.File(path / source, "w") as other:
                other["a"] = VALUES
        layout = h5py.VirtualLayout(VALUES.shape, VALUES.dtype)
        layout[...] = h5py.VirtualSource(source, "a", VALUES.shape)
        file.create_virtual_dataset("x", layout)

    return hdf5(write)


def external(name: str) -> Maker:
    def write(file: h5py.File, path: Path) -> None:
        (path / "there.bin").write_bytes(VALUES.tobytes())
        file.create_dataset("x", VALUES.shape, VALUES.dtype, external=[(str(path / name), 0, VALUES.nbytes)])

    return hdf5(write)


def linked(name: str) -> Maker:
    def write(file: h5py.File, path: Path) -> None:
        with h5py.File(path / "there.h5", "w") as other:
            other["a"] = VALUES
        file["x"] = h5py.ExternalLink(str(path / name), "/a")

    return hdf5(write)


def unfinished(file: h5py.File, _: Path) -> None:
    file.create_dataset("x", VALUES.shape, VALUES.dtype, chunks=VALUES.shape)


def odd_filter(file: h5py.File, _: Path) -> None:
    file.create_dataset("x", VALUES.shape, "f4", chunks=VALUES.shape, compression=32004, allow_unknown_filter=True)


def in_directories(write: Callable[[Path], object]) -> Maker:
    """One directory per array, with what ``write`` writes into each."""

    def make(path: Path) -> Path:
        for name in ("x", "target"):
            (path / name).mkdir()
            write(path / name)
        return path

    return make


def png(width: int, height: int, depth: int = 8, colour: int = 0) -> Maker:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(200))) + chunk(b"IEND", b"")
    return in_directories(lambda path: (path / "a.png").write_bytes(data))


def picture(mode: str, suffix: str, **options: Any) -> Maker:
    def write(path: Path) -> None:
        Image.new(mode, (6, 4)).save(path / f"a{suffix}", **options)

    return in_directories(write)


def cut_picture(suffix: str, fraction: float) -> Maker:
    def write(path: Path) -> None:
        file = path / f"a{suffix}"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16), np.uint8)).save(file)
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * fraction)])

    return in_directories(write)


def nifti(*patches: tuple[int, str, Any], suffix: str = ".nii", cut: float = 1.0, packed: float = 1.0) -> Maker:
    """A volume whose header has other values at some offsets, cut off before or after it was packed."""

    def write(path: Path) -> None:
        volume = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
        data = bytearray(nibabel.Nifti1Image(volume, np.diag([1.0, 2.0, 3.0, 1.0])).to_bytes())
        for offset, kind, value in patches:
            struct.pack_into(kind, data, offset, value)
        content = bytes(data[: int(len(data) * cut)])
        if suffix.endswith(".gz"):
            content = gzip.compress(content)
        (path / f"a{suffix}").write_bytes(content[: int(len(content) * packed)])

    return in_directories(write)


def series(first: Callable[[bytes], bytes] = bytes, **values: Any) -> Maker:
    """Two slices; the values of the first one's elements are others, or its bytes are."""

    def write(path: Path) -> None:
        slices.write(path / "0.dcm", 0.0, **values)
        slices.write(path / "1.dcm", 1.5)
        (path / "0.dcm").write_bytes(first((path / "0.dcm").read_bytes()))

    return in_directories(write)


def vr(tag: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Another value representation of an element of explicit VR."""

    def edit(data: bytes) -> bytes:
        at = data.index(tag)
        return data[: at + 4] + new + data[at + 6 :]

    return edit


def element(tag: bytes, value: bytes) -> Callable[[bytes], bytes]:
    """Another value of an element with a short length."""

    def edit(data: bytes) -> bytes:
        at = data.index(tag)
        (length,) = struct.unpack_from("<H", data, at + 6)
        padded = value + b" " * (len(value) % 2)
        return data[: at + 6] + struct.pack("<H", len(padded)) + padded + data[at + 8 + length :]

    return edit
