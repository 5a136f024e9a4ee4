"""When a run ends, apart from signals."""

from __future__ import annotations

from typing import Optional

from tgdonnx.finetuning.metrics import LOSS
from tgdonnx.finetuning.options import TrainOptions
from tgdonnx.finetuning.reports import Stop
from tgdonnx.finetuning.state import RunState


def is_over_limit(state: RunState, options: TrainOptions) -> bool:
    """Whether the vendor's own task has become worse by more than the limit."""
    limit = options.retain_limit
    return limit is not None and state.retain_fall is not None and state.retain_fall > limit


def reason_to_stop(state: RunState, options: TrainOptions, per_epoch: int, guarded: Optional[str]) -> Optional[Stop]:
    """Returns why a run ends where it stands; None if it goes on.

    Args:
        state: where it stands.
        options: how it trains.
        per_epoch: steps of an epoch.
        guarded: the metric of the vendor's own task that is guarded, if one is.
    """
    if options.on_retain_limit == "stop" and is_over_limit(state, options):
        what = f"{guarded} of the vendor's own task is worse by {state.retain_fall:.4g} than at the start"
        return Stop(
            "retain-limit",
            f"{what} (limit {options.retain_limit:g}) after step {state.step}; "
            f"the checkpoint of step {state.best_step} is kept",
        )
    if options.patience is not None and state.stale >= options.patience:
        by = "" if options.best == LOSS else f" by {options.best}"
        return Stop(
            "patience", f"the last {state.stale} validations were no better{by} than that of step {state.best_step}"
        )
    last = options.last_step(per_epoch)
    if last is not None and state.step >= last:
        return Stop("length", f"all {last} steps are done")
    if options.max_time is not None and state.seconds >= options.max_time:
        return Stop("max-time", f"the time is over ({state.seconds:.0f} s, {state.step} steps)")
    return None
