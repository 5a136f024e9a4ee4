"""Pictures: what is in the file, pixel for pixel; kinds that Pillow would convert are refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.datasets import everything, opened, spec
from tests.support.models import Array
from tgdonnx.data.file_cache import FileCache
from tgdonnx.data.images import open_image
from tgdonnx.data.pictures import Colour
from tgdonnx.errors import DataError

RNG = np.random.default_rng(0)
GREY = (spec("x", 1, None, None), spec("target", 1, None, None))
COLOUR = (spec("x", 3, None, None), spec("target", 3, None, None))


def png(path: Path, values: Array, depth: int, kind: int) -> None:
    """Writes a PNG without Pillow: rows of big-endian values behind a filter byte."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2" if depth == 16 else "u1").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, kind, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def folders(tmp_path: Path) -> tuple[Path, Path]:
    found = tmp_path / "data" / "x", tmp_path / "data" / "target"
    for folder in found:
        folder.mkdir(parents=True)
    return found


def bytes_of(*shape: int) -> Array:
    return RNG.integers(0, 256, shape, np.uint8)


def test_pictures_are_matched_by_name_in_the_order_of_names(tmp_path: Path) -> None:
    x, target = folders(tmp_path)
    pictures = {name: (bytes_of(5, 6), bytes_of(5, 6)) for name in ("b", "a", "c")}
    for name, (noisy, clean) in pictures.items():
        png(x / f"{name}.png", noisy, 8, 0)
        Image.fromarray(clean).save(target / f"{name}.tif")
    dataset = opened(tmp_path / "data", GREY, scale=1)
    for index, found in enumerate(everything(dataset)):
        assert np.array_equal(found[:, 0], np.stack([pictures[name][index] for name in "abc"]))
    assert "x: stored HW, taken to NCHW" in dataset.remarks
    assert len(dataset.describe()["files"]) == 6


def test_colours_are_channels(tmp_path: Path) -> None:
    x, target = folders(tmp_path)
    picture = bytes_of(5, 6, 3)
    png(x / "a.png", picture, 8, 2)
    Image.fromarray(picture).save(target / "a.tiff", compression="tiff_lzw")
    for found in everything(opened(tmp_path / "data", COLOUR, scale=255)):
        np.testing.assert_allclose(found[0], np.einsum("hwc->chw", picture) / 255.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        (".tif", "uint16"),
        (".tif", "float32"),
        (".tif", "int32"),
        (".tif", "bool"),
        (".png", "uint16"),
        (".png", "bool"),
    ],
)
def test_deep_pictures_keep_their_values(dtype: str, suffix: str, tmp_path: Path) -> None:
    values = RNG.integers(0, 2 if dtype == "bool" else 60000, (5, 6)).astype(dtype)
    for folder in folders(tmp_path):
        if suffix == ".png" and dtype == "uint16":
            png(folder / "a.png", values, 16, 0)
        else:
            Image.fromarray(values).save(folder / f"a{suffix}")
    dataset = opened(tmp_path / "data", GREY, scale=1)
    assert np.array_equal(everything(dataset)[0][0, 0], values.astype(np.float32))
    assert dataset.describe()["arrays"]["x"]["dtype"] == dtype


def test_pictures_of_several_sizes_give_patches(tmp_path: Path) -> None:
    for folder in folders(tmp_path):
        for name, size in (("a", (9, 8)), ("b", (7, 20))):
            png(folder / f"{name}.png", np.full(size, ord(name), np.uint8), 8, 0)
    with pytest.raises(DataError, match=r"'x' differs in size: .*a.png .*\[1, 9, 8\], .*b.png of \[1, 7, 20\]"):
        opened(tmp_path / "data", GREY, scale=1).require_batch(2)
    dataset = opened(tmp_path / "data", GREY, scale=1, patch=(6, 6), patches_per_epoch=40)
    seen = set()
    for x, target in dataset.batches(5, epoch=1):
        assert np.array_equal(x, target)
        seen |= {float(v) for v in x.ravel()}
    assert seen == {97.0, 98.0}


