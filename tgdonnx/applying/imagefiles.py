"""Files for results: ``.npy``, written piece by piece, and NIfTI, which keeps the header of the image that it was made from."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tgdonnx.data.lazy_arrays import Array, LazyArray
from tgdonnx.data.nifti import NIBABEL, NIFTI
from tgdonnx.errors import DataError
from tgdonnx.files.model_file import replacing


def suffix_of(path: Path) -> str:
    """Returns the suffix of a file that results can be written to.

    Raises:
        DataError: it is none.
    """
    name = path.name.lower()
    suffix = next((s for s in (".npy", *NIFTI.suffixes) if name.endswith(s)), None)
    if suffix is None:
        raise DataError(f"{path}: results are written as .npy, .nii or .nii.gz", remedy="choose one of these names")
    return suffix


def require_header(output: Path, source: LazyArray) -> None:
    """Checks that a result can be written where it shall.

    Raises:
        DataError: it would be a NIfTI file, which needs the header of another, and was made from none.
        RuntimeMissingError: nibabel is not installed.
    """
    if suffix_of(output) not in NIFTI.suffixes:
        return
    NIBABEL.load(str(output))
    if not _nifti_file(source):
        raise DataError(
            f"{output}: a NIfTI file says where the volume lies in space, which {source.place} does not",
            remedy="write it as .npy",
        )


@contextmanager
def result(output: Path, source: LazyArray, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[Array]:
    """Gives an array to fill, and writes the file when the block ends without an error.

    Args:
        output: the file.
        source: the image that the result was made from; where it is of NIfTI, it gives the header.
        shape: of the result, in the axes of the image.
        dtype: of the result.

    Raises:
        DataError: the result has another size than the image whose header it should have.
        OutputError: it cannot be written.
    """
    suffix = suffix_of(output)
    if suffix in NIFTI.suffixes and shape != source.shape:
        raise DataError(
            f"{output}: the result has the shape {list(shape)}, the volume {list(source.shape)}, so its header does not hold "
            "for it",
            remedy="write it as .npy",
        )
    with replacing(output) as temporary:
        if suffix == ".npy":
            array = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
            yield array
            array.flush()
            del array
            return
        filled = np.empty(shape, dtype)
        yield filled
        content = _nifti_bytes(filled, source)
        temporary.write_bytes(gzip.compress(content, mtime=0) if suffix.endswith(".gz") else content)


def _nifti_file(source: LazyArray) -> Path | None:
    return next((path for path in source.files if path.name.lower().endswith(NIFTI.suffixes)), None)


def _nifti_bytes(values: Array, source: LazyArray) -> bytes:
    path = _nifti_file(source)
    nibabel: Any = NIBABEL.load(str(path))
    original = nibabel.load(path)
    header = original.header.copy()
    header.set_data_dtype(values.dtype)
    header["cal_min"] = header["cal_max"] = 0  # what was to be shown of the values, which are others now
    image = type(original)(values.T, original.affine, header)
    content: bytes = image.to_bytes()
    return content
