"""The loop: step, record, save, until there is a reason to stop.

A run is a chain of states (`RunState`), each made from the one before by a step or by a record: an evaluation, with what the
steps since the last one came to. What comes next follows from the state alone, so a run that starts from a checkpoint goes
the same way as one that was never cut off.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from signal import Signals
from typing import Any, Optional

from numpy.typing import NDArray

from tgdonnx.engines import Batch
from tgdonnx.errors import DataError, DivergedError, OutputError
from tgdonnx.finetuning.agreement import Samples
from tgdonnx.finetuning.evaluation import Evaluator
from tgdonnx.finetuning.interruption import Interrupted, interruptible
from tgdonnx.finetuning.logs import Log, StepEntry
from tgdonnx.finetuning.metrics import LOSS, is_better, worsening
from tgdonnx.finetuning.options import TrainOptions
from tgdonnx.finetuning.reports import Epoch, Progress, Stop
from tgdonnx.finetuning.retention import Retention
from tgdonnx.finetuning.schedules import learning_rate_at
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.state import Interval, RunState
from tgdonnx.finetuning.stopping import is_over_limit, reason_to_stop
from tgdonnx.finetuning.tensorboard import Board


@dataclass(frozen=True)
class Run:
    """What does not change during a run.

    Attributes:
        session: parameters and optimizer.
        training: what is trained on.
        options: how.
        validation: how the validation data is evaluated, if there is any.
        retention: how the vendor's own task is, if it is.
        log: where steps and epochs are noted.
        board: the same for TensorBoard, if asked for.
        on_progress: called after every step.
        on_epoch: called with every record.
    """

    session: Session
    training: Samples
    options: TrainOptions
    validation: Optional[Evaluator]
    retention: Optional[Retention]
    log: Log
    board: Optional[Board]
    on_progress: Callable[[Progress], None]
    on_epoch: Callable[[Epoch], None]

    @property
    def batches_per_epoch(self) -> int:
        """Batches of an epoch."""
        return self.options.batches_per_epoch(len(self.training), self.session.manifest.fixed_batch)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return self.options.steps_per_epoch(len(self.training), self.session.manifest.fixed_batch)


def run_until_stop(
    run: Run, state: RunState, signals: Collection[Signals], is_wanted: Callable[[], bool] = lambda: True
) -> tuple[RunState, Stop]:
    """Trains from a state on until there is a reason to stop; returns the last state and the reason.

    Args:
        run: what does not change.
        state: where it stands; the parameters and the optimizer of the session are those of this state.
        signals: those that save and stop.
        is_wanted: asked before every batch; once it says no, that is as if SIGTERM had come.

    Raises:
        DivergedError: a loss or a weight became NaN or infinite; the last checkpoint is kept.
        OutputError: something cannot be written.
    """
    if state.best_step is not None and state.best_step == state.step:
        # It may have been cut off between the two checkpoints.
        run.session.save(run.session.manifest.runtime.best_checkpoint, state)
    guarded = run.retention.guarded if run.retention else None
    saved, saved_at = state, time.monotonic()
    reading = _Reading(run)
    with interruptible(signals, is_wanted) as check:
        try:
            while True:
                stop = reason_to_stop(state, run.options, run.steps_per_epoch, guarded)
                if _record_is_due(run, state, ending=stop is not None):
                    state = saved = _record(run, state, saved.step, check)
                    saved_at = time.monotonic()
                    continue
                if stop is not None:
                    break
                state = _step(run, state, reading, saved.step, check)
                if time.monotonic() - saved_at >= run.options.checkpoint_every:
                    _require_finite(run, state, saved.step)
                    _save(run, state)
                    saved, saved_at = state, time.monotonic()
        except OutputError as error:
            if saved.step:
                error.add(f"the checkpoint of step {saved.step} is kept; make room, and go on with `resume=True`")
            raise
        except Interrupted as interrupted:
            number = interrupted.signal
            stop = Stop("signal", f"stopped by {number.name} after step {state.step}", int(number))
        if state is not saved:
            _require_finite(run, state, saved.step)
            _save(run, state)
    run.log.add_stop(state.step, stop)
    return state, stop


def _record_is_due(run: Run, state: RunState, *, ending: bool) -> bool:
    if state.recorded == state.step:
        return False
    return ending or state.step % run.steps_per_epoch == 0 or _validation_is_due(run, state, ending=ending)


def _validation_is_due(run: Run, state: RunState, *, ending: bool) -> bool:
    every = run.options.validate_every or run.steps_per_epoch
    return ending or state.step % every == 0


class _Reading:
    """The batches of the epoch under way, opened where a step wants to go on."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._step = -1
        self._batches: Iterator[list[NDArray[Any]]] = iter(())

    def at(self, step: int) -> Iterator[list[NDArray[Any]]]:
        """Returns the batches from a step (counted from 0) to the end of its epoch. Steps are asked for in turn."""
        epoch, inside = divmod(step, self._run.steps_per_epoch)
        if inside == 0 or step != self._step + 1:
            options = self._run.options
            start = inside * options.accumulate
            self._batches = self._run.training.batches(options.batch, epoch=epoch + 1, seed=options.seed, start=start)
        self._step = step
        return self._batches


