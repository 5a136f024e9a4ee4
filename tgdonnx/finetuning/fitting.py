"""Whether data fits a model, told as a run would: everything that is wrong at once, and what would help.

The data is opened as a run opens it. Of what is found to be wrong, some says with which options the data would fit
(`tgdonnx.errors.DataError.options`); these are put in, and the data is opened again, since behind one problem there may be
another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Optional

from tgdonnx.data import DataOptions
from tgdonnx.errors import DataError
from tgdonnx.finetuning.agreement import Samples
from tgdonnx.finetuning.data import RunData
from tgdonnx.finetuning.opening import batch_remarks, class_axes, fitting_batch, open_data, remarks_of
from tgdonnx.finetuning.options import TrainOptions
from tgdonnx.finetuning.session import Session

_READING = frozenset(field.name for field in fields(DataOptions))
_TRAINING = frozenset(field.name for field in fields(TrainOptions))


@dataclass(frozen=True)
class Fit:
    """What came of opening the data of a run.

    Attributes:
        problems: what is wrong, in the order in which it was found; none if the data fits as it is.
        options: with which it would fit, or of which it is known that they are needed, by the names that Python gives them.
        fits: whether it does, with these.
        remarks: what is done to the data then, and what is worth knowing about it.
        training: what is trained on then; None if it does not fit.
    """

    problems: tuple[DataError, ...]
    options: Mapping[str, object]
    fits: bool
    remarks: tuple[str, ...] = ()
    training: Optional[Samples] = None

    def told(self, first: DataError) -> DataError:
        """Returns the error that was met first, with all others, and with what it would fit."""
        first.also = tuple(each for each in self.problems if str(each) != str(first))
        first.options = self.options if self.fits else first.options
        return first


def fit(session: Session, data: RunData, options: TrainOptions) -> Fit:
    """Opens the data of a run with the options given, and with those that would help; nothing is written.

    Args:
        session: the artifacts that are to train.
        data: of the run.
        options: of the run.

    Raises:
        ArtifactsError, RuntimeMissingError: as a run; data that does not fit is told, not raised.
    """
    problems: dict[str, DataError] = {}
    added: dict[str, Any] = {}
    asked = options
    while True:
        options = fitting_batch(session.manifest, options)
        try:
            training, validating, retention = open_data(session, data, options)
        except DataError as error:
            # Without its traceback, which holds this frame and so itself.
            found = [error.with_traceback(None), *error.also]
            problems.update((str(each), each) for each in found)
            offered = [(name, value) for each in found for name, value in each.options.items()]
            new = _new_options(offered, {**vars(data.reading), **vars(options)}, added)
            if not new:
                return Fit(tuple(problems.values()), added, fits=False)
            added.update(new)
            data, options = with_options(data, options, new)
        else:
            fixed = () if "batch" in added else batch_remarks(asked, options)
            remarks = (*fixed, *class_axes(session.manifest), *remarks_of(training, validating, retention))
            return Fit(tuple(problems.values()), added, fits=True, remarks=remarks, training=training)


def with_options(data: RunData, options: TrainOptions, found: Mapping[str, Any]) -> tuple[RunData, TrainOptions]:
    """Returns the data and the options of a run with those that were found to help."""
    read = replace(data, reading=replace(data.reading, **_part(found, _READING)))
    return read, replace(options, **_part(found, _TRAINING))


def _new_options(
    offered: Sequence[tuple[str, object]], given: Mapping[str, object], added: Mapping[str, object]
) -> dict[str, object]:
    """Returns those of the options offered that were not tried: of single inputs those of which nothing is said."""
    new: dict[str, object] = {}
    for name, value in offered:
        if name not in given:  # of the artifacts; its problem says it
            continue
        before = new.get(name, given[name])
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            value = {**before, **value, **before}  # in order, and what was said stays
        elif name in new or name in added:
            continue
        if value != before:
            new[name] = value
    return new


def _part(options: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in names}
