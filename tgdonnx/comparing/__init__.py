"""Several selections at equal budget, on the user's own new and old data.

``candidates``: the selections by name; ``recommending``: what ``tgd`` stands for; ``plan``: what is held equal; ``record``:
what is written down; ``preparing``: artifacts, and a look at the data; ``running``: one selection, trained or gone on with;
``on_workers``: several of them at once, elsewhere; ``trials``: what is tried, how often and where; ``spreads``: what runs by
several seeds came to; ``choosing``: which to take under a limit on the loss of the old task; ``outcome``: what all came to;
``comparison``: all of it.
"""

from tgdonnx.comparing.candidates import DEFAULT_SELECTIONS, REGULARISERS, SELECTIONS, Candidate, parse_candidates
from tgdonnx.comparing.choosing import Entry, Point, best_point, choose, curve_of
from tgdonnx.comparing.comparison import compare
from tgdonnx.comparing.report import CompareReport
from tgdonnx.comparing.spreads import Measured, Spread
from tgdonnx.comparing.trials import Trials

__all__ = [
    "DEFAULT_SELECTIONS",
    "REGULARISERS",
    "SELECTIONS",
    "Candidate",
    "CompareReport",
    "Entry",
    "Measured",
    "Point",
    "Spread",
    "Trials",
    "best_point",
    "choose",
    "compare",
    "curve_of",
    "parse_candidates",
]