def _step(run: Run, state: RunState, reading: _Reading, kept: int, check: Callable[[], None]) -> RunState:
    options, session = run.options, run.session
    begin, wait, images = time.monotonic(), 0.0, 0
    epoch, inside = divmod(state.step, run.steps_per_epoch)
    last = options.last_step(run.steps_per_epoch)
    rate = learning_rate_at(state.step, last, peak=options.peak, schedule=options.schedule, warmup=options.warmup)
    count = min(options.accumulate, run.batches_per_epoch - inside * options.accumulate)
    stream = reading.at(state.step)

    def batches() -> Iterator[Batch]:
        nonlocal wait, images
        for _ in range(count):
            check()
            asked = time.monotonic()
            batch = next(stream)
            wait += time.monotonic() - asked
            images += len(batch[-1])
            yield batch

    losses = session.step(batches(), rate)
    if not math.isfinite(losses[-1]):
        raise DivergedError(_diverged(f"the loss is {losses[-1]} at step {state.step + 1}", kept))
    loss, step = math.fsum(losses) / count, state.step + 1
    heads = session.manifest.heads
    parts = {head.output: math.fsum(part) / count for head, part in zip(heads, zip(*(each.parts for each in losses)))}
    seconds = time.monotonic() - begin
    past = state.interval
    interval = Interval(
        past.steps + 1, past.loss + loss, past.seconds + seconds, past.wait + wait, past.images + images
    )
    state = replace(
        state, epoch=step // run.steps_per_epoch, step=step, seconds=state.seconds + seconds, interval=interval
    )
    run.log.add_step(StepEntry(epoch + 1, step, loss, rate, seconds, wait, parts))
    if run.board is not None:
        run.board.add_step(step, loss, rate, parts)
    run.on_progress(
        Progress(
            epoch + 1,
            step,
            last,
            loss,
            state.validation,
            state.metrics,
            interval.images / max(interval.seconds, 1e-9),
            interval.wait / max(interval.seconds, 1e-9),
            _seconds_left(state, options, last),
        )
    )
    return state


def _seconds_left(state: RunState, options: TrainOptions, last: Optional[int]) -> float:
    by_steps = math.inf if last is None else (last - state.step) * state.seconds / max(1, state.step)
    by_time = math.inf if options.max_time is None else options.max_time - state.seconds
    return max(0.0, min(by_steps, by_time))


def _record(run: Run, state: RunState, kept: int, check: Callable[[], None]) -> RunState:
    """Evaluates where that is due, notes what was found, and saves."""
    begin = time.monotonic()
    _require_finite(run, state, kept)
    ending = reason_to_stop(state, run.options, run.steps_per_epoch, None) is not None
    due = _validation_is_due(run, state, ending=ending)
    found = run.validation(run.session, check) if run.validation is not None and due else None
    if found is not None and not math.isfinite(found.loss):
        raise DivergedError(_diverged(f"the validation loss is {found.loss} after step {state.step}", kept))
    retain = run.retention.evaluate(run.session, check) if run.retention is not None and due else {}
    past = state.interval
    seconds = time.monotonic() - begin
    epoch = Epoch(
        epoch=-(-state.step // run.steps_per_epoch),
        step=state.step,
        loss=past.loss / past.steps if past.steps else None,
        validation=found.loss if found is not None else None,
        seconds=past.seconds + seconds,
        metrics=found.metrics if found is not None else {},
        retain=retain,
        images_per_second=past.images / past.seconds if past.seconds else None,
        wait=past.wait / past.seconds if past.seconds else None,
    )
    state = replace(state, seconds=state.seconds + seconds, recorded=state.step, interval=Interval())
    if found is not None:
        state = replace(state, validation=found.loss, metrics=found.metrics)
    if run.retention is not None and due:
        state = _guard(state, run.options, retain[run.retention.guarded], run.retention)
    better = due and _is_best(state, run, epoch)
    if better:
        loss = epoch.loss if epoch.validation is None else epoch.validation
        value = epoch.validation if run.options.best == LOSS else epoch.metrics.get(run.options.best)
        state = replace(state, best_loss=loss, best_value=value, best_epoch=epoch.epoch, best_step=state.step, stale=0)
    elif found is not None:
        state = replace(state, stale=state.stale + 1)
    run.log.add_epoch(epoch, whole=state.step % run.steps_per_epoch == 0)
    if run.board is not None:
        run.board.add_epoch(epoch)
    _save(run, state)
    if better:
        run.session.save(run.session.manifest.runtime.best_checkpoint, state)
    run.on_epoch(epoch)
    return state


def _guard(state: RunState, options: TrainOptions, now: Optional[float], retention: Retention) -> RunState:
    """Notes how far the vendor's own task is from the start."""
    if state.step == 0:
        if now is None and options.retain_limit is not None:
            raise DataError(
                f"{retention.guarded} of the vendor's own task is infinite at the start, so no loss of it can be "
                "measured",
                remedy="choose `metrics=('rmse',)`",
            )
        return replace(state, retain_start=now, retain_fall=0.0)
    if now is None or state.retain_start is None:
        return replace(state, retain_fall=None)
    return replace(state, retain_fall=worsening(retention.guarded, state.retain_start, now))


def _is_best(state: RunState, run: Run, epoch: Epoch) -> bool:
    """Whether the parameters are those to keep, so far; see `Best`."""
    if is_over_limit(state, run.options):
        return False
    if epoch.validation is None:
        return run.options.retain_limit is not None
    best = run.options.best
    if state.best_step is None:
        return True
    if best == LOSS:
        return is_better(LOSS, epoch.validation, state.best_loss)
    return is_better(best, epoch.metrics[best], state.best_value)


def _require_finite(run: Run, state: RunState, kept: int) -> None:
    if not run.session.parameters_are_finite():
        raise DivergedError(_diverged(f"a weight is not finite after step {state.step}", kept))


def _save(run: Run, state: RunState) -> None:
    run.log.sync()
    run.session.save(run.session.manifest.runtime.checkpoint, state)


def _diverged(what: str, kept: int) -> str:
    there = f"the checkpoint of step {kept} is kept" if kept else "there is no checkpoint of any step before"
    return f"training diverged: {what}; {there}. Try a smaller learning rate, or clip the gradient (build with `clip_norm`)"
