"""What a run came to, in words: a line after every validation, and at the end from where to where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Optional

from tgdonnx.finetuning import Epoch, TrainReport
from tgdonnx.finetuning.metrics import LOSS, metric_of
from tgdonnx.reporting.measures import titled

if TYPE_CHECKING:  # a command that applies nothing need not bring it along
    from tgdonnx.applying import ApplyReport

_TITLES = {"psnr": "PSNR", "ssim": "SSIM", "rmse": "RMSE", "dice": "Dice", "iou": "IoU", "f1": "F1"}
_OLD = "vendor's own task"


def epoch_line(epoch: Epoch) -> str:
    """Returns what was found after an epoch, or at a validation within one, as a line that stays on the screen."""
    told = [] if epoch.loss is None else [f"loss {_number(epoch.loss)}"]
    if epoch.validation is not None:
        told.append(f"validation {_number(epoch.validation)}")
    told += _metrics(epoch.metrics)
    line = f"{'start' if epoch.step == 0 else f'epoch {epoch.epoch}, step {epoch.step}'}: {', '.join(told)}"
    return f"{line}; {_OLD}: {', '.join(_metrics(epoch.retain))}" if epoch.retain else line


def result_lines(report: TrainReport) -> list[str]:
    """Returns from where to where validation and the vendor's own task went, at the epoch that is kept.

    Metrics where there are any, else the loss. What was not evaluated at that epoch is left out.
    """
    first, best = report.epochs[0], report.best
    kept = next((epoch for epoch in reversed(report.epochs) if epoch.step == best.step), report.epochs[-1])
    best_there_is = first.validation is not None or report.stop.rule == "retain-limit" or bool(first.retain)
    by = f" by {title(best.by)}" if best.by != LOSS else ""
    where = f"({f'best{by}' if best_there_is else 'last'}, epoch {kept.epoch})"
    lines = []
    if first.validation is not None and kept.validation is not None:
        lines.append(f"validation loss {_number(first.validation)} -> {_number(kept.validation)} {where}")
    elif report.loss and first.validation is None:
        lines.append(f"loss {_number(report.loss[0])} -> {_number(report.loss[-1])} (first and last step)")
    for name, start in first.metrics.items():
        if name in kept.metrics:
            lines.append(f"{title(name)} {_measured(name, start)} -> {_measured(name, kept.metrics[name])} {where}")
    for name, start in first.retain.items():
        if name in kept.retain:
            lines.append(
                f"{_OLD}: {title(name)} {_measured(name, start)} -> {_measured(name, kept.retain[name])} {where}"
            )
    if report.data_range is not None and any(name.rpartition(" ")[2] in ("psnr", "ssim") for name in first.metrics):
        lines.append(f"data range of the metrics of validation: {report.data_range:g}")
    return lines


def applied_lines(report: ApplyReport) -> list[str]:
    """Returns what came of applying a model: a line per result, but one for all of many files."""
    if report.dtype == "csv":
        return [f"{report.output}: {report.shape[0]} pictures"]
    written = {result.output for result in report.results}
    if len(written) > 1:
        return [f"{report.output}: {len(written)} results"]
    tiles = (
        "" if report.tiles == 1 else f", {report.tiles} tiles each, overlapping by {'x'.join(map(str, report.overlap))}"
    )
    several = len(report.results) > 1
    return [
        f"{report.output}{f' {result.name}' if several else ''}: {'x'.join(map(str, result.shape))} "
        f"{'whole numbers' if result.error else result.dtype}{tiles}"
        for result in report.results
    ]


def title(metric: str) -> str:
    """Returns the name of a metric as people write it."""
    return titled(metric, _TITLES)


def _metrics(values: Mapping[str, Optional[float]]) -> list[str]:
    return [f"{title(name)} {_measured(name, value)}" for name, value in values.items()]


def _measured(name: str, value: Optional[float]) -> str:
    """Returns a metric in words; of all only psnr can be infinite, others lack a number where no target counted."""
    return _number(value) if value is not None or metric_of(name) == "psnr" else "nothing to measure"


def _number(value: Optional[float]) -> str:
    return "infinite" if value is None else f"{value:.4g}"
