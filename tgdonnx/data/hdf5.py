"""HDF5 files: one dataset per name. The file is opened for every read and no chunk is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tgdonnx.data.stored import Array, Case, Region, Stored, load_extra
from tgdonnx.errors import DataError


def open_hdf5(path: Path) -> Case:
    """Opens an HDF5 file; datasets in groups go by their path, such as ``scan/image``.

    Raises:
        DataError: it cannot be read.
        RuntimeMissingError: h5py is not installed.
    """
    h5py = load_extra("h5py", "h5py", "hdf5", str(path))
    arrays: dict[str, Stored] = {}

    def visit(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if item.shape is None or item.dtype.kind not in "biufc":
            raise DataError(f"{path}: dataset {name!r} holds no numbers")
        arrays[name] = _stored(h5py, path, name, tuple(item.shape), item.dtype)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except DataError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}") from error
    return Case(path.name, arrays)


def _stored(h5py: Any, path: Path, name: str, shape: tuple[int, ...], dtype: Any) -> Stored:
    def read(region: Region) -> Array:
        try:
            with h5py.File(path, "r") as file:
                values: Array = file[name][region]
                return values
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {name}: {_reason(error)}") from error

    return Stored(str(path), shape, dtype, read, files=(path,))


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).partition("\n")[0]
