"""Figures of matplotlib as SVG inside a page: real text in the page's font, colours that follow its light or dark scheme.

Figures hold no text that comes from files: legends and captions are the page's own, where they are escaped.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Optional

from tgdonnx.reporting.drawing import load_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# As in `plots`: Okabe and Ito. The page names them, and has brighter ones for its dark scheme.
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
GREY, GRID = "#666666", "#dddddd"
_VARIABLES = {BLUE: "blue", ORANGE: "orange", GREEN: "green", RED: "red", GREY: "muted", GRID: "grid"}
_SIZE = (5.2, 2.9)  # inches of 72 units: about the width of a telephone, so that text stays readable there
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 10.0,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "text.color": GREY,
    "path.simplify": True,
}


def require_matplotlib() -> None:
    """Checks that figures can be drawn.

    Raises:
        RuntimeMissingError: matplotlib is not installed.
    """
    load_matplotlib()


@contextmanager
def one_plot(
    name: str, *, whole: bool = True, ticks: Optional[Mapping[float, str]] = None
) -> Iterator[tuple[Axes, list[str]]]:
    """Gives axes to draw on, and a list that holds the SVG when the block is over.

    Args:
        name: of the figure, unique in its page: what is defined in it is named after it.
        whole: whether the horizontal axis counts, so that only whole numbers stand there.
        ticks: what stands along the horizontal axis instead of numbers, by place: words of ours.
    """
    matplotlib = load_matplotlib()
    drawn: list[str] = []
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure: Figure = matplotlib.figure.Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots()
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.02)
        yield axes, drawn
        axes.yaxis.set_major_formatter(_plain)
        if ticks is None:
            axes.xaxis.set_major_formatter(_whole if whole else _plain)
        else:
            axes.set_xticks(list(ticks), list(ticks.values()))
        drawn.append(_inline(figure, name))


def _plain(value: float, _: Any = None) -> str:
    return f"{value:.4g}"


def _whole(value: float, _: Any = None) -> str:
    return f"{value:,.0f}" if value == int(value) else ""


def _inline(figure: Figure, name: str) -> str:
    content = io.StringIO()
    figure.savefig(content, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = content.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", r'<svg \1 aria-hidden="true" focusable="false">', svg, count=1
    )
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", svg)
    # Coordinates, that is, what stands in tags; never numbers that are read.
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d+\.\d\d)\d+", r"\1", tag[0]), svg)
    referenced = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in referenced else "", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return re.sub(r"\s*\n\s*", "\n", svg)
