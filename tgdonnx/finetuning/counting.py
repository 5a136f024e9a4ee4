"""Whether anything of the targets counts: a label may be ignored, a weight be 0, and then there is nothing to learn from."""

from __future__ import annotations

from tgdonnx.artifacts.manifest import Head
from tgdonnx.data import Dataset
from tgdonnx.errors import DataError
from tgdonnx.finetuning.measures import readers
from tgdonnx.finetuning.session import Session


def require_labels(session: Session, dataset: Dataset) -> None:
    """Checks that of every output that trains something counts in data to train on.

    Raises:
        DataError: of one nothing counts, or a file cannot be read.
    """
    uncounted = _uncounted(session, dataset)
    if uncounted:
        raise DataError(
            f"{dataset.where}: there is nothing to learn from, for {_why(session, uncounted[0])}",
            remedy="train on data that is labelled",
        )


def require_some_labels(session: Session, dataset: Dataset) -> None:
    """Checks that of one output at least something counts in data to measure on.

    Raises:
        DataError: of none anything counts, or a file cannot be read.
    """
    uncounted = _uncounted(session, dataset)
    if len(uncounted) == len(session.manifest.heads):
        raise DataError(
            f"{dataset.where}: there is nothing to measure, for {_why(session, uncounted[0])}",
            remedy="validate with data that is labelled",
        )


def _uncounted(session: Session, dataset: Dataset) -> list[Head]:
    """Returns the outputs of which nothing counts; reads samples until it is known, mostly one."""
    manifest = session.manifest
    left = [
        (head, read)
        for head, read in zip(manifest.heads, readers(session))
        if read.ignore is not None or head.formula.weights
    ]
    for batch in dataset.batches(manifest.fixed_batch or 1) if left else ():
        for head, read in tuple(left):
            counts = read.counts(batch[manifest.place_of(head)], session.weights_of(head, batch))
            if counts is None or counts.any():
                left.remove((head, read))
        if not left:
            break
    return [head for head, _ in left]


def _why(session: Session, head: Head) -> str:
    which = f" of {head.target!r}" if len(session.manifest.heads) > 1 else ""
    ignored = head.formula.ignore
    return (
        f"every weight{which} is 0" if ignored is None else f"every label{which} is {ignored}, which the loss ignores"
    )
