"""What trained must be finite: 0 times what is not is NaN, so no factor of a gated file would turn it down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from tgdonnx.files.model_file import ModelFile
from tgdonnx.layers import Network, open_network
from tgdonnx.verifying.comparison import Changed


def not_finite(network: Network, after: ModelFile, changed: Iterable[Changed]) -> Iterator[str]:
    """Says which filters have values that are not finite, where those that they started from are.

    Args:
        network: what the tuned file was compared with.
        after: the tuned file, in which nothing but values differs.
        changed: the tensors that do.
    """
    stored = None
    for each in changed:
        old = network.stored_parameters[each.name]
        if not old.dtype.is_floating_point():
            continue
        stored = stored or open_network(after).stored_parameters
        wrong = ~np.isfinite(stored[each.name].numpy()) & np.isfinite(old.numpy())
        owner = np.broadcast_to(network.filter_index(each.name), old.shape)
        for row in np.unique(owner[wrong]):
            yield f"values of filter {row} of {each.name!r} are not finite"
