"""Results as they show themselves: at a prompt a field per line, long values by their size; in a notebook as a table.

Both are made of the fields alone, for any result alike; ``result.field`` gives a value whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from html import escape
from numbers import Number
from typing import Any, Optional

import numpy as np

_LINE, _WORD, _FEW, _ROWS = 100, 60, 6, 50
_WIDTH, _HEIGHT = 240, 40
_CELL = "text-align:left;vertical-align:top"


class Presented:
    """A dataclass that shows itself in short; it takes ``repr=False``, so that its own representation is this one."""

    def __repr__(self) -> str:
        parts = [f"{name}={short(value)}" for name, value in _fields_of(self)]
        line = f"{type(self).__name__}({', '.join(parts)})"
        if len(line) <= _LINE:
            return line
        return "\n".join((f"{type(self).__name__}(", *(f"  {part}," for part in parts), ")"))

    def _repr_html_(self) -> str:
        return f"<b>{type(self).__name__}</b>{_table_of(self)}"


def short(value: object) -> str:
    """Returns a value in at most a line, as Python writes it where that is short, else by its size or with less in it.

    >>> short((0.5, 0.25, 0.125, 0.1, 0.05, 0.02, 0.01))
    '(0.5, ..., 0.01; 7 values)'
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return repr(value if len(value) <= _WORD else f"{value[: _WORD - 3]}...")
    if isinstance(value, np.ndarray):
        return f"<{value.dtype} {list(value.shape)}>"
    if is_dataclass(value):
        inside = [f"{name}={short(each)}" for name, each in _fields_of(value) if not _goes_without_saying(value, name)]
        return _filled(f"{type(value).__name__}(", inside, ")")
    if isinstance(value, Mapping):
        return _filled("{", [f"{short(key)}: {short(each)}" for key, each in value.items()], "}")
    if isinstance(value, (tuple, list)):
        return _short_of_several(value)
    written = repr(value)
    return written if len(written) <= _WORD else f"<{type(value).__name__}>"


def _short_of_several(values: Sequence[Any]) -> str:
    if len(values) > _FEW and all(isinstance(each, Number) for each in values):
        return f"({short(values[0])}, ..., {short(values[-1])}; {len(values)} values)"
    written = ", ".join(map(short, values[:_FEW]))
    if len(values) <= _FEW and len(written) <= _WORD:
        return f"({written}{',' if len(values) == 1 else ''})"
    kinds = {type(each).__name__ for each in values}
    return f"<{len(values)} {kinds.pop() if len(kinds) == 1 else 'values'}>"


def _filled(start: str, parts: Sequence[str], end: str) -> str:
    """Returns as many parts as a line takes; those that are long give way to those behind them."""
    kept, room = [], _LINE - len(start) - len(end) - len(", ...")
    for part in parts:
        if len(part) + 2 <= room:
            kept.append(part)
            room -= len(part) + 2
    if len(kept) < len(parts):
        kept.append("...")
    return f"{start}{', '.join(kept)}{end}"


def _fields_of(value: Any) -> list[tuple[str, Any]]:
    return [(field.name, getattr(value, field.name)) for field in fields(value) if field.repr]


def _goes_without_saying(value: Any, name: str) -> bool:
    """Whether a field of something inside a result is empty, or as it is by default."""
    (default,) = (field.default for field in fields(value) if field.name == name)
    held = getattr(value, name)
    return _empty(held) or (isinstance(held, (str, int, float)) and bool(held == default))


def _empty(value: object) -> bool:
    return value is None or (isinstance(value, (str, tuple, list, Mapping)) and not value)


def _table_of(value: Any) -> str:
    rows = (_row(f'<th style="{_CELL}">{_text(name)}</th>', [_cell(each)]) for name, each in _fields_of(value))
    return f"<table>{''.join(rows)}</table>"


def _row(head: str, cells: Sequence[str]) -> str:
    inside = (f'<td style="{_CELL}">{cell}</td>' for cell in cells)
    return f"<tr>{head}{''.join(inside)}</tr>"


def _cell(value: object) -> str:
    if _empty(value):
        return "none"
    if isinstance(value, (tuple, list)):
        if all(is_dataclass(each) for each in value):
            return _folded(short(value), _columns_of(value), opened=len(value) <= _FEW)
        if all(isinstance(each, str) for each in value):
            return "<br>".join(map(_text, value[:_ROWS])) + _more(len(value))
        return _text(short(value)) + (_curve(value) or "")
    if isinstance(value, Mapping):
        pairs = "".join(_row("", (_text(str(key)), _cell(each))) for key, each in value.items())
        return _folded(short(value), f"<table>{pairs}</table>")
    if is_dataclass(value):
        return _folded(short(value), _table_of(value))
    return _text(value if isinstance(value, str) else short(value))


def _columns_of(values: Sequence[Any]) -> str:
    """Returns a table with a row for each of several values of one kind; a column in which all is empty is left out."""
    known = [
        {name: each if isinstance(each, str) else short(each) for name, each in _fields_of(value) if not _empty(each)}
        for value in values[:_ROWS]
    ]
    names = list(dict.fromkeys(name for each in known for name in each))
    head = "".join(f'<th style="{_CELL}">{_text(name)}</th>' for name in names)
    rows = (_row("", [_text(each.get(name, "")) for name in names]) for each in known)
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>{_more(len(values))}"


def _curve(values: Sequence[Any]) -> Optional[str]:
    """Returns numbers as a line; None where they are few, or no numbers."""
    numbers = [float(each) for each in values if isinstance(each, (int, float)) and math.isfinite(each)]
    if len(numbers) <= _FEW or len(numbers) < len(values):
        return None
    low, high = min(numbers), max(numbers)
    chosen = [numbers[int(place)] for place in np.linspace(0, len(numbers) - 1, min(len(numbers), _WIDTH))]
    points = " ".join(
        f"{place * _WIDTH / (len(chosen) - 1):.1f},{_HEIGHT - (each - low) / (high - low or 1) * _HEIGHT:.1f}"
        for place, each in enumerate(chosen)
    )
    return (
        f'<br><svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="-1 -1 {_WIDTH + 2} {_HEIGHT + 2}" role="img" '
        f'aria-label="from {numbers[0]:.6g} to {numbers[-1]:.6g}">'
        f'<polyline points="{points}" fill="none" stroke="currentColor"/></svg>'
    )


def _folded(summary: str, content: str, *, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}><summary>{_text(summary)}</summary>{content}</details>"


def _more(count: int) -> str:
    return f"<div>and {count - _ROWS:,} more</div>" if count > _ROWS else ""


def _text(text: str) -> str:
    """Returns text of strangers for a page: nothing in it is markup, and what cannot be seen is written out."""
    return escape("".join(each if each.isprintable() else ascii(each)[1:-1] for each in text))
