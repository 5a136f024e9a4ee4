"""Boxplots over cases, the vendor's file beside the tuned one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tgdonnx.reporting.figures import BLUE, GREY, one_plot

Floats = NDArray[np.float64]
_MOST_POINTS = 60


def boxplot(name: str, pairs: Sequence[tuple[str, Floats, Floats]]) -> str:
    """Draws boxes of quartiles with whiskers to the last case within 1.5 of their distance, as SVG.

    Args:
        name: of the figure, unique in its page.
        pairs: labels of ours, or none, with the values of the vendor's file (grey) and of the tuned one (blue).
    """
    labelled = len(pairs) > 1 or pairs[0][0]
    ticks: dict[float, str] = {number: label for number, (label, _, _) in enumerate(pairs)} if labelled else {}
    if not labelled:
        ticks = {-0.2: "vendor's", 0.2: "tuned"}
    with one_plot(name, ticks=ticks) as (axes, drawn):
        for offset, colour, place in ((-0.2, GREY, 1), (0.2, BLUE, 2)):
            values = [np.asarray(pair[place]) for pair in pairs]
            at = [number + offset for number in range(len(pairs))]
            few = max(map(len, values)) <= _MOST_POINTS
            line = {"color": colour, "linewidth": 1.3}
            axes.boxplot(
                values,
                positions=at,
                widths=0.3,
                showfliers=not few,
                boxprops=line,
                whiskerprops=line,
                capprops=line,
                medianprops={**line, "linewidth": 2.4},
                flierprops={"marker": ".", "markeredgecolor": colour, "markersize": 4},
            )
            for x, each in zip(at, values if few else ()):
                # Cases side by side, so that equal ones are seen; the same in every page.
                spread = np.linspace(-0.1, 0.1, len(each)) if len(each) > 1 else np.zeros(1)
                axes.plot(x + spread, each, ".", color=colour, markersize=4, alpha=0.6)
        axes.set_xlim(-0.6, len(pairs) - 0.4)
    return drawn[0]
