"""Hostile data: one sentence that names the file; nothing hangs or is run, no memory is taken for what a header claims."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.data import hostile, slices
from tests.data.datasets import everything
from tests.data.hostile import (
    VALUES,
    Maker,
    archive,
    cut_picture,
    edited,
    external,
    files,
    hdf5,
    in_headers,
    linked,
    nifti,
    npy,
    picture,
    png,
    saved,
    series,
    virtual,
)
from tgdonnx.data import DataOptions, open_dataset
from tgdonnx.errors import DataError, TgdonnxError
from tgdonnx.graphs.tensor_specs import TensorSpec

SPECS = (TensorSpec("x", "float32", None), TensorSpec("target", "float32", None, role="target"))


def read(path: Path) -> None:
    everything(open_dataset(path, SPECS, DataOptions(scale=1)))


HEADERS: dict[str, tuple[bytes, str]] = {
    "2^60 elements": (npy(shape="(1152921504606846976,)"), "cut off"),
    "2^80 elements": (npy(shape="(1048576, 1048576, 1048576, 1048576)"), "no machine holds an array"),
    "a product that wraps around to 0": (npy(shape="(4294967296, 4294967296, 1, 1)"), "no machine holds an array"),
    "a negative size": (npy(shape="(-2, 1, 4, 6)"), "is no shape of an array"),
    "400 digits": (npy(shape=f"({'9' * 400},)"), "no machine holds"),
    "9000 digits": (npy(shape=f"({'9' * 9000},)"), "cannot be read"),
    "70 axes": (npy(shape=f"({'1,' * 70})"), "is no shape of an array"),
    "a list for a shape": (npy(shape="[2, 1, 4, 6]"), "shape is not valid"),
    "booleans for sizes": (npy(shape="(True, 1, 4, 6)"), "is no shape of an array"),
    "floats for sizes": (npy(shape="(2.0, 1, 4, 6)"), "shape is not valid"),
    "no shape": (npy(shape="None"), "shape is not valid"),
    "Python objects": (npy(descr="'|O'"), "Python objects, not numbers"),
    "records": (npy(descr="[('a', '<f4'), ('b', '<f4')]"), "not numbers"),
    "arrays in arrays": (npy(descr="('<f4', (2,))"), "not numbers"),
    "huge arrays in arrays": (npy(descr="'(1000000,1000000)f4'"), "cannot be read"),
    "text": (npy(descr="'<U1'"), "not numbers"),
    "items of 2 GiB": (npy(descr="'|S2147483647'"), "not numbers"),
    "dates": (npy(descr="'<M8[s]'"), "not numbers"),
    "raw bytes": (npy(descr="'|V4'"), "not numbers"),
    "3000 parentheses": (npy(shape="(" * 3000 + ")" * 3000), "cannot be read"),
    "9000 minus signs": (npy(shape="-" * 9000 + "1"), "cannot be read"),
    "code": (npy(shape="__import__('os').system('true')"), "malformed"),
    "no dictionary": (npy(header="[1, 2]\n"), "not a dictionary"),
    "an empty header": (npy(header=""), "cannot be read"),
    "zeros": (npy(header="\0" * 50), "cannot be read"),
    "a header of 40 kB": (npy(header="{}" + " " * 40000), "cannot be read"),
    "another version": (saved().replace(b"NUMPY\x01\x00", b"NUMPY\x09\x00"), "is not known"),
    "an order that is none": (npy(order="1"), "fortran_order"),
    "nothing in samples": (saved(np.zeros((2, 1, 0, 6), np.float32)), "with nothing in them"),
    **{f"cut to {size} bytes": (saved()[:size], "cannot be read|cut off") for size in (0, 3, 7, 9, 60, 319)},
}


@pytest.mark.parametrize("form", [files, archive])
@pytest.mark.parametrize("case", HEADERS)
def test_a_npy_file_that_lies_is_told(case: str, form: object, tmp_path: Path) -> None:
    content, message = HEADERS[case]
    path = (files if form is files else archive)(content)(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    told(caught.value, "x.npy" if form is files else "data.npz")


def told(error: DataError, name: str) -> None:
    said = str(error)
    assert len(said.splitlines()) == 1, said
    assert name in said
    assert len(said) < 600


HDF5 = hdf5(lambda f, _: f.__setitem__("x", VALUES))
FORMATS: dict[str, tuple[Maker, str, str]] = {
    "encrypted zip": (edited(archive(saved()), in_headers(6, 8, 1)), "data.npz", "x.npy is encrypted; save it without"),
    "zip of an unknown method": (edited(archive(saved()), in_headers(8, 10, 99)), "data.npz", "compression method"),
    "zip with a wrong sum": (edited(archive(saved()), lambda data: data.__setitem__(200, 77)), "data.npz", "CRC"),
    "zip cut off": (edited(archive(saved()), lambda data: data.__delitem__(slice(-30, None))), "data.npz", "not a zip"),
    "empty zip": (edited(archive(saved()), bytearray.clear), "data.npz", "not a zip"),
    "an array twice": (archive(saved(), ("x.npy", saved())), "data.npz", "two arrays named 'x'"),
    "an array under two names": (archive(saved(), ("x", saved())), "data.npz", "two arrays named 'x'"),
    "a text beside": (archive(saved(), ("readme.txt", b"hello")), "data.npz", "readme.txt cannot be read"),
    "a pickle": (hostile.pickled, "data.npz", "x.npy cannot be read"),
    "a pickled array": (hostile.object_array, "data.npz", "Python objects, not numbers, which are not loaded"),
    "a bomb": (hostile.bomb, "data.npz", r"x.npy holds 1\.0 GiB packed into 0\.\d MiB"),
    "virtual, there": (virtual("there.h5"), "data.h5", r"'x' is virtual: .*\(there.h5\); copy its values into one file"),
    "virtual, missing": (virtual("gone.h5"), "data.h5", r"'x' is virtual: .*\(gone.h5\)"),
    "external, there": (external("there.bin"), "data.h5", "'x' is stored outside of the file .*there.bin"),
    "external, missing": (external("gone.bin"), "data.h5", "'x' is stored outside of the file .*gone.bin"),
    "linked, there": (linked("there.h5"), "data.h5", "'x' is a link into another file .*there.h5"),
    "linked, missing": (linked("gone.h5"), "data.h5", "'x' is a link into another file .*gone.h5"),
    "linked to nowhere": (hdf5(lambda f, _: f.__setitem__("x", h5py.SoftLink("/no"))), "data.h5", "leads nowhere .*/no"),
    "linked in a circle": (hdf5(lambda f, _: f.__setitem__("x", h5py.SoftLink("/x"))), "data.h5", "leads nowhere"),
    "never written": (hdf5(hostile.unfinished), "data.h5", "'x' was made, but no value was ever written"),
    "an unknown filter": (hdf5(hostile.odd_filter), "data.h5", "'x' is packed with the filter 32004.* h5repack"),
    "HDF5 records": (
        hdf5(lambda f, _: f.create_dataset("x", data=np.zeros(4, [("a", "<f4")]))), "data.h5", "holds no numbers",
    ),
    "HDF5 references": (hdf5(lambda f, _: f.create_dataset("x", (3,), h5py.ref_dtype)), "data.h5", "holds no numbers"),
    "HDF5 cut off": (edited(HDF5, lambda data: data.__delitem__(slice(900, None))), "data.h5", "truncated"),
    "HDF5 by its name only": (
        edited(HDF5, lambda data: data.__setitem__(slice(8, None), b"\xff" * 99)), "data.h5", "cannot be read",
    ),
    "a picture of 2.5 gigapixels": (png(50_000, 50_000), "a.png", "larger than Pillow opens"),
    "a picture of 2^62 pixels": (png(2**31 - 1, 2**31 - 1), "a.png", "larger than Pillow opens"),
    "a picture without rows": (png(5, 0), "a.png", "no picture, or damaged"),
    "a palette": (picture("P", ".png"), "a.png", "pixels of the kind 'P'; save it as grey"),
    "grey with alpha": (picture("LA", ".png"), "a.png", "pixels of the kind 'LA'"),
    "16 bits per colour": (png(4, 4, 16, 2), "a.png", "which Pillow would convert"),
    "CMYK": (picture("CMYK", ".tif"), "a.tif", "pixels of the kind 'CMYK'"),
    "an animation": (
        picture("L", ".png", save_all=True, append_images=[Image.new("L", (6, 4), 9)]), "a.png", "holds 2 pictures",
    ),
    "several pages": (
        picture("RGB", ".tif", save_all=True, append_images=[Image.new("RGB", (6, 4), 9)]), "a.tif", "holds 2 pictures",
    ),
    "a JPEG named PNG": (picture("L", ".png", format="JPEG"), "a.png", "is a JPEG; expected a PNG"),
    **{f"a PNG cut to {part}": (cut_picture(".png", part), "a.png", "cannot be read") for part in (0, 0.1, 0.5)},
    **{f"a TIFF cut to {part}": (cut_picture(".tif", part), "a.tif", "cannot be read") for part in (0, 0.1, 0.5)},
    "NIfTI, 3 TB": (nifti(*((at, "<h", 32767) for at in (42, 44, 46))), "a.nii", "cut off"),
    "NIfTI, packed 64 TB": (
        nifti(*((at, "<h", 32767) for at in (42, 44, 46)), suffix=".nii.gz"), "a.nii.gz", "GiB compressed, .* gunzip",
    ),
    "NIfTI, negative": (nifti((42, "<h", -4)), "a.nii", "cannot be read"),
    "NIfTI, 9 axes": (nifti((40, "<h", 9)), "a.nii", "cannot be read"),
    "NIfTI, empty": (nifti((42, "<h", 0)), "a.nii", "with nothing in them"),
    "NIfTI, empty and packed": (nifti((42, "<h", 0), suffix=".nii.gz"), "a.nii.gz", "with nothing in them"),
    "NIfTI beyond its end": (nifti((108, "<f", 1e9)), "a.nii", "cut off"),
    "NIfTI, packed, far away": (nifti((108, "<f", 3e9), suffix=".nii.gz"), "a.nii.gz", "GiB compressed"),
    "NIfTI, offset NaN": (nifti((108, "<f", np.nan)), "a.nii", "cannot be read"),
    "NIfTI, offset negative": (nifti((108, "<f", -5)), "a.nii", "vox offset -5 too low"),
    "NIfTI, affine NaN": (nifti((254, "<h", 1), (280, "<f", np.nan)), "a.nii", "its affine is not finite; set sform"),
    "NIfTI, scaled beyond float32": (nifti((112, "<f", 3e38)), "a.nii", "is inf"),
    "NIfTI, unknown numbers": (nifti((70, "<h", 9999)), "a.nii", "cannot be read"),
    "NIfTI, colours": (nifti((70, "<h", 128)), "a.nii", "expected numbers"),
    "NIfTI, complex": (nifti((70, "<h", 32)), "a.nii", "expected numbers"),
    **{f"NIfTI cut to {part}": (nifti(cut=part), "a.nii", "cannot be read") for part in (0, 0.1, 0.5, 0.95)},
    **{
        f"packed NIfTI cut to {part}": (nifti(suffix=".nii.gz", packed=part), "a.nii.gz", "cannot be read")
        for part in (0, 0.1, 0.7)
    },
    "NIfTI that is not packed": (nifti(suffix=".nii.gz", cut=0.0), "a.nii.gz", "cannot be read"),
    "position NaN": (series(hostile.element(slices.POSITION, b"nan\\0\\0")), "0.dcm", "ImagePositionPatient to be 3 finite"),
    "position infinite": (series(hostile.element(slices.POSITION, b"0\\0\\inf")), "0.dcm", "3 finite numbers, found"),
    "position of two": (series(hostile.element(slices.POSITION, b"0\\0")), "0.dcm", "3 finite numbers, found"),
    "position of text": (series(hostile.element(slices.POSITION, b"a\\b\\c")), "0.dcm", "damaged header"),
    "position empty": (series(hostile.element(slices.POSITION, b"")), "0.dcm", "3 finite numbers, found"),
    "no position": (series(ImagePositionPatient=None), "0.dcm", "has no ImagePositionPatient"),
    "no plane": (series(ImageOrientationPatient=[0] * 6), "0.dcm", "no two directions at right angles"),
    "a skewed plane": (series(ImageOrientationPatient=[1, 0, 0, 1, 0.5, 0]), "0.dcm", "no two directions"),
    "a plane of five": (series(ImageOrientationPatient=[1, 0, 0, 0, 1]), "0.dcm", "6 finite numbers"),
    "a slice twice": (series(ImagePositionPatient=[0, 0, 1.5]), "0.dcm", "lie at the same place"),
    "slices of two sizes": (series(Rows=3, Columns=8), "0.dcm", "differ in their shape"),
    "an unknown VR": (series(hostile.vr(slices.ROWS, b"ZZ")), "0.dcm", "damaged header: .*'ZZ'"),
    "a VR that is no text": (series(hostile.vr(slices.POSITION, b"\xff\xfe")), "0.dcm", "0.dcm"),
    "an unknown transfer syntax": (
        series(lambda data: data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0")), "0.dcm", "decompress it",
    ),
    "no pixels": (series(PixelData=None), "0.dcm", "cannot be decoded"),
    "few pixels": (series(PixelData=b"\0\0"), "0.dcm", "cannot be decoded: The number of bytes"),
    "65535 rows": (series(Rows=65535, Columns=65535), "0.dcm", "differ in their shape"),
    "colours": (series(SamplesPerPixel=3), "0.dcm", "several frames or colours"),
    "frames": (series(NumberOfFrames="2"), "0.dcm", "several frames or colours"),
    **{
        f"DICOM cut to {part}": (series(lambda data, part=part: data[: int(len(data) * part)]), "0.dcm", "0.dcm")
        for part in (0, 0.2, 0.6, 0.95)
    },
}  # fmt: skip


@pytest.mark.parametrize("case", FORMATS)
def test_a_hostile_file_is_told_in_one_sentence_that_names_it(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make, name, message = FORMATS[case]
    path = make(tmp_path)
    capfd.readouterr()
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    told(caught.value, name)
    assert capfd.readouterr() == ("", ""), "no library speaks before the sentence"
    assert not (tmp_path / "pwned").exists()


ODD_BUT_HONEST: dict[str, Maker] = {
    "big-endian": files(saved(VALUES.astype(">f4"))),
    "Fortran order": files(saved(np.asfortranarray(VALUES))),
    "zip, bzip2": archive(saved(), method=zipfile.ZIP_BZIP2),
    "zip, lzma": archive(saved(VALUES.astype(">f8")), method=zipfile.ZIP_LZMA),
    "HDF5 with a second name": hdf5(lambda f, _: f.update({"x": VALUES}) or f.__setitem__("y", h5py.SoftLink("/x"))),
    "HDF5 in a circle": hdf5(lambda f, _: f.update({"x": VALUES}) or f.create_group("g").__setitem__("up", f["/"])),
}


@pytest.mark.parametrize("case", ODD_BUT_HONEST)
def test_what_is_odd_but_honest_is_read(case: str, tmp_path: Path) -> None:
    x, target = everything(open_dataset(ODD_BUT_HONEST[case](tmp_path), SPECS, DataOptions(scale=1)))
    np.testing.assert_array_equal(x, VALUES)
    np.testing.assert_array_equal(target, VALUES)


def test_a_slope_of_zero_or_nan_means_that_nifti_is_not_scaled(tmp_path: Path) -> None:
    for slope in (0.0, np.nan):
        path = tmp_path / str(slope)
        path.mkdir()
        x, _ = everything(open_dataset(nifti((112, "<f", slope))(path), SPECS, DataOptions(scale=1)))
        np.testing.assert_array_equal(x.ravel(), np.arange(120).reshape(4, 5, 6).transpose(2, 1, 0).ravel())


def test_the_log_of_nibabel_is_as_it_was_afterwards(tmp_path: Path) -> None:
    logger = logging.getLogger("nibabel.global")
    level = logger.level
    with pytest.raises(DataError):
        read(nifti((108, "<f", -5))(tmp_path))
    assert logger.level == level


# Paths.


def test_names_that_are_no_utf_8_are_read_and_can_be_told(tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    Path(odd).mkdir()
    np.testing.assert_array_equal(everything(open_dataset(files(saved())(Path(odd)), SPECS))[0], VALUES)
    with pytest.raises(DataError, match=r"x\.npy") as caught:
        read(files(b"junk")(Path(odd)))
    assert "caf\udce9" in str(caught.value)


def circle(path: Path) -> Path:
    (path / "data.npz").symlink_to(path / "data.npz")
    return path / "data.npz"


def dangling(path: Path) -> Path:
    (path / "data.npz").symlink_to(path / "gone.npz")
    return path / "data.npz"


def dangling_inside(path: Path) -> Path:
    files(saved())(path)
    (path / "x.npy").unlink()
    (path / "x.npy").symlink_to(path / "gone.npy")
    return path


def below_a_file(path: Path) -> Path:
    (path / "file").write_bytes(b"x")
    return path / "file" / "data.npz"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (circle, "data.npz"),
        (dangling, "data.npz cannot be read: No such file"),
        (dangling_inside, "x.npy is a link that leads nowhere"),
        (below_a_file, "Not a directory"),
        (lambda path: path / ("n" * 300 + ".npz"), "File name too long"),
        (lambda path: path / "a\0b.npz", "is no path"),
        (lambda path: path, "holds no data"),
    ],
)
def test_a_path_that_leads_to_no_data_is_told(make: Maker, message: str, tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_directory_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever runs this may be root, who may read everything: the system's answer is given in its place.
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "x.npy"))

    for question in ("iterdir", "is_file", "is_dir"):
        with monkeypatch.context() as patch:
            files(saved())(tmp_path)
            patch.setattr(Path, question, refuse)
            with pytest.raises(DataError, match="cannot be read: Permission denied"):
                read(tmp_path)


def test_a_sample_larger_than_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    def write(file: h5py.File, _: Path) -> None:
        made = file.create_dataset("x", (2, 1, 2**22, 2**22), "f4", chunks=(1, 1, 64, 64))
        made[0, 0, :2, :2] = 1

    with pytest.raises(DataError, match=r"x would take 65536\.0 GiB at once, .*`patch`"):
        read(hdf5(write)(tmp_path))


def test_opening_takes_time_in_proportion_to_the_number_of_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    made = zipfile.ZipFile.__init__

    def counted(self: zipfile.ZipFile, *arguments: object, **options: object) -> None:
        opened.append(arguments)
        made(self, *arguments, **options)  # type: ignore[arg-type]

    path = archive(saved(), *((f"more{i}.npy", saved()) for i in range(300)))(tmp_path)
    monkeypatch.setattr(zipfile.ZipFile, "__init__", counted)
    read(path)
    assert len(opened) == 2, "the directory of the archive is read for headers and for values, not once per array"


# A seeded fuzz.

HONEST: dict[str, Maker] = {
    "npy": files(saved()),
    "npz": archive(saved()),
    "packed npz": archive(saved(), method=zipfile.ZIP_DEFLATED),
    "HDF5": hdf5(lambda f, _: f.__setitem__("x", VALUES)),
    "PNG": picture("RGB", ".png"),
    "TIFF": picture("I;16", ".tif"),
    "NIfTI": nifti(),
    "packed NIfTI": nifti(suffix=".nii.gz"),
    "DICOM": series(),
}


@pytest.mark.parametrize("form", HONEST)
def test_files_with_flipped_cut_and_inserted_bytes_are_read_or_told(
    form: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = HONEST[form](tmp_path)
    read(path)
    victim = sorted(file for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".py")[-1]
    whole = victim.read_bytes()
    rng = np.random.default_rng([ord(letter) for letter in form])
    answers, lines = {"read": 0, "told": 0}, []
    for _ in range(60):
        data = bytearray(whole)
        kind = rng.integers(4)
        at = int(rng.integers(len(data)))
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = rng.bytes(int(rng.integers(1, 9)))
        else:
            data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\xc0\x7f"])
        victim.write_bytes(data)
        try:
            read(path)
            answers["read"] += 1
        except TgdonnxError as error:
            answers["told"] += 1
            lines.append(len(str(error).splitlines()))
    assert set(lines) == {1}
    assert answers["told"] > 5, answers
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in the file system of this machine")
@pytest.mark.parametrize("name", ["pipe", "x.npy", "x/a.npy", "x/a.png", "x/slice"])
def test_a_pipe_among_the_data_is_not_waited_for(name: str, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError):
        read(tmp_path)


QUIET = """
import sys
from tgdonnx.data import open_source
from tgdonnx.errors import DataError
try:
    open_source(sys.argv[1])
except DataError as error:
    print(error)
"""


def test_nibabel_logs_nothing_before_the_sentence(tmp_path: Path) -> None:
    # In a process of its own: nibabel's handler holds the stream that was stderr when it was imported.
    path = nifti((108, "<f", -5))(tmp_path)
    command = [sys.executable, "-c", QUIET, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    assert "vox offset -5 too low" in done.stdout
    assert done.stderr == ""
