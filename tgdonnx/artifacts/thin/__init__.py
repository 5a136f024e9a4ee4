"""Thin artifacts: the same training step, at the cost of what trains.

``cuts``: which rows and columns of a tensor a mask lets train. ``pieces``: a tensor in pieces. ``parameters``: the pieces that
train, which alone are parameters, and what is computed of them before they are put together with the rest.
"""

from tgdonnx.artifacts.thin.parameters import ThinParameter, split_parameters

__all__ = ["ThinParameter", "split_parameters"]
