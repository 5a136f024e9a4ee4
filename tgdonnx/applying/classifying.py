"""A classifier applied to pictures: a CSV file with a row for each, ``file,class,probability``.

Of a gated model with a detector, a fourth column ``is_new`` says whether the tuned network answered (1) or the vendor's (0):
one decision for each picture.

The class is that of the largest output. Its probability is the output itself where the outputs are not negative and add up to
1, as those of a Softmax, and else the softmax of the outputs. A class goes by its name where the run or the model's record of
training has one, else by its number.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Union

import numpy as np

from tgdonnx.applying.deciding import residual_by
from tgdonnx.applying.network import ImageNetwork, open_image_network
from tgdonnx.data.array_likes import ArrayLike
from tgdonnx.data.file_cache import FileCache
from tgdonnx.data.layouts import View
from tgdonnx.data.lazy_arrays import Array, ArrayGroup, LazyArray
from tgdonnx.data.matching import match
from tgdonnx.data.options import DataOptions
from tgdonnx.data.scaling import Linear
from tgdonnx.data.single import is_sample_file, sample_file
from tgdonnx.data.sources import Source, listing, open_array
from tgdonnx.errors import DataError
from tgdonnx.files.model_file import ModelFile, StrPath
from tgdonnx.gated_model.record import GateRecord
from tgdonnx.gated_model.settling import settled
from tgdonnx.runtime import Device

SUFFIX = ".csv"
_ROUNDING = 1e-3  # of probabilities, of models of half precision too


@dataclass(frozen=True)
class Choice:
    """Of a gated model with a detector, what answers for a picture that is not new.

    Attributes:
        vendor: the vendor's network.
        is_new: whether a picture is, for a batch of it.
    """

    vendor: ImageNetwork
    is_new: Callable[[Array], bool] = field(repr=False)


@dataclass(frozen=True)
class Table:
    """What a file says.

    Attributes:
        text: of the file.
        count: how many pictures it has.
        new: how many of them are new to the detector of a gated model; None without one.
    """

    text: str = field(repr=False)
    count: int
    new: Optional[int]

    @property
    def decided(self) -> Optional[str]:
        """What a detector came to, in words; None without one."""
        if self.new is None:
            return None
        return (
            f"{self.new} of {self.count} pictures are new to the detector: the tuned network answers for these, the vendor's "
            "for the others; the column is_new says which"
        )


@dataclass(frozen=True)
class Classification:
    """What is classified, and how.

    Attributes:
        network: the classifier; of a gated model the tuned one.
        views: what to classify, by name.
        linear: of intensities; None for none.
        classes: their names; none where nobody says them.
        choice: of a gated model with a detector, what else may answer.
    """

    network: ImageNetwork
    views: tuple[tuple[str, View], ...]
    linear: Optional[Linear]
    classes: tuple[str, ...]
    choice: Optional[Choice] = None

    def fed(self) -> Iterator[tuple[str, Array]]:
        """Yields for every picture its name and what the model is fed: a batch of one.

        Raises:
            DataError: a file cannot be read.
        """
        for name, view in self.views:
            for index in range(view.count):
                values = view.read(index, self.network.input.name)[np.newaxis]
                if self.linear is not None:
                    values = self.linear.apply(values, 1 + view.axes.find("C"))
                yield (name if view.count == 1 else f"{name}[{index}]"), values

    def rows(self) -> Iterator[tuple[str, str, float, bool]]:
        """Yields file, class, probability, and whether the picture is new to a detector.

        Raises:
            DataError: a file cannot be read, or the output is not one number per class.
        """
        shape = self.network.input.shape
        fixed = (shape[0] if shape else None) or 1
        for name, values in self.fed():
            batch = np.repeat(values, fixed, 0)
            is_new = self.choice is not None and self.choice.is_new(batch)
            network = self.network if self.choice is None or is_new else self.choice.vendor
            found = network.run(batch)[0]
            if found.size != max(found.shape, default=0) or found.size < 2:
                raise DataError(
                    f"the output {self.network.output!r} has the shape {list(found.shape)} for a picture; a classifier gives "
                    "one number per class",
                    remedy="write the result as .npy",
                )
            scores = found.ravel().astype(np.float64)
            if scores.min() < 0 or abs(scores.sum() - 1) > _ROUNDING:
                powers = np.exp(scores - scores.max())
                scores = powers / powers.sum()
            best = int(scores.argmax())
            yield name, self.classes[best] if best < len(self.classes) else str(best), float(scores[best]), is_new

    def table(self) -> Table:
        """Returns what the file says.

        Raises:
            DataError: as `rows`.
        """
        text, count, new = io.StringIO(), 0, 0
        gated = self.choice is not None
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("file", "class", "probability", *(["is_new"] if gated else [])))
        for name, label, probability, is_new in self.rows():
            writer.writerow((name, label, f"{probability:.6g}", *([int(is_new)] if gated else [])))
            count += 1
            new += is_new
        return Table(text.getvalue(), count, new if gated else None)


def choice_of(
    file: ModelFile, record: GateRecord, network: ImageNetwork, output_name: Optional[str], device: Device
) -> Optional[Choice]:
    """Returns what else may answer of a gated model; None if it has no detector.

    Args:
        file: the gated file.
        record: its record.
        network: the tuned network in it.
        output_name: the output to take; there may be only one, if None.
        device: where to run it.

    Raises:
        ModelFileError: the file is not as gate writes it.
    """
    if record.detector is None:
        return None
    residual, threshold = residual_by(file, network.input.name, device), record.detector.threshold
    vendor = open_image_network(settled(file, 0.0), output_name, device)
    return Choice(vendor, lambda batch: residual(batch) < threshold)


def views_of(
    data: Union[StrPath, ArrayLike], network: ImageNetwork, reading: DataOptions
) -> tuple[tuple[str, View], ...]:
    """Returns what is to be classified, by name: a file, an array, or all files of a directory, and of those in it.

    Args:
        data: the file or directory, or an array.
        network: the classifier.
        reading: how pictures are made ready.

    Raises:
        DataError: there is nothing, or it does not fit the model.
    """
    named = Path(data) if isinstance(data, (str, os.PathLike)) else None
    if named is not None and named.is_dir():
        kept, root = FileCache(), named
        stored = [(str(path.relative_to(root)), sample_file(path, kept)) for path in _files(root)]
        if not stored:
            raise DataError(f"{root} holds no picture")
    else:
        found = open_array(data)
        stored = [(found.place if named is None else named.name, found)]
    return tuple((name, _view(each, network, reading)) for name, each in stored)


def _files(directory: Path) -> Iterator[Path]:
    for entry in listing(directory):
        if entry.is_dir() and not entry.is_symlink():
            yield from _files(entry)
        elif is_sample_file(entry):
            yield entry


def _view(stored: LazyArray, network: ImageNetwork, reading: DataOptions) -> View:
    spec = network.input
    (member,) = match(Source(stored.place, (ArrayGroup(stored.place, {spec.name: stored}),)), [spec], reading)
    return member.views[0]
