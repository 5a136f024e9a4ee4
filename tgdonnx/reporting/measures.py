"""How measures are called where people read them. Of several outputs, a measure has the name of its output before it."""

from __future__ import annotations

from collections.abc import Mapping


def titled(measure: str, titles: Mapping[str, str]) -> str:
    """Returns what a measure is called.

    >>> titled("rmse", {"rmse": "RMSE"}), titled("scores dice", {"dice": "Dice"})
    ('RMSE', 'scores Dice')

    Args:
        measure: its name, as in a log.
        titles: for names of metrics how people write them.
    """
    output, space, metric = measure.rpartition(" ")
    return f"{output}{space}{titles.get(metric, metric)}"
