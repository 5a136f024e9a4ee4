"""The gate on a tuned file: what it keeps of the old task, and what it does for the new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from network import Network, Place
from tuning import opened

import tgdonnx
from tgdonnx.errors import DataError

ACCEPTED = (0.95, 1.0)
"""Shares of the training inputs that a detector is to accept: the default, and all."""


def gate(network: Network, tuned: Path, accept: float, work: Path) -> dict[str, Any]:
    """Gates a tuned file by a detector, proves it, and judges it on test data, input by input.

    Args:
        network: the vendor's.
        tuned: the tuned file.
        accept: the share of the training inputs that the detector is to accept.
        work: where the gated file goes.

    Returns:
        ``refused``: why the detector cannot tell new from old. Or ``form``, ``layer``, and for the ``new`` and the ``old`` task
        the ``score``, and the share of inputs that go to the ``right`` side; of old ones also the share that is answered
        ``exactly`` as by the vendor's file, bit for bit, and how ``far`` from it what goes to its side is at most.
    """
    both = work / "both.onnx"
    name = network.input_name
    data = tgdonnx.GateData(
        {name: network.gate_inputs()},
        {name: network.held_out["new validation"].inputs},
        {name: network.held_out["old validation"].inputs},
        accept=accept,
    )
    try:
        report = tgdonnx.gate(network.model, tuned, both, data=data, detector_outputs=True, overwrite=True)
    except DataError as error:  # which is a result
        return {"refused": str(error)}
    proof = tgdonnx.verify(network.model, both)
    assert proof.ok, proof.violations
    session, vendor = opened(both), opened(network.model)
    output = vendor.get_outputs()[0].name
    found: dict[str, Any] = {"form": report.form, "layer": report.layer}
    judged: tuple[tuple[str, Place], ...] = (("new", "new test"), ("old", "old test"))
    for kind, place in judged:
        given, is_new, equal, far = [], [], [], 0.0
        for x in network.held_out[place].inputs:
            y, said = session.run([output, "gate_is_new"], {name: x[None]})
            given.append(y)
            is_new.append(bool(said.all()))
            if kind == "old" and not is_new[-1]:
                (own,) = vendor.run([output], {name: x[None]})
                equal.append(np.array_equal(y, own))
                far = max(far, float(np.abs(y - own).max()))
        found[kind] = {
            "score": network.quality(np.concatenate(given), place).score,
            "right": float(np.mean([each == (kind == "new") for each in is_new])),
        }
        if kind == "old":
            found[kind].update(exactly=sum(equal) / len(is_new), far=far)
    return found
