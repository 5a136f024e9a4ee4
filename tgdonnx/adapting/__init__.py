"""Side paths beside layers that stay as they are: ``y = conv(x, W0) + up(down(x))``, where only ``down`` and ``up`` train.

``side_paths``: which layers get one, and of which shape; ``initial_values``: what it starts with; ``widening``: the vendor's
file with side paths in it, byte by byte, and the way back; ``adapt``: all of that, and the retrain masks; ``merging``: a side
path as a change of the weight beside it.
"""

from tgdonnx.adapting.adapt import Adapted, Adapter, adapt, adapt_as_recorded
from tgdonnx.adapting.merging import merge
from tgdonnx.adapting.side_paths import SidePath
from tgdonnx.adapting.widening import narrow

__all__ = ["Adapted", "Adapter", "SidePath", "adapt", "adapt_as_recorded", "merge", "narrow"]
