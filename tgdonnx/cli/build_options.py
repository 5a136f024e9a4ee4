"""Options that say what training minimises, and how gradients are treated: the fields of `BuildOptions`."""

from __future__ import annotations

import click

from tgdonnx.artifacts import FORMS, GRADIENTS, LOSSES, OPTIMIZERS, RANGED_LOSSES, BuildOptions
from tgdonnx.cli.class_weights import with_weights
from tgdonnx.cli.collecting import collected
from tgdonnx.cli.helping import MODEL, TRAINING, UPDATES, options_of
from tgdonnx.engines import ENGINES

_DEFAULT = BuildOptions()
_option = options_of(UPDATES)

engine_option = options_of(TRAINING)(
    "--engine",
    type=click.Choice(list(ENGINES)),
    default=_DEFAULT.engine,
    show_default=True,
    help="What trains: onnxruntime: plain ONNX models, on any ONNX Runtime; onnxruntime-training: its on-device training API.",
)

build_options = collected(
    "building",
    BuildOptions,
    _option(
        "--loss",
        metavar="LOSS",
        default=_DEFAULT.loss,
        show_default=True,
        callback=with_weights,
        help=f"{', '.join(LOSSES)}, or a weighted sum such as 0.8*l1+0.2*ssim. Parameters stand in brackets, as in "
        "ce(ignore=255) or ce(class_weights=FILE); of several outputs: 'boxes: l1, scores: 2*bce'. See the guide runs.",
    ),
    _option(
        "--data-range",
        type=float,
        default=_DEFAULT.data_range,
        show_default=True,
        help=f"Largest minus least value of the data, for the losses {' and '.join(RANGED_LOSSES)}.",
    ),
    _option(
        "--optimizer",
        type=click.Choice(OPTIMIZERS),
        default=_DEFAULT.optimizer,
        show_default=True,
        help="What moves the weights by their gradients.",
    ),
    _option(
        "--momentum",
        type=float,
        default=_DEFAULT.momentum,
        show_default=True,
        help="Of sgd, less than 1; the engine onnxruntime has it alone.",
    ),
    _option(
        "--l2",
        "--weight-decay",
        type=float,
        default=_DEFAULT.l2,
        show_default=True,
        help="Added to the gradient of W: L2 * W, as the weight decay of PyTorch's SGD and Adam is; AdamW's would move frozen "
        "filters, too. To stay near the vendor's values: --l2-sp.",
    ),
    _option(
        "--l2-sp",
        type=float,
        default=_DEFAULT.l2_sp,
        show_default=True,
        help="Added to the gradient of what trains: L2_SP * (W - W0), W0 where it starts: the vendor's "
        "values, but for what was reinitialised.",
    ),
    _option("--clip-norm", type=float, help="Largest norm of all gradients together."),
    _option(
        "--form",
        type=click.Choice(FORMS),
        help="masked (default of build): gradients are computed whole and multiplied; thin (default elsewhere): the same "
        "results, only what trains (filters, and kernels that read them) is computed.",
    ),
    _option(
        "--gradient",
        type=click.Choice(GRADIENTS),
        default=_DEFAULT.gradient,
        show_default=True,
        help="mask: the true gradient, masked; gate: none flows through frozen filters (unstable; for fidelity).",
    ),
    options_of(MODEL)(
        "--output",
        "output_name",
        metavar="NAME",
        help="Output to train on, when the model has several, and --loss names none.",
    ),
    engine_option,
    called={"output": "output_name"},
)
"""The command gets ``building``, a `BuildOptions`."""
