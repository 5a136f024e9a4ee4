"""The template of a page: what it prints is made legible, and how it writes numbers."""

from __future__ import annotations

import importlib
import math
from typing import Any, Optional

from tgdonnx.calls import in_words_of_reader
from tgdonnx.errors import RuntimeMissingError
from tgdonnx.reporting.legible import message


def environment() -> Any:
    """Returns the templates, as jinja2 has them.

    Raises:
        RuntimeMissingError: jinja2 is not installed.
    """
    try:
        jinja2 = importlib.import_module("jinja2")
    except ImportError as error:
        raise RuntimeMissingError(f"a report needs jinja2 ({error})", remedy="pip install 'tgdonnx[report]'") from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tgdonnx.reporting"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(score=_score, signed=_signed)
    environment.filters.update(said=in_words_of_reader, number=_number, short=_short, aligned=_aligned, size=_size)
    return environment


def _shown(value: Any) -> Any:
    # Whatever a template prints passes here before it is escaped. What is marked as safe there was drawn by us, of numbers.
    return message(value) if type(value) is str else value


def _number(value: Optional[float]) -> str:
    return "—" if value is None else f"{value:.6g}"


def _score(value: float) -> str:
    """Returns a measure of a model: NaN where there was nothing to measure."""
    return "—" if math.isnan(value) else "infinite" if math.isinf(value) else f"{value:.4g}"


def _signed(change: float) -> str:
    return f"{change:+.3g}" if math.isfinite(change) else "—"


def _short(value: Optional[float]) -> str:
    return "—" if value is None else f"{value:.4g}"


def _aligned(value: Optional[float]) -> str:
    return "—" if value is None else f"{value:#.6g}"


def _size(size: Optional[int]) -> str:
    return "—" if size is None else f"{size:,} bytes"
