"""A classifier applied to pictures: a CSV file with a row for each, ``file,class,probability``.

Of a gated model with a detector, a fourth column ``is_new`` says whether the tuned network answered (1) or the vendor's (0):
one decision for each picture. Where probabilities are asked for, a column ``probability_CLASS`` for every class follows, in the
model's order.

The class is that of the largest output. Its probability is the output itself where the outputs are not negative and add up to
1, as those of a Softmax, and else the softmax of the outputs. A class goes by its name where the run or the model's record of
training has one, else by its number.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Optional

import numpy as np

from tgdonnx.applying.application import Application
from tgdonnx.applying.cases import require_sizes
from tgdonnx.applying.deciding import residual_by
from tgdonnx.applying.feeding import Case, named
from tgdonnx.applying.naming import ClassNames
from tgdonnx.applying.network import ImageNetwork, open_image_network
from tgdonnx.data.lazy_arrays import Array
from tgdonnx.errors import DataError
from tgdonnx.gated_model.settling import settled

_ROUNDING = 1e-3  # of probabilities, of models of half precision too


@dataclass(frozen=True)
class Choice:
    """Of a gated model with a detector, what answers for a picture that is not new.

    Attributes:
        vendor: the vendor's network.
        is_new: whether a picture is, for a batch of it.
    """

    vendor: ImageNetwork
    is_new: Callable[[Mapping[str, Array]], bool] = field(repr=False)


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
class Row:
    """What is said of a picture.

    Attributes:
        file: its name.
        best: the number of its class.
        probabilities: of shape (classes,).
        is_new: whether it is new to a detector.
    """

    file: str
    best: int
    probabilities: Array
    is_new: bool


@dataclass(frozen=True)
class Classification:
    """What is classified, and by what.

    Attributes:
        network: the classifier, of one output; of a gated model the tuned one.
        cases: what to classify: files, or an array of samples.
        classes: what these are called.
        every_class: whether the table has the probability of every class.
        choice: of a gated model with a detector, what else may answer.
    """

    network: ImageNetwork
    cases: tuple[Case, ...]
    classes: ClassNames
    every_class: bool = False
    choice: Optional[Choice] = None

    def fed(self) -> Iterator[tuple[str, dict[str, Array]]]:
        """Yields for every picture its name and what the model is fed: a batch of it.

        Raises:
            DataError: a file cannot be read, or is of another size than the model takes.
        """
        for case in self.cases:
            require_sizes(case, self.network, "a classifier looks at all of it")
            for index in range(case.view.count):
                yield (case.name if case.view.count == 1 else f"{case.name}[{index}]"), case.feeds([index])

    def rows(self, step: Callable[[], None]) -> Iterator[Row]:
        """Yields what is said of every picture.

        Args:
            step: called after every picture.

        Raises:
            DataError: a file cannot be read, the output is not one number per class, or there are more or fewer names.
        """
        (output,) = self.network.outputs
        for name, feeds in self.fed():
            is_new = self.choice is not None and self.choice.is_new(feeds)
            network = self.network if self.choice is None or is_new else self.choice.vendor
            scores = self._scores(network.run(feeds, [output])[output], feeds)
            self.classes.require_count(scores.size)
            yield Row(name, int(scores.argmax()), scores, is_new)
            step()

    def _scores(self, found: Array, feeds: Mapping[str, Array]) -> Array:
        """Returns the probabilities of the classes for a picture."""
        fed, counts = feeds[self.network.image.name], "N" in self.network.letters(self.network.image.name, "N")
        if counts and (not found.ndim or len(found) != len(fed)):
            raise DataError(f"the output has the shape {list(found.shape)} for {len(fed)} samples of {named(feeds)}")
        found = found[0] if counts else found
        if found.size != max(found.shape, default=0) or found.size < 2:
            raise DataError(
                f"the output {self.network.outputs[0]!r} has the shape {list(found.shape)} for a picture; a classifier gives "
                "one number per class",
                remedy="write the result as .npy",
            )
        scores: Array = found.ravel().astype(np.float64)
        if scores.min() < 0 or abs(scores.sum() - 1) > _ROUNDING:
            powers = np.exp(scores - scores.max())
            scores = powers / powers.sum()
        return scores

    def table(self, step: Callable[[], None]) -> Table:
        """Returns what the file says.

        Args:
            step: called after every picture.

        Raises:
            DataError: as `rows`.
        """
        text, count, new = io.StringIO(), 0, 0
        gated = self.choice is not None
        writer = csv.writer(text, lineterminator="\n")
        for row in self.rows(step):
            numbers = range(len(row.probabilities) if self.every_class else 0)
            if not count:
                each = (f"probability_{self.classes.name(number)}" for number in numbers)
                writer.writerow(("file", "class", "probability", *(["is_new"] if gated else []), *each))
            written = [f"{row.probabilities[number]:.6g}" for number in (row.best, *numbers)]
            decided = [int(row.is_new)] if gated else []
            writer.writerow((row.file, self.classes.name(row.best), written[0], *decided, *written[1:]))
            count += 1
            new += row.is_new
        return Table(text.getvalue(), count, new if gated else None)


def classification_of(application: Application) -> Classification:
    """Returns what is classified.

    Raises:
        DataError: the output is none of a classifier.
        ModelFileError: the file is not as gate writes it.
    """
    network, classes = application.network, application.preparation.classes
    every_class = application.options.form == "probabilities"
    return Classification(network, application.cases.all, classes, every_class, _choice_of(application))


def _choice_of(application: Application) -> Optional[Choice]:
    """Returns what else may answer of a gated model; None if it has no detector."""
    if application.gate is None or application.gate.detector is None:
        return None
    file, network, device = application.file, application.network, application.device
    residual, threshold = residual_by(file, network, device), application.gate.detector.threshold
    vendor = open_image_network(settled(file, 0.0), network.outputs, device)
    return Choice(vendor, lambda feeds: residual(feeds) < threshold)
