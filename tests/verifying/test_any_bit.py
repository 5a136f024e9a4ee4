"""Any bit that is forged, in any network, is found."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import tgdonnx
from tests.oracles.independent import tensors_of
from tests.support import models
from tests.support.forging import body_of, entry, mask_edited, refused, tune_by_hand
from tests.verifying.cases import is_any_score_near
from tgdonnx.masked_model import read_masked
from tgdonnx.selection import Mode

NETWORKS = (
    "chain",
    "dncnn",
    "residual",
    "dense",
    "grouped",
    "one_d",
    "gated",
    "shared_weights",
    "constant_nodes",
    "ir_3",
)
STRATEGIES = st.one_of(
    st.floats(0.2, 0.7).map(tgdonnx.Phi),
    st.floats(10, 60).map(tgdonnx.Percentile),
    st.integers(1, 2).map(tgdonnx.LastLayers),
    st.integers(1, 2).map(tgdonnx.FirstLayers),
    st.just(tgdonnx.AllLayers()),
    st.builds(tgdonnx.RandomFilters, st.floats(0.1, 0.9), st.integers(0, 5)),
)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    network=st.sampled_from(NETWORKS),
    seed=st.integers(0, 5),
    strategy=STRATEGIES,
    mode=st.sampled_from(["paper", "readers"]),
    draw=st.data(),
)
def test_an_honest_file_passes_and_one_with_any_bit_forged_does_not(
    network: str,
    seed: int,
    strategy: tgdonnx.Strategy,
    mode: Mode,
    draw: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    work = tmp_path_factory.mktemp("bits")
    base = models.save(getattr(models, network)(seed), work / "model.onnx")
    masked, tuned = work / "masked.onnx", work / "tuned.onnx"
    try:
        tgdonnx.mask(base, masked, strategy, tgdonnx.MaskOptions(mode=mode))
    except tgdonnx.errors.SelectionError:
        return  # nothing is selected
    record = tune_by_hand(masked, tuned, seed)
    phi = record["selection"].get("phi", -1.0)
    # A percentile may be one of the scores; a filter so near to phi may be on either side, see `test_scores_near_phi`.
    assume(not is_any_score_near(phi, base))
    for evidence in (None, masked):
        report = tgdonnx.verify(base, tuned, evidence)
        assert (report.ok, report.proof) == (True, "recomputed"), report.violations
    body, read = body_of(tuned.read_bytes(), record), read_masked(masked)
    # A bit of a mask.
    name = draw.draw(st.sampled_from(sorted(read.masks)))
    place = draw.draw(st.integers(0, read.masks[name].size - 1))
    whole = masked.read_bytes()
    mask_edited(masked, lambda mask: mask.reshape(-1).__setitem__(place, 1 - mask.reshape(-1)[place]), name)
    tuned.write_bytes(body)
    assert refused(base, tuned, masked), f"element {place} of the mask of {name!r}"
    masked.write_bytes(whole)
    # A row of the record.
    name = draw.draw(st.sampled_from(sorted(record["trained"])))
    count = int(read.network.filter_index(name).max()) + 1
    row = draw.draw(st.integers(0, count - 1))
    part = record["trained"][name]
    forged = {
        **record,
        "trained": {**record["trained"], name: {**part, "retrain": sorted({row} ^ set(part["retrain"]))}},
    }
    tuned.write_bytes(body + entry(1, forged))
    assert refused(base, tuned), f"row {row} of {name!r}"
    # A bit of a tensor that no mask covers, or of what the masks leave of one.
    tensors = tensors_of(onnx.ModelProto.FromString(body))
    name = draw.draw(st.sampled_from(sorted(n for n, t in tensors.items() if t.raw_data)))
    shape = tuple(tensors[name].dims)
    free = np.broadcast_to(read.masks.get(name, np.zeros((), np.float32)) == 1, shape).reshape(-1)
    held = np.flatnonzero(~free)
    if held.size:
        content = bytearray(tensors[name].raw_data)
        size = len(content) // max(int(np.prod(shape)), 1)
        element = int(held[draw.draw(st.integers(0, held.size - 1))])
        content[element * size + draw.draw(st.integers(0, size - 1))] ^= 1 << draw.draw(st.integers(0, 7))
        assert body.count(tensors[name].raw_data) >= 1
        start = body.index(tensors[name].SerializeToString()) + tensors[name].SerializeToString().index(
            tensors[name].raw_data
        )
        tuned.write_bytes(body[:start] + bytes(content) + body[start + len(content) :] + entry(1, record))
        assert refused(base, tuned), f"element {element} of {name!r}"
