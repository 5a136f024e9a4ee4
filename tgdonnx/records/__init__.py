"""Records of training in a model: the metadata ``tgdonnx.provenance.N``, one per round, which export adds.

Each is a JSON object as `RoundRecord` has it, in the spelling of `json.dumps`: of format 1; of format 2 if it has ``blend``; of
format 3 if it has ``classes``; of format 4 if it has ``preparation``, how data was scaled and pictures were made ready; of
format 5 if it has ``federation``, the rounds and sites of federated training.
``base_sha256`` is the hash of the file that the round started from, and ``trained`` names the tensors that trained, with
``retrain`` and ``kernels`` as `encode_mask` gives them. A round of mode ``regrow`` has two more:

- ``reborn`` names, likewise, tensors that did not train, though their masks let them, but have other values than the vendor's.
- ``set`` names tensors with elements that were given a value and kept it: ``mask`` as `pack_mask` gives it, and ``values``,
  those elements in row-major order, little-endian, of the stored type, compressed by zlib, in base 64.

A round of mode ``adapter`` names in ``trained`` the tensors of its side paths; where they are merged (``merged``: true) the
weights that they are merged into; and with a blend of 0, at which nothing is added, none.

N counts on from the largest number that the vendor's file has, if it has metadata of that name. A record is a claim of whoever
wrote it: `tgdonnx.verifying.recomputing` holds it against the vendor's file.
"""

from tgdonnx.records.encoding import (
    SetElements,
    decode_mask,
    encode_mask,
    encode_set,
    pack_mask,
)
from tgdonnx.records.record import (
    Record,
    Training,
    earlier_rounds,
    last_export,
    last_training,
    read_record,
    record_key,
    round_of,
    side_paths_of,
    trained_before,
    union,
)
from tgdonnx.records.round_record import (
    BLENDED,
    FEDERATED,
    NAMED,
    PREPARED,
    WHOLE,
    FederationPart,
    PreparationPart,
    ScalingPart,
    SitePart,
    format_of,
)

__all__ = [
    "BLENDED",
    "FEDERATED",
    "NAMED",
    "PREPARED",
    "WHOLE",
    "FederationPart",
    "PreparationPart",
    "Record",
    "ScalingPart",
    "SetElements",
    "SitePart",
    "Training",
    "decode_mask",
    "earlier_rounds",
    "encode_mask",
    "encode_set",
    "format_of",
    "last_export",
    "last_training",
    "pack_mask",
    "read_record",
    "record_key",
    "round_of",
    "side_paths_of",
    "trained_before",
    "union",
]
