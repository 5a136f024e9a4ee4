"""What trained must be finite: 0 times what is not is NaN, so no factor of a gated file would turn it down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from onnx import numpy_helper

from tgdonnx.files.model_file import ModelFile
from tgdonnx.files.tensors import walk_tensors
from tgdonnx.layers import Network
from tgdonnx.verifying.comparison import Changed


def not_finite(network: Network, after: ModelFile, changed: Iterable[Changed]) -> Iterator[str]:
    """Says which filters have values that are not finite, where those that they started from are.

    Args:
        network: what the tuned file was compared with.
        after: the tuned file, in which nothing but values differs.
        changed: the tensors that do.
    """
    stored = {tensor.path: tensor.proto for tensor in walk_tensors(after.proto)}
    for each in changed:
        old = network.stored_parameters[each.name]
        if not old.dtype.is_floating_point():
            continue
        new = numpy_helper.to_array(stored[old.path], str(after.path.parent))
        wrong = ~np.isfinite(new) & np.isfinite(old.numpy())
        owner = np.broadcast_to(network.filter_index(each.name), old.shape)
        for row in np.unique(owner[wrong]):
            yield f"values of filter {row} of {each.name!r} are not finite"
