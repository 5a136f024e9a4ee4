"""Our own gradient: from a graph with a loss to a graph with the gradients, in standard ONNX operators.

``differentiate``: the way back through a graph; ``rules``: one module per operator family; ``demand``: what of a gradient is
wanted; ``builder``, ``shapes``: writing nodes.
"""

from tgdonnx.gradients.differentiate import differentiate
from tgdonnx.gradients.rule import RULES, Rules

__all__ = ["RULES", "Rules", "differentiate"]
