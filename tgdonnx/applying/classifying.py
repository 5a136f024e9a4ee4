"""A classifier applied to pictures: a CSV file with a row for each, ``file,class,probability``.

The class is that of the largest output. Its probability is the output itself where the outputs are not negative and add up to
1, as those of a Softmax, and else the softmax of the outputs. A class goes by its name where the run or the model's record of
training has one, else by its number.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

import numpy as np

from tgdonnx.applying.network import ImageNetwork
from tgdonnx.data.file_cache import FileCache
from tgdonnx.data.layouts import View
from tgdonnx.data.lazy_arrays import Array, ArrayGroup, LazyArray
from tgdonnx.data.matching import match
from tgdonnx.data.options import DataOptions
from tgdonnx.data.scaling import Linear
from tgdonnx.data.single import is_sample_file, sample_file
from tgdonnx.data.sources import Source, listing, open_array
from tgdonnx.errors import DataError
from tgdonnx.files.model_file import StrPath

SUFFIX = ".csv"
_ROUNDING = 1e-3  # of probabilities, of models of half precision too


@dataclass(frozen=True)
class Classification:
    """What is classified, and how.

    Attributes:
        network: the classifier.
        views: what to classify, by name.
        linear: of intensities; None for none.
        classes: their names; none where nobody says them.
    """

    network: ImageNetwork
    views: tuple[tuple[str, View], ...]
    linear: Optional[Linear]
    classes: tuple[str, ...]

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

    def rows(self) -> Iterator[tuple[str, str, float]]:
        """Yields file, class and probability.

        Raises:
            DataError: a file cannot be read, or the output is not one number per class.
        """
        shape = self.network.input.shape
        fixed = (shape[0] if shape else None) or 1
        for name, values in self.fed():
            found = self.network.run(np.repeat(values, fixed, 0))[0]
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
            yield name, self.classes[best] if best < len(self.classes) else str(best), float(scores[best])

    def table(self) -> tuple[str, int]:
        """Returns the text of the file, and how many pictures it has.

        Raises:
            DataError: as `rows`.
        """
        text, count = io.StringIO(), 0
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("file", "class", "probability"))
        for name, label, probability in self.rows():
            writer.writerow((name, label, f"{probability:.6g}"))
            count += 1
        return text.getvalue(), count


def views_of(data: Union[StrPath, Array], network: ImageNetwork, reading: DataOptions) -> tuple[tuple[str, View], ...]:
    """Returns what is to be classified, by name: a file, an array, or all files of a directory, and of those in it.

    Args:
        data: the file or directory, or an array.
        network: the classifier.
        reading: how pictures are made ready.

    Raises:
        DataError: there is nothing, or it does not fit the model.
    """
    if not isinstance(data, np.ndarray) and Path(data).is_dir():
        kept, root = FileCache(), Path(data)
        stored = [(str(path.relative_to(root)), sample_file(path, kept)) for path in _files(root)]
        if not stored:
            raise DataError(f"{root} holds no picture")
    else:
        found = open_array(data)
        stored = [(found.place if isinstance(data, np.ndarray) else Path(data).name, found)]
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
