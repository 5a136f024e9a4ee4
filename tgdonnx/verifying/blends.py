"""What a recorded blend says of a tuned file, where that can be seen: at 0.

At 0 a round has changed nothing, or, in mode ``regrow``, what reads reinitialised maps is 0, unless a later round trained it.
Between 0 and 1 the blend is the record's own word: what the numbers came to before is not in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tgdonnx.files.model_file import ModelFile
from tgdonnx.layers import open_network
from tgdonnx.regrowing.readers import reading_kernels
from tgdonnx.selection.recorded import reinitialization_of
from tgdonnx.tracing.provenance import Provenance
from tgdonnx.verifying.claims import Claim


def heard_at_zero(claims: Sequence[Claim], provenances: Sequence[Provenance], tuned: ModelFile) -> Iterator[str]:
    """Says which weights read reinitialised maps although a round of mode ``regrow`` is recorded with a blend of 0.

    Args:
        claims: what the records say, in the order of the rounds; their selections can be carried out.
        provenances: for each the network that it is about, traced.
        tuned: the tuned file.
    """
    later: dict[str, NDArray[np.bool_]] = {}
    stored = None
    for claim, provenance in reversed([*zip(claims, provenances)]):
        told = reinitialization_of(claim.selection)
        if told is not None and claim.blend == 0:
            stored = stored or open_network(tuned).stored_parameters
            for name, reads in reading_kernels(provenance, told.rows).items():
                parameter = stored[name]
                values = parameter.numpy() if parameter.quantization is None else parameter.dequantized()
                heard = reads & (values != 0) & ~later.get(name, np.zeros((), bool))
                if heard.any():
                    yield (
                        f"round {claim.number}: {np.count_nonzero(heard)} numbers of {name!r} read reinitialised maps, but "
                        "the record says that it is blended at 0"
                    )
        _add(later, claim.masks)


def _add(trained: dict[str, NDArray[np.bool_]], masks: Mapping[str, NDArray[np.float32]]) -> None:
    for name, mask in masks.items():
        trained[name] = trained.get(name, np.zeros((), bool)) | (mask == 1)