@pytest.mark.parametrize(("colour", "kind", "channels"), [("rgb", "RGB", 3), ("grey", "L", 1)])
@pytest.mark.parametrize("colours", [4, 200])
def test_a_palette_is_looked_up_where_a_colour_is_asked_for(
    colours: int, colour: Colour, kind: str, channels: int, tmp_path: Path
) -> None:
    picture = Image.fromarray(bytes_of(9, 7, 3)).quantize(colours)
    (tmp_path / "x").mkdir()
    picture.save(tmp_path / "x" / "a.png")
    (x,) = everything(opened(tmp_path, (spec("x", channels, None, None),), scale=1, colour=colour))
    wanted = np.asarray(picture.convert("RGB").convert(kind)).reshape(9, 7, channels)
    assert np.array_equal(x[0].transpose(1, 2, 0), wanted)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.jpg", "RGB"), ("a.JPEG", "L"), ("a.webp", "RGB"), ("a.WEBP", "RGBA"), ("a.bmp", "RGB"), ("a.bmp", "1")],
)
def test_a_picture_of_another_format_is_what_pillow_makes_of_it(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    Image.fromarray(bytes_of(9, 7, 4)).convert(kind).save(path)
    stored = open_image(path, FileCache())
    assert stored.layout == ("HWC" if "RGB" in kind else "HW")
    assert np.array_equal(stored.read(tuple(slice(0, size) for size in stored.shape)), np.asarray(Image.open(path)))


def tall(tmp_path: Path, name: str, save: Any, size: int = 6) -> str:
    """What is said of one picture among good ones."""
    for folder in folders(tmp_path):
        png(folder / "good.png", bytes_of(size, size), 8, 0)
        save(folder / name)
    with pytest.raises(DataError) as caught:
        opened(tmp_path / "data", GREY, scale=1)
    said = str(caught.value)
    assert str(tmp_path / "data") in said
    assert len(said.splitlines()) == 1
    return said


def frames(path: Path) -> None:
    first, second = (Image.fromarray(bytes_of(5, 6)) for _ in range(2))
    first.save(path, save_all=True, append_images=[second])


def deep_tiff(path: Path) -> None:
    """An uncompressed TIFF of 16 bits per colour, which Pillow reads as 8."""
    values = RNG.integers(0, 60000, (5, 6, 3), np.uint16).astype("<u2").tobytes()
    bits = struct.pack("<HHH", 16, 16, 16)
    tags = [
        (256, 3, 1, 6),
        (257, 3, 1, 5),
        (258, 3, 3, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 14),
        (277, 3, 1, 3),
    ]
    tags += [(278, 3, 1, 5), (279, 4, 1, len(values))]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    path.write_bytes(b"II*\0" + struct.pack("<I", 14 + len(values)) + bits + values + directory)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(bytes_of(6, 6)).save(path, exif=exif)


def bmp_of_16_bits(path: Path) -> None:
    """5, 5 and 5 bits per colour, of which Pillow makes 8."""
    header = struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 16, 0, 8, 0, 0, 0, 0)
    path.write_bytes(b"BM" + struct.pack("<IHHI", 62, 0, 0, 54) + header + bytes(range(8)))


def stack(path: Path, *pages: Array) -> Path:
    first, *others = map(Image.fromarray, pages)
    first.save(path, save_all=True, append_images=others)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_tiff_of_several_grey_pictures_is_a_stack(dtype: Any, tmp_path: Path) -> None:
    values = RNG.integers(0, 255, (4, 5, 6)).astype(dtype)
    array = open_image(stack(tmp_path / "a.tif", *values), FileCache())
    assert (array.layout, array.shape, array.dtype) == ("DHW", (4, 5, 6), np.dtype(dtype))
    np.testing.assert_array_equal(array.read((slice(1, 4), slice(0, 5), slice(2, 6))), values[1:, :, 2:])


