"""How a finished run does between what training started from and what it came to: evaluated, without training again.

One session evaluates every blend; its parameters are set to the numbers that the file would hold, rounded as they would be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Optional

import numpy as np

from tgdonnx.artifacts import Artifacts
from tgdonnx.blending.choosing import above_lowest, lowest_within_limit, smallest_within_error
from tgdonnx.blending.endpoints import read_endpoints
from tgdonnx.blending.formula import require_blend
from tgdonnx.errors import DataError
from tgdonnx.finetuning import RunData, TrainOptions
from tgdonnx.finetuning.evaluation import Evaluator
from tgdonnx.finetuning.metrics import worsening
from tgdonnx.finetuning.reports import BlendCurve, BlendPoint
from tgdonnx.finetuning.retention import Retention
from tgdonnx.finetuning.run_record import write_blend
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.training import open_data
from tgdonnx.runtime import parse_device

BLENDS = tuple(tenth / 10 for tenth in range(11))


def blend_run(
    artifacts: Artifacts, data: RunData, options: TrainOptions, check: Callable[[], None] = lambda: None
) -> BlendCurve:
    """Evaluates and chooses a blend for the run in a directory on the data of that run, and writes it into its record.

    Args:
        artifacts: of the run, trained.
        data: of the run; with validation data.
        options: of the run; ``retain_limit`` is for the choice.
        check: called before every batch.

    Raises:
        ArtifactsError: the checkpoint is not usable.
        DataError: there is no validation data, or data does not fit.
    """
    session = Session(
        artifacts.directory,
        checkpoint=artifacts.kept_checkpoint,
        artifacts=artifacts,
        device=parse_device(options.device),
    )
    _, validation, retention = open_data(session, data, options)
    if validation is None:
        raise DataError("a blend is chosen on validation data, and there is none; pass it, or say which blend")
    curve = evaluate_blends(session, validation, retention, limit=options.retain_limit, check=check)
    write_blend(artifacts.directory, curve)
    return curve


def evaluate_blends(
    session: Session,
    validation: Evaluator,
    retention: Optional[Retention],
    *,
    blends: Sequence[float] = BLENDS,
    limit: Optional[float] = None,
    check: Callable[[], None] = lambda: None,
) -> BlendCurve:
    """Evaluates blends, and chooses one.

    Args:
        session: opened at the checkpoint that counts; its parameters are others afterwards.
        validation: of the new task.
        retention: of the vendor's own task.
        blends: from 0 to 1; both ends are evaluated in any case.
        limit: the largest fall of the guarded metric of the vendor's own task, from blend 0.
        check: called before every batch.

    Raises:
        DataError: a blend is not from 0 to 1; there is a limit and nothing that it is about; a loss is not finite.
    """
    for blend in blends:
        require_blend(blend)
    if limit is not None and retention is None:
        raise DataError("a limit of retention needs data of the vendor's own task; pass retain, or leave the limit out")
    checkpoint = session.artifacts.kept_checkpoint
    endpoints = read_endpoints(session.artifacts, checkpoint)
    by_sample = replace(validation, batch=session.manifest.fixed_batch or 1)
    points, losses = [], []
    for blend in sorted({0.0, 1.0, *map(float, blends)}):
        session.set_parameters(endpoints.parameters(blend))
        found = by_sample(session, check)
        if not np.isfinite(found.losses).all():
            raise DataError(f"the validation loss is not finite at blend {blend:g}; train with a smaller learning rate")
        retain = retention.evaluate(session, check) if retention is not None else {}
        points.append(BlendPoint(blend, {"loss": found.loss, **found.metrics}, retain, 0.0))
        losses.append(found.losses)
    _, errors = above_lowest(np.array(losses))
    points = [replace(point, uncertainty=float(error)) for point, error in zip(points, errors)]
    chosen, reason = _choice(points, np.array(losses), retention, limit)
    return BlendCurve(tuple(points), points[chosen].blend, reason, checkpoint)


def _choice(
    points: Sequence[BlendPoint],
    losses: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    retention: Optional[Retention],
    limit: Optional[float],
) -> tuple[int, str]:
    if limit is None or retention is None:
        chosen = smallest_within_error(losses)
        return chosen, "the smallest whose validation loss is within one standard error of the lowest"
    name = retention.guarded
    start = points[0].retain[name]
    if start is None:
        raise DataError(
            f"{name} of the vendor's own task is infinite at blend 0, so no loss of it can be measured; choose "
            "`metrics=('rmse',)`"
        )
    values = [point.retain[name] for point in points]
    falls = [None if value is None else worsening(name, start, value) for value in values]
    chosen = lowest_within_limit(losses, falls, limit)
    return chosen, f"the lowest validation loss with {name} of the vendor's own task within {limit:g} of blend 0"
