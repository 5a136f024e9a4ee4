"""Thin artifacts: the same training step, at the cost of what trains.

``parameters``: a tensor becomes the rows that train, which alone are a parameter, and a constant with the others.
``backward``: in the runtime's backward pass, the gradients of weights become those of the rows, and nodes that another node
computes faster are replaced. ``convolution``: the gradients of one Conv, each by the cheapest node for its shape.
"""

from tgdonnx.artifacts.thin.backward import thin_backward
from tgdonnx.artifacts.thin.parameters import ThinParameter, split_parameters

__all__ = ["ThinParameter", "split_parameters", "thin_backward"]