REFUSED: dict[str, tuple[str, Any, str]] = {
    "16 bits per colour": (
        "a.png",
        lambda p: png(p, RNG.integers(0, 60000, (5, 18), np.uint16).reshape(5, 6, 3), 16, 2),
        "16 bits per value",
    ),
    "16 bits per colour in TIFF": ("a.tif", deep_tiff, "16 bits per value|kind"),
    "a palette": ("a.png", lambda p: Image.fromarray(bytes_of(5, 6)).convert("P").save(p), "pixels of the kind 'P'"),
    "2 bits": ("a.png", lambda p: png(p, bytes_of(5, 2), 2, 0), "cannot be read|2 bits per value"),
    "grey with alpha": ("a.png", lambda p: png(p, bytes_of(5, 6, 2), 8, 4), "pixels of the kind 'LA'"),
    "CMYK": ("a.tif", lambda p: Image.fromarray(bytes_of(5, 6, 4), "CMYK").save(p), "pixels of the kind 'CMYK'"),
    "several colour pictures": (
        "a.tif",
        lambda p: stack(p, bytes_of(5, 6, 3), bytes_of(5, 6, 3)),
        "holds 2 pictures; expected one, or a TIFF of grey ones",
    ),
    "pages of several sizes": (
        "a.tif",
        lambda p: stack(p, bytes_of(5, 6), bytes_of(5, 7)),
        "picture 2 of the stack differs from the first (6 x 5 of the kind L, 7 x 5 of the kind L)",
    ),
    "pages of several kinds": (
        "a.tif",
        lambda p: stack(p, bytes_of(5, 6), RNG.integers(0, 60000, (5, 6), np.uint16)),
        "picture 2 of the stack differs from the first",
    ),
    "a JPEG by another name": (
        "a.png",
        lambda p: Image.fromarray(bytes_of(5, 6)).save(p, "JPEG"),
        "is a JPEG; expected a PNG or TIFF, or a JPEG, BMP or WebP whose name says so; save it as PNG",
    ),
    "a GIF by another name": ("a.jpg", lambda p: Image.fromarray(bytes_of(5, 6)).save(p, "GIF"), "is a GIF"),
    "a JPEG that lies on its side": (
        "a.jpeg",
        lambda p: turned(p),
        "is stored turned (Orientation 6); save it upright",
    ),
    "a JPEG of CMYK": (
        "a.jpg",
        lambda p: Image.fromarray(bytes_of(5, 6, 4), "CMYK").save(p),
        "pixels of the kind 'CMYK'",
    ),
    "a WebP by another name": (
        "a.png",
        lambda p: Image.fromarray(bytes_of(5, 6)).save(p, "WEBP"),
        "is a WEBP; expected",
    ),
    "a moving WebP": ("a.webp", frames, "holds 2 pictures; expected one, or a TIFF of grey ones"),
    "a WebP that lies on its side": (
        "a.webp",
        lambda p: turned(p),
        "is stored turned (Orientation 6); save it upright",
    ),
    "a BMP of 16 bits per pixel": ("a.bmp", bmp_of_16_bits, "16 bits per value"),
    "text": ("a.png", lambda p: p.write_text("hello"), "it is no picture, or damaged"),
    "nothing": ("a.tif", lambda p: p.write_bytes(b""), "it is no picture, or damaged"),
    "a TIFF that lies on its side": ("a.tif", lambda p: turned(p), "is stored turned (Orientation 6); save it upright"),
    "a PNG that lies on its side": ("a.png", lambda p: turned(p), "is stored turned (Orientation 6); save it upright"),
}


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_a_picture_that_cannot_be_taken_as_it_is_is_named(case: str, tmp_path: Path) -> None:
    name, save, message = REFUSED[case]
    said = tall(tmp_path, name, save)
    assert name in said
    assert any(part in said for part in message.split("|")), said


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "bmp", "webp"])
def test_a_picture_that_is_cut_off_is_found_before_training(suffix: str, tmp_path: Path) -> None:
    def save(path: Path) -> None:
        Image.fromarray(bytes_of(64, 64)).save(path)
        path.write_bytes(path.read_bytes()[:-3000])

    assert f"a.{suffix} cannot be read" in tall(tmp_path, f"a.{suffix}", save, size=64)


def test_a_picture_too_large_for_pillow_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    assert "larger than Pillow opens" in tall(tmp_path, "a.png", lambda p: png(p, bytes_of(8, 8), 8, 0))


def test_colour_for_a_grey_model_is_told(tmp_path: Path) -> None:
    for folder in folders(tmp_path):
        png(folder / "a.png", bytes_of(5, 6, 3), 8, 2)
    with pytest.raises(
        DataError, match=r"expected 'x' to be float32 \[\?, 1, \?, \?\], found uint8 \[5, 6, 3\].*as HWC gives"
    ):
        opened(tmp_path / "data", GREY, scale=1)


def test_bytes_for_a_float_model_are_refused_unless_it_is_said_how(tmp_path: Path) -> None:
    for folder in folders(tmp_path):
        png(folder / "a.png", bytes_of(5, 6), 8, 0)
    with pytest.raises(DataError, match=r"found uint8 .*`scale=255` divides by it, `scale=1` takes the numbers"):
        opened(tmp_path / "data", GREY)
