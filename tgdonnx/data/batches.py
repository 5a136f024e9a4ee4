"""Batches that a program gives one after the other: a list, a generator, a DataLoader of PyTorch.

A run goes over its data many times, in an order of its own, and a resumed one must find the same again. What gives batches may
give them only once, in another order every time, or varied at random. So they are read once, copied, since the same memory may
be filled again for the next one, and kept. From then on they are cases like files: a validation split holds out whole batches,
and a resumed run knows them by their values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tgdonnx.data.array_likes import as_array, is_array
from tgdonnx.data.arrays import in_memory
from tgdonnx.data.lazy_arrays import ArrayGroup, machine_memory
from tgdonnx.errors import DataError

_BY_NAME = "arrays by name, such as {'x': ..., 'target': ...}"
_EXPECTED = f"expected a path, {_BY_NAME}, or batches of them one after the other"


def read_batches(given: object) -> tuple[ArrayGroup, ...]:
    """Reads all batches; each becomes a group.

    Args:
        given: what gives them; see `tgdonnx.data.array_likes.Batch`.

    Raises:
        DataError: it gives no batches, or something that is none, or more than half of the memory of this machine.
    """
    if is_array(given):
        raise DataError(f"an array alone does not say what it is for: expected {_BY_NAME}")
    if not isinstance(given, Iterable) or isinstance(given, bytes):
        loader = "; put what makes batches around it" if hasattr(given, "__getitem__") else ""
        raise DataError(f"{_EXPECTED}; got {type(given).__name__}{loader}")
    memory, size = machine_memory(), 0
    groups: list[ArrayGroup] = []
    for batch in given:
        groups.append(_group(batch, f"batch {len(groups)}"))
        size += sum(stored.nbytes for stored in groups[-1].arrays.values())
        if memory is not None and size > memory / 2:
            raise DataError(
                f"{len(groups)} batches take {size / 2**30:.1f} GiB already, more than half of the memory of this machine",
                remedy="give fewer, or write them to .npy or HDF5 files, which are read piece by piece",
            )
    if not groups:
        again = ", and this one gives them only once" if iter(given) is given else ""
        raise DataError(
            f"{type(given).__name__} gave no batch{again}",
            remedy="give a list, or one RunData, which keeps what it has read, to all that follows",
        )
    return tuple(groups)


def remark_on(groups: tuple[ArrayGroup, ...]) -> str:
    """Returns what is said of batches that were read."""
    size = sum(stored.nbytes for group in groups for stored in group.arrays.values())
    return (
        f"{len(groups)} batches were read once and are kept in memory ({size / 2**20:.1f} MiB): what is random in them was "
        "drawn then, and the run orders samples itself"
    )


def _group(batch: object, name: str) -> ArrayGroup:
    place = f"the data, {name}"
    if isinstance(batch, Mapping):
        pairs, in_order = list(batch.items()), False
    elif isinstance(batch, (tuple, list)):
        pairs, in_order = [(str(number), value) for number, value in enumerate(batch)], True
    elif is_array(batch):
        pairs, in_order = [("0", batch)], True
    else:
        raise DataError(f"{place} is of type {type(batch).__name__}; expected {_BY_NAME}, or several in order")
    arrays = {}
    for key, value in pairs:
        if isinstance(value, (tuple, list)) and any(is_array(each) for each in value):
            raise DataError(f"{place} has several arrays in the place of {key!r}; expected one, or {_BY_NAME}")
        arrays[str(key)] = in_memory(np.array(as_array(value, f"{place}: {key!r}")), place)
    return ArrayGroup(name, arrays, in_order)
