"""How a finished run does between what training started from and what it came to: evaluated, without training again.

One session evaluates every blend; its parameters are set to the numbers that the file would hold, rounded as they would be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Optional

import numpy as np

from tgdonnx.artifacts import Artifacts
from tgdonnx.blending.choosing import above_lowest, choose_blend
from tgdonnx.blending.endpoints import read_endpoints
from tgdonnx.blending.formula import require_blend
from tgdonnx.errors import DataError
from tgdonnx.finetuning import RunData, TrainOptions
from tgdonnx.finetuning.evaluation import Evaluator
from tgdonnx.finetuning.opening import fitting_batch, open_data
from tgdonnx.finetuning.reports import BlendCurve, BlendPoint
from tgdonnx.finetuning.retention import Retention
from tgdonnx.finetuning.run_record import write_blend
from tgdonnx.finetuning.session import Session
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
    options = fitting_batch(session.manifest, options)
    _, validation, retention = open_data(session, data, options)
    if validation is None:
        raise DataError("a blend is chosen on validation data, and there is none", remedy="pass it, or say which blend")
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
    if limit is not None and not (math.isfinite(limit) and limit >= 0):
        raise DataError(f"expected retain_limit >= 0, got {limit:g}")
    if limit is not None and retention is None:
        raise DataError(
            "a limit of retention needs data of the vendor's own task", remedy="pass retain, or leave the limit out"
        )
    endpoints = read_endpoints(session.artifacts, session.artifacts.kept_checkpoint)
    by_sample = replace(validation, batch=session.manifest.fixed_batch or 1)
    points, losses = [], []
    for blend in sorted({0.0, 1.0, *map(float, blends)}):
        session.set_parameters(endpoints.parameters(blend))
        found = by_sample(session, check)
        if not np.isfinite(found.losses).all():
            raise DataError(
                f"the validation loss is not finite at blend {blend:g}", remedy="train with a smaller learning rate"
            )
        retain = retention.evaluate(session, check) if retention is not None else {}
        points.append(BlendPoint(blend, {"loss": found.loss, **found.metrics}, retain, 0.0))
        losses.append(found.losses)
    _, errors = above_lowest(np.array(losses))
    points = [replace(point, uncertainty=float(error)) for point, error in zip(points, errors)]
    state = session.run_state
    return BlendCurve(tuple(points), *choose_blend(points, limit), 0 if state is None else state.step)
