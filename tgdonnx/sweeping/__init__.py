"""The drop test, and choosing phi by it (TGD, section 3.2 and supplement; our reading is in `dropping`).

``dropping``: a model with filters set to zero; ``running``: models on unlabelled data; ``change``: how far outputs moved;
``measuring``: that of one selection; ``on_workers``: of several at once, elsewhere; ``sweep``: the test over phi, and the phi
that it recommends.
"""

from tgdonnx.sweeping.change import OutputChange
from tgdonnx.sweeping.on_workers import Placement
from tgdonnx.sweeping.sweep import DEFAULT_PHIS, DEFAULT_SAMPLES, DEFAULT_TOLERANCE, SweepPoint, SweepReport, sweep

__all__ = [
    "DEFAULT_PHIS",
    "DEFAULT_SAMPLES",
    "DEFAULT_TOLERANCE",
    "OutputChange",
    "Placement",
    "SweepPoint",
    "SweepReport",
    "sweep",
]
