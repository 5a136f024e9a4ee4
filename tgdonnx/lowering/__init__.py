"""The same function with operators that the training runtime differentiates, and with the original parameters.

One module per operator family, each an ``onnx_ir`` pass; `lower` runs them all.
"""

import onnx_ir as ir

from tgdonnx.lowering.batch_norm import LowerBatchNormalization
from tgdonnx.lowering.dropout import LowerDropout

__all__ = ["LowerBatchNormalization", "LowerDropout", "lower"]


def lower(model: ir.Model) -> None:
    """Lowers the main graph of ``model``, in place.

    Raises:
        UntrainableError: a node cannot be lowered; the message names it.
    """
    for lowering in (LowerDropout(), LowerBatchNormalization()):
        lowering(model)
