"""Where a number g turns side paths down: the maps in between are multiplied by it.

    y = conv(x, W0) + up(g down(x))        the second layer has no bias, so at g = 0 the side path adds 0, if down(x) is finite

Not what a side path gives is multiplied, but what its second layer reads: these are few maps, and runtimes can still compute
that layer and the sum in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

from tgdonnx.adapting.side_paths import prefix_of
from tgdonnx.gated_model.maps import FLOATS, Multiplied
from tgdonnx.layers import Network


def multiplied_paths(tuned: Network, rounds: Sequence[int]) -> Union[tuple[Multiplied, ...], str]:
    """Returns where side paths are multiplied.

    Args:
        tuned: the tuned network.
        rounds: those that added side paths; the file is proved to have them.

    Returns:
        The places, or the reason why they cannot be had.
    """
    prefixes = tuple(map(prefix_of, rounds))
    places = {str(node.name): index for index, node in enumerate(tuned.file.proto.graph.node)}
    found = []
    for layer in tuned.layers:
        value, weight = layer.node.inputs[0], layer.weight
        if weight is None or value is None or not (weight.name.startswith(prefixes) and weight.name.endswith(".up")):
            continue
        shape = tuned.sizes.shapes.get(value)
        dtype = weight.numpy().dtype
        if shape is None or len(shape) < 2 or dtype not in FLOATS:
            return f"the maps of the side path {weight.name!r} are not known well enough"
        found.append(Multiplied(places[layer.name], 0, str(value.name), None, 1, len(shape), dtype))
    return tuple(found)
