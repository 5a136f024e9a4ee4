"""Reinitialisation of dropped filters: they get values that can learn, and the network computes what it computes without them.

``reinitializable``: which filters can be; ``initial_values``: what they are given; ``calibration``: these, adjusted on images;
``tensor_edits``: how tensors change; ``activations``: what is measured of a running model; ``regrow``: the start of training,
and what of it trains; ``expected_start``: what of that follows from the vendor's file, to check a record; ``readers``: the
kernels that read reinitialised maps.
"""

from tgdonnx.regrowing.regrow import Regrown, regrow
from tgdonnx.regrowing.reinitialization import Reinitialization
from tgdonnx.selection import KINDS, Kind

__all__ = ["KINDS", "Kind", "Regrown", "Reinitialization", "regrow"]
