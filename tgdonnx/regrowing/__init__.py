"""Rebirth of dropped filters: they get values that can learn, and the network computes what it computes without them.

``reborn``: which filters can be; ``fresh``: what they are given; ``drafting``: tensors in the making; ``probing``: a look into
a running model; ``regrow``: the start of training, and what of it trains.
"""

from tgdonnx.regrowing.rebirth import Rebirth
from tgdonnx.regrowing.regrow import Regrown, regrow
from tgdonnx.selection import KINDS, Kind

__all__ = ["KINDS", "Kind", "Rebirth", "Regrown", "regrow"]
