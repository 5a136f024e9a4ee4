"""Gates at the outputs of layers, of gradient ``gate``: which filters let gradient pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import MaskedModelError
from tgdonnx.layers import MATRIX_PRODUCTS
from tgdonnx.masked_model import MaskedModel
from tgdonnx.records import encode_mask


def gates_of(model: MaskedModel) -> dict[str, NDArray[np.float32]]:
    """Returns for each layer with trained and with frozen filters the gate at its output.

    A layer in which nothing trains has no gate: gradient passes it whole, or nothing before it could learn.
    """
    gates, network = {}, model.network
    for layer in network.layers:
        if layer.weight is None or layer.weight.name not in model.masks:
            continue
        retrain, kernels = encode_mask(model.masks[layer.weight.name], network, layer.weight.name)
        if kernels is not None:
            raise MaskedModelError(
                f"the masks of {model.file.path} are per kernel, but gradient 'gate' cuts the kernels of frozen filters "
                "off",
                remedy="use gradient 'mask', or mask the model with mode 'paper'",
            )
        if 0 < len(retrain) < layer.filters:
            gate = np.isin(np.arange(layer.filters), retrain).astype(np.float32)
            spatial = 0 if layer.op_type in MATRIX_PRODUCTS else len(layer.weight.read_shape) - 2
            gates[layer.name] = gate.reshape(-1, *(1,) * spatial)
    return gates
