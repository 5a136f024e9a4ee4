"""Models applied to whole images, volumes and stacks.

``receptive_field``, ``reach``, ``nodes``, ``rules``, ``windows``: which part of an image an output depends on, from the graph;
``tiles``: where to cut; ``reading``: how data is read and scaled; ``network``: the model in the runtime; ``assembling``: the
result from its tiles; ``imagefiles``: files for it; ``classifying``: a table in place of an image; ``deciding``: which network
of a gated file answers; ``application``: the whole.
"""

from tgdonnx.applying.application import ApplyReport, apply, require_applicable
from tgdonnx.applying.imagefiles import suffix_of

__all__ = ["ApplyReport", "apply", "require_applicable", "suffix_of"]
