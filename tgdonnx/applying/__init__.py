"""Models applied to whole images, volumes and stacks.

``receptive_field``, ``reach``, ``node_view``, ``rules``, ``windows``: which part of an image an output depends on, from the
graph; ``tiles``: where to cut; ``network``: the model in the runtime; ``orienting``: images without samples or channels.

``collecting``: where data may lie; ``preparing``: how it is scaled and made ready; ``naming``: what classes are called;
``cases``: data matched to the model; ``feeding``: what the model is fed of it; ``options``: how it is applied.

``forms``: what outputs are; ``planning``: by which tiles they are computed; ``passes``: runs of the model, for all outputs at
once; ``assembling``: a result from them; ``deciding``: which network of a gated file answers; ``application``: all of that
together; ``classifying``: a table in place of images.

``placing``: where results go; ``unused``: options that do nothing there; ``imagefiles``, ``picturefiles``, ``dicomfiles``:
their files; ``writing``: results in them; ``telling``: what is said of that; ``running``: the whole, with ``reports``.
"""

from tgdonnx.applying.collecting import Applied
from tgdonnx.applying.forms import FORMS, Form
from tgdonnx.applying.options import ApplyOptions
from tgdonnx.applying.reports import ApplyProgress, ApplyReport, Result
from tgdonnx.applying.running import apply, require_applicable

__all__ = [
    "FORMS",
    "Applied",
    "ApplyOptions",
    "ApplyProgress",
    "ApplyReport",
    "Form",
    "Result",
    "apply",
    "require_applicable",
]
