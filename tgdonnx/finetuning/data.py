"""Training data: arrays by name, matched to what a training step is fed.

A source is an ``.npz`` file with one array per name, a directory of ``.npy`` files named after their arrays, or a mapping of
names to arrays. Arrays of ``.npy`` files stay on disk and are read batch by batch. The first axis counts samples. Nothing
is cast, padded or cut: what does not fit is refused.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts import TensorSpec
from tgdonnx.errors import DataError, MissingArrayError
from tgdonnx.modelfile import StrPath

Array = NDArray[Any]
DataSource = Union[StrPath, Mapping[str, Array]]


@dataclass(frozen=True)
class Dataset:
    """Samples for a training step.

    Attributes:
        arrays: one per input of the step, in its order; the first axis counts samples.
    """

    arrays: tuple[Array, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def batches(
        self, size: int, *, epoch: Optional[int] = None, seed: int = 0, start: int = 0
    ) -> Iterator[list[Array]]:
        """Yields batches of ``size`` samples, the last one with what is left.

        Args:
            size: samples per batch.
            epoch: gives, with ``seed``, the order of the samples; None for their own order.
            seed: see ``epoch``.
            start: how many batches to leave out, without reading them.
        """
        count = len(self)
        order = np.arange(count) if epoch is None else np.random.default_rng([seed, epoch]).permutation(count)
        for first in range(start * size, count, size):
            # Sorted access is kind to files on disk; the order within a batch does not matter to a mean.
            chosen = np.sort(order[first : first + size])
            yield [np.ascontiguousarray(array[chosen]) for array in self.arrays]

    @property
    def identity(self) -> str:
        """A hash by which a resumed run knows its data again; of shapes and dtypes, not of contents."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Returns what a run keeps of its data, for JSON."""
        return {
            "samples": len(self),
            "arrays": [{"dtype": str(array.dtype), "shape": list(array.shape)} for array in self.arrays],
        }


def open_dataset(
    source: DataSource,
    inputs: Sequence[TensorSpec],
    *,
    renamed: Optional[Mapping[str, str]] = None,
    ignored: Collection[str] = (),
) -> Dataset:
    """Opens a source and matches its arrays to the inputs of a training step.

    Args:
        source: see the module.
        inputs: what a step is fed, in order.
        renamed: for names of arrays the input that they are for, where the names differ.
        ignored: names of arrays that may be there although they are not asked for.

    Raises:
        DataError: the source cannot be read; an array is missing or not asked for; its dtype, rank or shape does not fit;
            the arrays differ in length, are empty, or hold NaN or infinity.
    """
    arrays = dict(source) if isinstance(source, Mapping) else _read(Path(source))
    where = "the data" if isinstance(source, Mapping) else str(source)
    arrays = _rename(arrays, renamed or {}, where)
    expected = [spec.name for spec in inputs]
    for name in expected:
        if name not in arrays:
            raise MissingArrayError(
                f"{where} has no array {name!r}; expected {', '.join(expected)}, found {_names(arrays)}", name
            )
    for name in arrays:
        if name not in expected and name not in ignored:
            raise DataError(
                f"{where} has an array {name!r} that the model does not take; expected {', '.join(expected)}"
            )
    chosen = tuple(arrays[spec.name] for spec in inputs)
    for spec, array in zip(inputs, chosen):
        _check(spec, array, where)
    lengths = {spec.name: len(array) for spec, array in zip(inputs, chosen)}
    if len(set(lengths.values())) > 1:
        raise DataError(f"the arrays of {where} differ in the number of samples: {lengths}")
    if not len(chosen[0]):
        raise DataError(f"{where} holds no sample")
    return Dataset(chosen)


def _rename(arrays: dict[str, Array], renamed: Mapping[str, str], where: str) -> dict[str, Array]:
    for array_name, input_name in renamed.items():
        if array_name not in arrays:
            raise DataError(f"{where} has no array {array_name!r} to map to {input_name!r}; it has {_names(arrays)}")
    result: dict[str, Array] = {}
    for name, array in arrays.items():
        new = renamed.get(name, name)
        if new in result:
            raise DataError(f"{where} has two arrays for the input {new!r}, with what is mapped to it")
        result[new] = array
    return result


def _read(path: Path) -> dict[str, Array]:
    if path.is_dir():
        files = sorted(path.glob("*.npy"))
        if not files:
            raise DataError(f"{path} holds no .npy file; expected one per model input, and target.npy")
        return {file.stem: _load(file) for file in files}
    if path.suffix != ".npz":
        raise DataError(f"{path}: expected an .npz file or a directory of .npy files")
    with _open(path) as file:
        try:
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise DataError(f"{path} holds a single array; expected an .npz file with one per name")
            return {name: loaded[name] for name in loaded.files}
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path} cannot be read: {error}") from error


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _load(path: Path) -> Array:
    with _open(path) as file:
        if file.read(2) == b"PK":
            raise DataError(f"{path} is an archive of arrays; name it .npz, or save a single array")
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        return array
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _check(spec: TensorSpec, array: Array, where: str) -> None:
    expected = f"{spec.dtype} {_shape(spec.shape)}"
    found = f"{array.dtype} {_shape(array.shape)}"
    if str(array.dtype) != spec.dtype:
        raise DataError(f"{where}: expected {spec.name!r} to be {expected}, found {found}; convert it")
    if array.ndim == 0:
        raise DataError(f"{where}: {spec.name!r} has no axis that counts samples")
    if spec.shape is not None:
        # The batch axis may be fixed in the model; the batch size then has to fit, not the number of samples.
        fits = len(spec.shape) == array.ndim and all(
            want is None or want == have for want, have in zip(spec.shape[1:], array.shape[1:])
        )
        if not fits:
            raise DataError(f"{where}: expected {spec.name!r} to be {expected}, found {found}")
    for index in range(0, len(array), 64):  # in pieces: the array may be larger than memory
        finite = np.isfinite(array[index : index + 64])
        if not finite.all():
            at = np.argwhere(~finite)[0]
            at[0] += index
            raise DataError(f"{where}: {spec.name}{at.tolist()} is {array[tuple(at)]}; remove or repair this sample")


def _shape(shape: Optional[Sequence[Optional[int]]]) -> str:
    return "of any shape" if shape is None else "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"


def _names(arrays: Mapping[str, Array]) -> str:
    return ", ".join(sorted(arrays)) or "none"
