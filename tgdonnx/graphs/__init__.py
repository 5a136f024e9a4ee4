"""One reading of ONNX, for every room above.

``operators``: facts about operators; ``nodes``: what a node says, attributes with their defaults and inputs; ``captured``: what
the graphs inside a node read from outside; ``paths``: which nodes a gradient passes; ``constants``: tensors whose values are
known before the model runs; ``builder``: writing nodes.
"""
