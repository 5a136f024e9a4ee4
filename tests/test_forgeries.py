"""Records, masked models and files that vouch for themselves: `verify` works out from the vendor's file what may differ."""

from __future__ import annotations

import base64
import json
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import tgdonnx
from tests import models
from tests.forging import (
    Record,
    body_of,
    entry,
    mask_edited,
    nudged,
    refused,
    selection_edited,
    tune_by_hand,
)
from tests.independent import expected_masks, tensors_of
from tgdonnx.files import wire
from tgdonnx.layers import open_network
from tgdonnx.masked_model import read_masked
from tgdonnx.records import pack_mask
from tgdonnx.selection import Mode, score_filters
from tgdonnx.tracing import trace_network

PHI = 0.3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.onnx, and for paper, readers and list a masked and a tuned model with its record."""
    directory = tmp_path_factory.mktemp("forgeries")
    models.save(models.dncnn(0), directory / "model.onnx")
    listed = tgdonnx.Filters({"w1": [1, 4], "w2": [0, 3]})
    choices: dict[str, tuple[tgdonnx.Strategy, Mode]] = {
        "paper": (tgdonnx.Phi(PHI), "paper"),
        "readers": (tgdonnx.Phi(PHI), "readers"),
        "percentile": (tgdonnx.Percentile(30), "paper"),
        "last": (tgdonnx.LastLayers(2), "paper"),
        "list": (listed, "paper"),
    }
    for name, (strategy, mode) in choices.items():
        tgdonnx.mask(
            directory / "model.onnx", directory / f"{name}.masked.onnx", strategy, tgdonnx.MaskOptions(mode=mode)
        )
        record = tune_by_hand(directory / f"{name}.masked.onnx", directory / f"{name}.tuned.onnx")
        (directory / f"{name}.json").write_text(json.dumps(record))
    return directory


class Case:
    """A tuned file of one selection, to be forged."""

    def __init__(self, made: Path, work: Path, name: str) -> None:
        self.base, self.tuned, self.masked = work / "model.onnx", work / "tuned.onnx", work / "masked.onnx"
        shutil.copy(made / "model.onnx", self.base)
        shutil.copy(made / f"{name}.tuned.onnx", self.tuned)
        shutil.copy(made / f"{name}.masked.onnx", self.masked)
        self.record: Record = json.loads((made / f"{name}.json").read_text())
        self.body = body_of(self.tuned.read_bytes(), self.record)

    def write(self, record: Any = None, body: Optional[bytes] = None, number: int = 1) -> None:
        record = self.record if record is None else record
        self.tuned.write_bytes((self.body if body is None else body) + entry(number, record))

    def refused(self, *, masked: bool = False, filters: Optional[dict[str, list[int]]] = None) -> list[str]:
        return refused(self.base, self.tuned, self.masked if masked else None, filters)


@pytest.fixture
def case(made: Path, tmp_path: Path) -> Case:
    return Case(made, tmp_path, "paper")


def frozen(case: Case, name: str) -> int:
    """The first row of a tensor that does not train."""
    return next(m for m in range(99) if m not in case.record["trained"][name]["retrain"])


# Honest files.


@pytest.mark.parametrize(
    ("name", "proof", "word"),
    [
        ("paper", "recomputed", "phi 0.3, mode paper, computed again"),
        ("readers", "recomputed", "phi 0.3, mode readers, computed again"),
        ("percentile", "recomputed", "percentile 30, mode paper, computed again"),
        ("last", "recomputed", "the last 2 layers, mode paper, computed again"),
        ("list", "recorded", "a list of filters, which is the record's own word; name the list with --filters FILE"),
    ],
)
def test_an_honest_file_passes_and_its_form_of_proof_is_said(
    name: str, proof: str, word: str, made: Path, tmp_path: Path
) -> None:
    case = Case(made, tmp_path, name)
    for masked in (None, case.masked):
        report = tgdonnx.verify(case.base, case.tuned, masked)
        assert report.ok, report.violations
        assert (report.proof, [each.round for each in report.rounds]) == (proof, [1])
        assert word.replace("record's", "record's" if masked is None else "masked model's") in report.rounds[0].sentence


def test_a_list_from_elsewhere_is_an_independent_proof_and_another_list_is_refused(made: Path, tmp_path: Path) -> None:
    case = Case(made, tmp_path, "list")
    report = tgdonnx.verify(case.base, case.tuned, filters={"w1": [4, 1], "w2": [0, 3]})
    assert (report.ok, report.proof) == (True, "listed")
    for other in ({"w1": [1, 4], "w2": [0]}, {"w1": [1, 4], "w2": [0, 3, 5]}, {"w1": [1, 4]}):
        for masked in (False, True):
            assert any("by the list that was given" in each for each in case.refused(masked=masked, filters=other))
    with pytest.raises(tgdonnx.errors.SelectionError, match="'nothing' is not the weight of a layer"):
        tgdonnx.verify(case.base, case.tuned, filters={"nothing": [0]})


def test_a_list_from_elsewhere_proves_a_selection_by_score_too(case: Case) -> None:
    masks = expected_masks(models.dncnn(0), PHI)
    rows = {n: [int(m) for m in np.flatnonzero(v.reshape(len(v), -1).any(1))] for n, v in masks.items() if n[0] == "w"}
    assert tgdonnx.verify(case.base, case.tuned, filters=rows).proof == "listed"
    rows["w2"] = rows["w2"][1:]
    assert case.refused(filters=rows)


def test_files_that_are_the_same_need_no_record_and_say_so(case: Case) -> None:
    for masked in (None, case.masked):
        report = tgdonnx.verify(case.base, case.base, masked)
        assert (report.ok, report.changed, report.proof, report.rounds) == (True, (), "identical", ())


# Forged records.

Forgery = Callable[[Case], Any]


def with_frozen_filter(case: Case, name: str = "w2") -> None:
    row = frozen(case, name)
    case.record["trained"][name]["retrain"] = sorted([*case.record["trained"][name]["retrain"], row])
    case.body = nudged(case.body, name, row)


def with_tensor(name: str, rows: list[int], *, change: bool = True) -> Forgery:
    def forge(case: Case) -> None:
        case.record["trained"][name] = {"retrain": rows, "kernels": None}
        if change:
            case.body = nudged(case.body, name, rows[0])

    return forge


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
    "a newer format": (update(format=2), r"at `\$.format`"),
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


# Forged masked models.


def test_a_masked_model_with_a_frozen_filter_is_no_witness(case: Case) -> None:
    row = frozen(case, "w2")
    mask_edited(case.masked, lambda mask: mask.__setitem__(row, 1), "w2")
    case.write(body=nudged(case.body, "w2", row))
    assert any(
        f"filter {row} of 'w2' is said to train, but is frozen by phi 0.3" in e for e in case.refused(masked=True)
    )
    case.tuned.write_bytes(nudged(case.body, "w2", row))  # without a record that would contradict it
    assert any(f"filter {row} of 'w2' is said to train" in each for each in case.refused(masked=True))


def test_a_masked_model_with_a_filter_fewer_or_without_a_mask_is_no_witness(case: Case) -> None:
    row = case.record["trained"]["w2"]["retrain"][0]
    whole = case.masked.read_bytes()
    case.tuned.write_bytes(case.base.read_bytes())
    mask_edited(case.masked, lambda mask: mask.__setitem__(row, 0), "w2")
    assert any(f"filter {row} of 'w2' is said to be frozen, but trains" in each for each in case.refused(masked=True))
    model = onnx.ModelProto.FromString(whole)
    (index,) = (i for i, t in enumerate(model.graph.initializer) if t.name == "w3.retrain_mask")
    del model.graph.initializer[index]
    case.masked.write_bytes(model.SerializeToString())
    assert any("there is no mask of 'w3'" in each for each in case.refused(masked=True))


def test_a_mask_of_a_tensor_that_never_trains_is_told(case: Case) -> None:
    for name, why in (("bn2_mean", "is a mean or variance of a norm"), ("bn3_var", "is a mean or variance of a norm")):
        model = onnx.load(case.masked)
        size = numpy_helper.to_array(tensors_of(model)[name]).size
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(size, np.float32), f"{name}.retrain_mask"))
        case.masked.write_bytes(model.SerializeToString())
        assert any(f"{name!r} is said to have trained, but it {why}" in each for each in case.refused(masked=True))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"phi": 0.9}, "is said to be frozen, but trains"),
        ({"phi": 0.001}, "is said to train, but is frozen"),
        ({"phi": None}, "is not one that `tgdonnx mask` writes"),
        ({"strategy": "all"}, "is not one that `tgdonnx mask` writes"),
        ({"round": 2}, "is of round 2, expected 1"),
        ({"mode": "readers"}, "is said to be frozen, but trains"),
        ({"extra": 1}, "unknown field `extra`"),
    ],
)
def test_a_selection_that_is_not_that_of_the_masks_is_told(changes: dict[str, Any], told: str, case: Case) -> None:
    selection_edited(case.masked, **changes)
    assert any(told in each for each in case.refused(masked=True)), case.refused(masked=True)


def test_an_edited_percentile_or_its_phi_is_told(made: Path, tmp_path: Path) -> None:
    case = Case(made, tmp_path, "percentile")
    honest = dict(case.record["selection"])
    for changes in ({"phi": honest["phi"] + 0.01}, {"percentile": 40.0}, {"percentile": 20.0}):
        case.record["selection"] = {**honest, **changes}
        case.write()
        assert "phi is recorded as" in case.refused()[0]


def test_a_record_that_contradicts_the_masked_model_does_not_pass_beside_it(case: Case) -> None:
    with_tensor("bn2_mean", [0], change=False)(case)
    case.write()
    assert any("'bn2_mean' is said to have trained" in each for each in case.refused(masked=True))


def test_a_record_of_another_selection_than_the_masked_model_is_told_even_if_both_give_the_same_masks(
    case: Case,
) -> None:
    case.record["selection"]["phi"] = 0.31
    case.write()
    assert tgdonnx.verify(case.base, case.tuned).ok
    assert any("is of another selection than" in each for each in case.refused(masked=True))


# What never trains, whatever is selected.


def odd_tensors() -> onnx.ModelProto:
    """Two layers, and a scalar, integers and a tensor that nobody reads."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[N, 3, H, W] x) => (float[N, 2, h, w] y, int64[2] z) {
            a = Conv(x, first)\n b = Mul(a, factor)\n c = Relu(b)\n y = Conv(c, second)\n z = Add(whole, whole) }"""
    )
    arrays = {
        "first": rng.normal(size=(5, 3, 3, 3)).astype(np.float32),
        "second": rng.normal(size=(2, 5, 1, 1)).astype(np.float32),
        "factor": np.array(1.5, np.float32),
        "whole": np.array([3, 4]),
        "unread": rng.normal(size=5).astype(np.float32),
    }
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("factor", "belongs to no filter of a layer"),
        ("whole", "is INT64; training handles"),
        ("unread", "is read by no node"),
    ],
)
@pytest.mark.parametrize("strategy", [tgdonnx.AllLayers(), tgdonnx.Filters({"first": [0, 2]})])
def test_scalars_integers_and_tensors_that_nobody_reads_never_train(
    strategy: tgdonnx.Strategy, name: str, why: str, tmp_path: Path
) -> None:
    base = models.save(odd_tensors(), tmp_path / "model.onnx")
    tgdonnx.mask(base, tmp_path / "masked.onnx", strategy)
    record = tune_by_hand(tmp_path / "masked.onnx", tmp_path / "tuned.onnx")
    body = body_of((tmp_path / "tuned.onnx").read_bytes(), record)
    assert tgdonnx.verify(base, tmp_path / "tuned.onnx").ok
    record["trained"][name] = {"retrain": [0], "kernels": None}
    (tmp_path / "tuned.onnx").write_bytes(body + entry(1, record))
    found = refused(base, tmp_path / "tuned.onnx")
    assert any(f"{name!r} is said to have trained, but it {why}" in each for each in found), found


# Rounds.


def rounds(directory: Path, *choices: tuple[tgdonnx.Strategy, Mode, bool]) -> list[Record]:
    """model.onnx, and round1.onnx and so on, each tuned from the one before."""
    models.save(models.dncnn(0), directory / "round0.onnx")
    records = []
    for number, (strategy, mode, protect) in enumerate(choices, 1):
        masked = directory / f"masked{number}.onnx"
        tgdonnx.mask(
            directory / f"round{number - 1}.onnx", masked, strategy, tgdonnx.MaskOptions(mode=mode, protect=protect)
        )
        records.append(tune_by_hand(masked, directory / f"round{number}.onnx", number))
    return records


@pytest.mark.parametrize("mode", ["paper", "readers"])
@pytest.mark.parametrize("protect", [False, True])
def test_of_a_second_round_what_can_be_computed_is_and_the_rest_is_said_to_be_the_records_word(
    protect: bool, mode: Mode, tmp_path: Path
) -> None:
    first, later = (
        (tgdonnx.Phi(PHI), mode, False),
        [(tgdonnx.Phi(0.9), mode, protect), (tgdonnx.LastLayers(2), mode, protect)],
    )
    for strategy, forms in zip(later, (["recomputed", "recorded"], ["recomputed", "recomputed"])):
        work = tmp_path / str(forms[-1])
        work.mkdir()
        _, second = rounds(work, first, strategy)
        report = tgdonnx.verify(work / "round0.onnx", work / "round2.onnx")
        assert report.ok, report.violations
        assert ([each.form for each in report.rounds], report.proof) == (forms, forms[-1])
        assert tgdonnx.verify(work / "round1.onnx", work / "round2.onnx").proof == "recomputed"
        data = (work / "round2.onnx").read_bytes()
        body = body_of(data, second, 2)
        name = "w4"
        rows = second["trained"].get(name, {"retrain": []})["retrain"]
        forged = {"retrain": rows[1:], "kernels": None} if rows else {"retrain": [0], "kernels": None}
        second["trained"]["bn2_mean"] = {"retrain": [0], "kernels": None}
        (work / "round2.onnx").write_bytes(body + entry(2, second))
        assert any(
            "'bn2_mean' is said to have trained" in each for each in refused(work / "round0.onnx", work / "round2.onnx")
        )
        del second["trained"]["bn2_mean"]
        if forms == ["recomputed", "recomputed"]:
            second["trained"][name] = forged
            (work / "round2.onnx").write_bytes(body + entry(2, second))
            assert refused(work / "round0.onnx", work / "round2.onnx")


def test_a_bias_that_trains_without_its_filter_is_found_also_where_the_filters_are_the_records_word(
    tmp_path: Path,
) -> None:
    _, second = rounds(tmp_path, (tgdonnx.Phi(PHI), "paper", False), (tgdonnx.Phi(0.5), "paper", False))
    body = body_of((tmp_path / "round2.onnx").read_bytes(), second, 2)
    rows = second["trained"]["bn2_scale"]["retrain"]
    second["trained"]["bn2_scale"]["retrain"] = sorted({*rows, next(m for m in range(99) if m not in rows)})
    (tmp_path / "round2.onnx").write_bytes(body + entry(2, second))
    found = refused(tmp_path / "round0.onnx", tmp_path / "round2.onnx")
    assert any("round 2" in each and "'bn2_scale' is said to train" in each for each in found), found


# Scores that floating point may put on either side of phi.


def scores_of(base: Path) -> dict[str, np.ndarray]:
    provenance = trace_network(open_network(base))
    importance = score_filters(provenance, alpha=1.0, k=5).importance
    return {str(layer.weight and layer.weight.name): i.values for layer, i in zip(provenance.layers, importance)}


def is_any_score_near(phi: float, base: Path) -> bool:
    scored = score_filters(trace_network(open_network(base)), alpha=1.0, k=5)
    scores = [*(layer.values for layer in scored.importance), *(layer.kse for layer in scored.scores)]
    return any(bool((np.abs(each - phi) <= 2e-6).any()) for each in scores)


@pytest.mark.parametrize(("distance", "is_believed"), [(2e-7, True), (-2e-7, True), (5e-6, False), (-5e-6, False)])
def test_a_filter_that_scores_within_a_millionth_of_phi_may_be_on_either_side_and_that_is_said(
    distance: float, is_believed: bool, tmp_path: Path
) -> None:
    base = models.save(models.dncnn(0), tmp_path / "model.onnx")
    finite = np.sort(np.concatenate([s[np.isfinite(s)] for s in scores_of(base).values()]))
    score = float(finite[len(finite) // 2])
    tgdonnx.mask(base, tmp_path / "masked.onnx", tgdonnx.Phi(score + distance))
    record = tune_by_hand(tmp_path / "masked.onnx", tmp_path / "tuned.onnx")
    # As on another machine, which sums the score to something on the other side of the same phi.
    body = body_of((tmp_path / "tuned.onnx").read_bytes(), record)
    record["selection"]["phi"] = score - distance
    (tmp_path / "tuned.onnx").write_bytes(body + entry(1, record))
    if is_believed:
        report = tgdonnx.verify(base, tmp_path / "tuned.onnx")
        assert report.ok, report.violations
        assert "within 1e-06 of phi are taken as recorded" in report.rounds[0].sentence
    else:
        assert refused(base, tmp_path / "tuned.onnx")


# Any forgery of a bit, in any network.

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
    # A percentile may be one of the scores; a filter so near to phi may be on either side, see the test before.
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
