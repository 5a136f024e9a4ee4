"""Which samples are the same: by the values of their inputs before scaling, whatever their files and targets are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from tgdonnx.data.lazy_arrays import whole
from tgdonnx.data.matching import SampleSet
from tgdonnx.graphs.tensor_specs import TensorSpec, count_inputs


def hashes_of_samples(sets: Sequence[SampleSet], inputs: Sequence[TensorSpec]) -> Iterator[bytes]:
    """Yields a hash of every sample, of shapes, dtypes and values of its inputs.

    Raises:
        DataError: a file cannot be read, or a value is not finite.
    """
    count = count_inputs(inputs)
    for sample_set in sets:
        for index in range(sample_set.count):
            digest = hashlib.sha256()
            for spec, view in zip(inputs[:count], sample_set.views):
                stored = view.stored
                values = view.read(index, spec.name) if view.counts_samples else stored.read(whole(stored.shape))
                digest.update(f"{values.dtype} {values.shape}".encode())
                digest.update(np.ascontiguousarray(values).tobytes())
            yield digest.digest()
