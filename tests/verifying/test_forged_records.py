"""Records that vouch for more than the vendor's file allows are found, and told by name."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.oracles.independent import tensors_of
from tests.support import models
from tests.support.forging import entry, nudged, refused, tune_by_hand
from tests.verifying.cases import PHI, Case, Forgery, frozen, with_tensor
from tgdonnx.files import wire
from tgdonnx.layers import open_network
from tgdonnx.records import pack_mask


def with_frozen_filter(case: Case, name: str = "w2") -> None:
    row = frozen(case, name)
    case.record["trained"][name]["retrain"] = sorted([*case.record["trained"][name]["retrain"], row])
    case.body = nudged(case.body, name, row)


def update(**changes: Any) -> Forgery:
    return lambda case: case.record.update(changes)


def in_selection(**changes: Any) -> Forgery:
    return lambda case: case.record["selection"].update(changes)


def part(name: str, **changes: Any) -> Forgery:
    return lambda case: case.record["trained"][name].update(changes)


def with_kernel(case: Case) -> None:
    network = open_network(case.base)
    mask = np.zeros((*network.stored_parameters["w2"].shape[:2], 1, 1), np.float32)
    mask[case.record["trained"]["w2"]["retrain"]] = 1
    mask[frozen(case, "w2"), 0] = 1
    case.record["trained"]["w2"]["kernels"] = pack_mask(mask)


def hidden(case: Case) -> None:
    network = open_network(case.base)
    mask = np.zeros((network.stored_parameters["w2"].shape[0], 1, 1, 1), np.float32)
    mask[case.record["trained"]["w2"]["retrain"]] = 1
    shape, _, bits = pack_mask(mask).partition(":")
    content = base64.b64encode(base64.b64decode(bits) + b"a message").decode()
    case.record["trained"]["w2"]["kernels"] = f"{shape}:{content}"


def set_element(name: str, row: int) -> Forgery:
    def forge(case: Case) -> None:
        values = numpy_helper.to_array(tensors_of(onnx.load(case.base))[name])
        mask = np.zeros(values.shape, np.float32)
        mask[row] = 1
        content = base64.b64encode(zlib.compress((values[row] + 1).astype("<f4").tobytes())).decode()
        case.record["set"] = {name: {"mask": pack_mask(mask), "values": content}}
        case.body = nudged(case.body, name, row)

    return forge


def regrown(case: Case) -> None:
    none = {"rebirth": "he", "isolate": False, "seed": 0, "reborn": 0, "rows": {}, "samples": None, "change": 0.0}
    case.record["selection"].update(mode="regrow", **none)


SITE = {"name": "north", "samples": 12, "rounds": 3}
FEDERATION = {"rounds": 3, "sites": [SITE]}


def federated(**changes: Any) -> Forgery:
    return update(format=5, federation={**FEDERATION, **changes})


FORGED: dict[str, tuple[Forgery, str]] = {
    "a frozen filter": (with_frozen_filter, "filter 0 of 'w2' is said to train, but is frozen by phi 0.3"),
    "a frozen filter of the first layer": (lambda c: with_frozen_filter(c, "w1"), "of 'w1' is said to train"),
    "a frozen bias": (lambda c: with_frozen_filter(c, "bn2_scale"), "of 'bn2_scale' is said to train"),
    "a filter fewer": (lambda c: c.record["trained"]["w2"]["retrain"].pop(), "frozen values of filter"),
    "a frozen kernel": (with_kernel, "filter 0 of 'w2' is said to train"),
    "a running mean": (
        with_tensor("bn2_mean", [0]),
        "'bn2_mean' is said to have trained, but it is a mean or variance",
    ),
    "a running variance": (
        with_tensor("bn3_var", [2]),
        "'bn3_var' is said to have trained, but it is a mean or variance",
    ),
    "a running mean, unchanged": (with_tensor("bn2_mean", [0], change=False), "is a mean or variance of a norm"),
    "a tensor that is not there": (
        with_tensor("nothing", [0], change=False),
        "stores no tensor under the name 'nothing'",
    ),
    "a tensor in trained and in reinitialised": (
        lambda c: c.record.update(reborn={"w2": c.record["trained"]["w2"]}),
        "named twice",
    ),
    "a set mean": (set_element("bn2_mean", 1), "reinitialised or set, but the mode is paper"),
    "mode regrow": (regrown, "round 1"),
    "a larger phi": (in_selection(phi=0.9), "is said to be frozen, but trains"),
    "a smaller phi": (in_selection(phi=0.05), "round 1: "),
    "another alpha": (in_selection(alpha=100.0), "is said to be frozen, but trains by phi 0.3"),
    "all layers": (
        lambda c: c.record.update(selection={"strategy": "all", "mode": "paper", "round": 1}),
        "said to be frozen",
    ),
    "a random draw": (
        lambda c: c.record.update(
            selection={"strategy": "random", "fraction": 0.1, "draw": 0, "mode": "paper", "round": 1}
        ),
        "is said to train, but is frozen by filters at random with 0.1 of the weights",
    ),
    "other filters than the steepest": (
        lambda c: c.record.update(
            selection={
                **{"strategy": "steepest", "fraction": 0.1, "measured": 4, "filters": {"w2": [0]}},
                **{"mode": "paper", "round": 1},
            }
        ),
        r"is said to train, but is frozen by a list of filters \(the steepest",
    ),
    "a layer that is said to stay frozen, and trained": (
        in_selection(freeze=["conv2"]),
        "of 'w2' is said to train, but is frozen by phi 0.3, mode paper, 'conv2' frozen",
    ),
    "a layer that is said to stay frozen, and is not there": (
        in_selection(freeze=["conv7"]),
        "the layers that are said to be frozen: no layer is called 'conv7'",
    ),
    "a layer that is said to stay frozen twice": (
        in_selection(freeze=["conv4", "conv4"]),
        "the layers that are said to be frozen: 'conv4' is named twice",
    ),
    "layers that are said to stay frozen, by a pattern": (
        in_selection(freeze=["*4"]),
        r"expected the names of layers in the order of the network, \['conv4'\], got \['\*4'\]",
    ),
    "layers that are said to stay frozen, in another order": (
        in_selection(freeze=["conv4", "conv3"]),
        r"in the order of the network, \['conv3', 'conv4'\], got \['conv4', 'conv3'\]",
    ),
    "layers that are said to stay frozen, and none": (in_selection(freeze=[]), r"at `\$.freeze`"),
    "mode readers": (in_selection(mode="readers"), "is said to be frozen, but trains"),
    "a strategy that there is not": (in_selection(strategy="best"), "no record that tgdonnx wrote"),
    "phi as text": (in_selection(phi="0.3"), r"Expected `float`, got `str` - at `\$.phi`"),
    "phi above 1": (in_selection(phi=1.5), r"at `\$.phi`"),
    "k of 0": (in_selection(k=0), r"at `\$.k`"),
    "k with a fraction": (in_selection(k=5.5), r"at `\$.k`"),
    "a round of text": (in_selection(round="1"), r"at `\$.round`"),
    "another round": (in_selection(round=2), "says that it is of round 2"),
    "a field that nobody knows in the selection": (in_selection(note="trust me"), "unknown field `note`"),
    "a field that nobody knows": (update(note="trust me"), "unknown field `note`"),
    "no format": (lambda c: c.record.pop("format"), "missing required field `format`"),
    "a newer format": (update(format=6), r"at `\$.format`"),
    "the format of a preparation without one": (
        update(format=4),
        "and it has no preparation; .* format 4 has a preparation",
    ),
    "a preparation in the format without": (update(preparation={}), "is of format 1, .* and it has a preparation"),
    "a scaling that divides by nothing": (
        update(format=4, preparation={"scaling": {"x": {"offset": 0, "divisor": 0, "how": 1}}}),
        r"at `\$.preparation.scaling\[\.\.\.\].divisor`",
    ),
    "a standard deviation of nothing": (
        update(
            format=4,
            preparation={
                "scaling": {"x": {"offset": 0, "divisor": 1, "how": 1, "mean": [0.5, 0.5], "std": [0.2, 0.0]}}
            },
        ),
        r"Expected `float` > 0.0 - at `\$.preparation.scaling\[\.\.\.\].std\[1\]`",
    ),
    "a negative standard deviation": (
        update(
            format=4, preparation={"scaling": {"x": {"offset": 0, "divisor": 1, "how": 1, "mean": [0], "std": [-1]}}}
        ),
        r"at `\$.preparation.scaling\[\.\.\.\].std\[0\]`",
    ),
    "a preparation of more than is known": (update(format=4, preparation={"blur": 3}), "unknown field `blur`"),
    "the format of a federation without one": (update(format=5), "format 5 has a federation, and it has no federation"),
    "a federation in the format without": (
        update(federation=FEDERATION),
        "is of format 1, .* and it has a federation",
    ),
    "a site twice": (federated(sites=[SITE, SITE]), "names a site twice"),
    "a site of more rounds than there were": (federated(rounds=2), "said to have trained in more than all 2 rounds"),
    "rounds without a site": (federated(sites=[]), "has rounds without sites"),
    "sites without a round": (federated(rounds=0, sites=[{**SITE, "rounds": 1}]), "in more than all 0 rounds"),
    "a site without samples": (
        federated(sites=[{**SITE, "samples": 0}]),
        r"at `\$.federation.sites\[0\].samples`",
    ),
    "a site without a name": (federated(sites=[{**SITE, "name": ""}]), r"at `\$.federation.sites\[0\].name`"),
    "a federation of more than is known": (federated(trust="me"), "unknown field `trust`"),
    "the format of a blend without one": (update(format=2), "format 2 has a blend, format 3 classes, format 1 neither"),
    "the format of classes without one": (update(format=3), "format 2 has a blend, format 3 classes, format 1 neither"),
    "classes in the format without": (update(classes=["a"]), "is of format 1, but `blend` is None and classes are 1"),
    "another base": (update(base_sha256="0" * 64), "is of another file"),
    "a base that is no hash": (update(base_sha256=7), r"at `\$.base_sha256`"),
    "trained as a list": (update(trained=["w2"]), r"at `\$.trained`"),
    "no trained": (lambda c: c.record.pop("trained"), "missing required field `trained`"),
    "options as text": (update(options="none"), r"at `\$.options`"),
    "rows as text": (part("w2", retrain="all"), r"at `\$.trained"),
    "rows that are true": (part("w2", retrain=[True]), r"at `\$.trained"),
    "rows below 0": (part("w2", retrain=[-1]), r"at `\$.trained"),
    "rows that are not there": (part("w2", retrain=[10**6]), "has no filter 1000000"),
    "rows of 60 digits": (part("w2", retrain=[10**60]), "no record that tgdonnx wrote"),
    "rows twice": (
        lambda c: c.record["trained"]["w2"]["retrain"].append(c.record["trained"]["w2"]["retrain"][-1]),
        "in order",
    ),
    "rows in another order": (lambda c: c.record["trained"]["w2"]["retrain"].reverse(), "in order"),
    "kernels that are empty": (part("w2", kernels=""), "does not begin with its shape"),
    "kernels of a huge shape": (
        part("w2", kernels="x".join(["9" * 5000] * 4) + ":AAAA"),
        "does not begin with its shape",
    ),
    "kernels of another shape": (part("w2", kernels="3x1x1x1:AAAA"), "does not broadcast against 'w2'"),
    "kernels that are too long": (
        part("w2", kernels="1x1x1x1:" + base64.b64encode(zlib.compress(bytes(10**7))).decode()),
        "is damaged",
    ),
    "kernels that are no base 64": (part("w2", kernels="1x1x1x1:????"), "is damaged"),
    "a message behind the kernels": (hidden, "something follows it"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_record_is_found_and_told_by_name(name: str, case: Case) -> None:
    forge, told = FORGED[name]
    forge(case)
    case.write()
    found = case.refused()
    assert any(re.search(told, violation) for violation in found), found


def twice_in_json(case: Case) -> str:
    text = json.dumps(case.record)
    return text.replace('"trained": {', '"trained": {"w2": {"retrain": [], "kernels": null}, ', 1)


def nested(_: Case) -> str:
    return "[" * 100_000 + "]" * 100_000


TEXTS: dict[str, tuple[Callable[[Case], str], str]] = {
    "a tensor twice": (twice_in_json, "a key is there twice"),
    "an object twice": (lambda c: json.dumps(c.record)[:-1] + ', "format": 1}', "a key is there twice"),
    "spaces that hide a message": (lambda c: json.dumps(c.record) + " \t  \t", "something was added"),
    "not a number": (
        lambda c: json.dumps(c.record).replace('"loss": "mse"', '"loss": NaN'),
        "no record that tgdonnx wrote",
    ),
    "nothing": (lambda _: "", "no record that tgdonnx wrote"),
    "null": (lambda _: "null", "no record that tgdonnx wrote"),
    "a list": (lambda _: "[]", "no record that tgdonnx wrote"),
    "brackets": (nested, "nested too deeply"),
    "half of it": (lambda c: json.dumps(c.record)[:200], "no record that tgdonnx wrote"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_record_whose_text_is_not_what_export_writes_is_told(name: str, case: Case) -> None:
    text, told = TEXTS[name]
    case.write(text(case))
    assert told in case.refused()[0]


def test_records_that_are_there_twice_with_gaps_or_hidden_elsewhere_are_told(case: Case) -> None:
    record, other = entry(1, case.record), entry(2, case.record)
    in_front = onnx.ModelProto(metadata_props=[onnx.StringStringEntryProto(key="a", value="b")]).SerializeToString()
    unknown = onnx.StringStringEntryProto(key="tgdonnx.provenance.1", value=json.dumps(case.record)).SerializeToString()
    spelled = wire.length_delimited(wire.METADATA_PROPS, unknown + b"\x22\x05hello")  # a field 4 that nobody reads
    forged = {
        "'tgdonnx.provenance.1' twice": case.body + record + record,
        "none of round 1": case.body + other,
        "none of round 2": case.body + record + entry(3, case.record),
        "says that it is of round 1": case.body + record + other,
        "not at its end": case.body + spelled,
        "+8 bytes besides its record": case.body + record + in_front,
    }
    for told, data in forged.items():
        case.tuned.write_bytes(data)
        assert any(told in each for each in case.refused()), (told, case.refused())
    case.tuned.write_bytes(record + case.body)
    assert case.refused()


@pytest.mark.parametrize("text", ["", "hello", "{}", "[1]", '{"trained": {"w1": {"retrain": [0], "kernels": null}}}'])
@pytest.mark.parametrize(
    "key", ["tgdonnx.provenance.1", "tgdonnx.provenance.7", "tgdonnx.provenance.x", "tgdonnx.provenance.01"]
)
def test_metadata_of_the_vendor_that_is_called_like_ours_is_his_own_and_not_believed(
    key: str, text: str, tmp_path: Path
) -> None:
    model = models.dncnn(0)
    model.metadata_props.add(key=key, value=text)
    base = models.save(model, tmp_path / "model.onnx")
    assert tgdonnx.verify(base, base).proof == "identical"
    models.save(model, tmp_path / "tuned.onnx")
    (tmp_path / "tuned.onnx").write_bytes(nudged(base.read_bytes(), "w1", 0))
    assert "no record of what was retrained" in refused(base, tmp_path / "tuned.onnx")[0]
    tgdonnx.mask(base, tmp_path / "masked.onnx", tgdonnx.Phi(PHI))
    tune_by_hand(tmp_path / "masked.onnx", tmp_path / "tuned.onnx")
    number = {"1": 2, "7": 8}.get(key[-1] if "01" not in key else "", 1)
    last = onnx.load(tmp_path / "tuned.onnx").metadata_props[-1]
    assert last.key == f"tgdonnx.provenance.{number}"
    report = tgdonnx.verify(base, tmp_path / "tuned.onnx")
    assert (report.ok, report.proof) == (True, "recomputed")
