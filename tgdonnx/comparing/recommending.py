"""What ``tgd`` stands for in a comparison: the phi of the drop test, or a percentile where that recommends none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from tgdonnx.data import DataOptions, DataSource
from tgdonnx.errors import SelectionError
from tgdonnx.files.model_file import ModelFile
from tgdonnx.layers import open_network
from tgdonnx.selection import Percentile, Phi, select
from tgdonnx.sweeping import sweep
from tgdonnx.tracing import trace_network

FALLBACK_PERCENTILES = (10.0, 20.0, 30.0, 50.0)  # the first that selects anything


@dataclass(frozen=True)
class Recommended:
    """What ``tgd`` stands for.

    Attributes:
        strategy: the recommended phi, or a percentile where none is.
        note: why it is a percentile; empty if it is not.
    """

    strategy: Phi | Percentile
    note: str


def recommend(
    model: ModelFile,
    data: DataSource,
    *,
    tolerance: float,
    output: Optional[str],
    reading: DataOptions,
    device: str,
) -> Recommended:
    """Runs the drop test; where it recommends no phi, ``tgd`` is a percentile, with the reason.

    Raises:
        DataError: the data does not fit.
        ModelFileError: no usable model.
        SelectionError: no percentile selects anything either.
    """
    try:
        report = sweep(model, data, tolerance=tolerance, output=output, reading=reading, device=device)
        return Recommended(report.strategy(), "")
    except SelectionError as error:
        reason = error
    provenance = trace_network(open_network(model))
    for percentile in FALLBACK_PERCENTILES:
        try:
            select(provenance, Percentile(percentile))
        except SelectionError:
            continue
        note = f"the drop test recommends no phi, so tgd takes the lowest {percentile:g} % of the scores ({reason})"
        return Recommended(Percentile(percentile), note)
    raise reason
