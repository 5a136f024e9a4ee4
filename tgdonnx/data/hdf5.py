"""HDF5 files: one dataset per name. The file is opened for every read and no chunk is kept.

Only what lies in the file itself is read. Where parts of a dataset lie in other files (virtual datasets, external storage,
external links) HDF5 gives fill values for those that are missing, and follows whatever path a stranger wrote: refused by name.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Optional

import numpy as np

from tgdonnx.data.file_cache import FileCache
from tgdonnx.data.format import GroupFormat, Library
from tgdonnx.data.lazy_arrays import Array, ArrayGroup, LazyArray, Region
from tgdonnx.errors import DataError

_H5PY = Library("h5py", "h5py", "hdf5")
_COPY = "copy its values into one file, such as with h5py: new[name] = old[name][...]"


def open_hdf5(path: Path, _: FileCache) -> ArrayGroup:
    """Opens an HDF5 file; datasets in groups go by their path, such as ``scan/image``.

    Raises:
        DataError: it cannot be read, or holds what is no array of numbers, or of text, in the file itself.
        RuntimeMissingError: h5py is not installed.
    """
    h5py = _H5PY.load(str(path))
    arrays: dict[str, LazyArray] = {}

    # What h5py calls must not raise: it gives back the problem, at which h5py stops.
    def visit(name: str, item: Any) -> Optional[str]:
        if not isinstance(item, h5py.Dataset):
            return None
        arrays[name] = _stored(h5py, path, name, tuple(item.shape or ()), item.dtype)
        problem = _problem_of_dataset(h5py, item)
        return None if problem is None else f"dataset {name!r} {problem}"

    def visit_link(name: str, link: Any) -> Optional[str]:
        problem = _problem_of_link(h5py, file, name, link)
        return None if problem is None else f"{name!r} {problem}"

    try:
        with h5py.File(path, "r") as file:
            problem = file.visititems(visit) or file.visititems_links(visit_link)
        if problem is not None:
            raise DataError(f"{path}: {problem}")
    except (DataError, MemoryError):
        raise
    except Exception as error:  # h5py raises whatever it stumbles over
        raise DataError(f"{path} cannot be read: {_reason(error)}") from error
    return ArrayGroup(path.name, arrays)


def _problem_of_dataset(h5py: Any, item: Any) -> Optional[str]:
    """Returns why a dataset does not hold numbers, all of them here; None if it does."""
    if item.shape is None or not (item.dtype.kind in "biufc" or h5py.check_string_dtype(item.dtype)):
        return "holds no numbers"
    if item.is_virtual:
        names = sorted({source.file_name for source in item.virtual_sources()})
        return f"is virtual: its values lie elsewhere ({_several(names)}); {_COPY}"
    if item.external:
        names = sorted({str(name) for name, _, _ in item.external})
        return f"is stored outside of the file ({_several(names)}); {_COPY}"
    properties = item.id.get_create_plist()
    for number in (properties.get_filter(i)[0] for i in range(properties.get_nfilters())):
        if not h5py.h5z.filter_avail(number):
            return (
                f"is packed with the filter {number}, which this HDF5 lacks; repack it with one that all have, such as "
                "h5repack -f GZIP=4"
            )
    if item.size and not item.id.get_storage_size():
        return "was made, but no value was ever written into it; write them, zeros too"
    return None


def _problem_of_link(h5py: Any, file: Any, name: str, link: Any) -> Optional[str]:
    """Returns why a link leads to another file, or nowhere; None if it is a second name for something in the file."""
    if isinstance(link, h5py.ExternalLink):
        return f"is a link into another file ({link.filename}); {_COPY}"
    if not isinstance(link, h5py.SoftLink):
        return None
    try:
        found = file[name]
    except Exception:  # KeyError where nothing is there, others where links go in a circle
        return f"is a link that leads nowhere ({link.path}); remove it, or write what is missing"
    if found.file.filename != file.filename:
        return f"is a link that leads into another file ({link.path}); {_COPY}"
    return None


def _stored(h5py: Any, path: Path, name: str, shape: tuple[int, ...], dtype: Any) -> LazyArray:
    is_text = h5py.check_string_dtype(dtype) is not None

    def read(region: Region) -> Array:
        try:
            with warnings.catch_warnings(), h5py.File(path, "r") as file:
                warnings.simplefilter("ignore")
                values: Array = np.asarray(file[name].asstr()[region], str) if is_text else file[name][region]
                return values
        except MemoryError:
            raise
        except Exception as error:  # h5py raises whatever it stumbles over
            raise DataError(f"{path} cannot be read: {name}: {_reason(error)}") from error

    return LazyArray(str(path), shape, np.dtype(np.str_) if is_text else dtype, read, files=(path,))


def _several(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.partition("\n")[0] or type(error).__name__


HDF5 = GroupFormat(
    title="HDF5", suffixes=(".h5", ".hdf5"), streamed=(".h5", ".hdf5"), axes=(), library=_H5PY, open=open_hdf5
)
