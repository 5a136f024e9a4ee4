"""Masked model -> what ONNX Runtime trains.

``forward``: the graph to train, cut, lowered and checked; ``losses``: nodes at its end, and ``heads``: which outputs get them;
``gates``: at the outputs of layers; ``thin``: the same at the cost of what trains; ``options``: what is chosen; ``build``:
all of it into a directory; ``zipping``: that in one file; ``manifest``: what is in it; ``opened``: that, read once;
``vendor_outputs``: what the vendor's model gives.
"""

from tgdonnx.artifacts.build import BuildReport, build, build_masked
from tgdonnx.artifacts.losses import LOSSES, RANGED_LOSSES, Loss, parse_loss
from tgdonnx.artifacts.manifest import Manifest, TrainedTensor, read_manifest
from tgdonnx.artifacts.new_directory import require_new_directory
from tgdonnx.artifacts.opened import Artifacts, open_artifacts
from tgdonnx.artifacts.options import FORMS, BuildOptions, BuiltOptions, Form
from tgdonnx.artifacts.vendor_outputs import vendor_outputs, vendor_targets
from tgdonnx.engines import GRADIENTS, OPTIMIZERS, GradientKind, OptimizerName

__all__ = [
    "FORMS",
    "GRADIENTS",
    "LOSSES",
    "OPTIMIZERS",
    "RANGED_LOSSES",
    "Artifacts",
    "BuildOptions",
    "BuildReport",
    "BuiltOptions",
    "Form",
    "GradientKind",
    "Loss",
    "Manifest",
    "OptimizerName",
    "TrainedTensor",
    "build",
    "build_masked",
    "open_artifacts",
    "parse_loss",
    "read_manifest",
    "require_new_directory",
    "vendor_outputs",
    "vendor_targets",
]
