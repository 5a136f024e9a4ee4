"""Verification catches every byte that may not differ, and says which."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.oracles.independent import Mask, expected_masks, places, tensors_of
from tests.support import models
from tests.support.training_models import text_model
from tests.support.tuning import PHI, data_for, options_for
from tgdonnx.errors import MaskedModelError, ModelFileError, TgdonnxError

VENDOR_METADATA = {"author": "somebody else", "stage": "final"}


def vendor_model() -> onnx.ModelProto:
    model = models.dncnn(0)
    model.producer_name, model.doc_string = "vendor", "a denoiser"
    onnx.helper.set_model_props(model, VENDOR_METADATA)
    return model


@pytest.fixture(scope="module")
def tuned_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with model.onnx, masked.onnx and tuned.onnx."""
    directory = tmp_path_factory.mktemp("tuned")
    models.save(vendor_model(), directory / "model.onnx")
    tgdonnx.mask(directory / "model.onnx", directory / "masked.onnx", tgdonnx.Phi(PHI))
    tgdonnx.build(directory / "masked.onnx", directory / "artifacts")
    tgdonnx.train(directory / "artifacts", data_for(models.dncnn(0)), options_for())
    tgdonnx.export(directory / "artifacts", directory / "tuned.onnx")
    return directory


@pytest.fixture
def directory(tuned_once: Path, tmp_path: Path) -> Path:
    for path in tuned_once.glob("*.onnx"):
        shutil.copy(path, tmp_path)
    return tmp_path


def check(directory: Path, data: bytes | None = None, *, masked: bool = False) -> tgdonnx.VerifyReport:
    if data is not None:
        (directory / "tuned.onnx").write_bytes(data)
    evidence = directory / "masked.onnx" if masked else None
    return tgdonnx.verify(directory / "model.onnx", directory / "tuned.onnx", masked=evidence)


def allowed_bytes(base: bytes) -> Mask:
    """For every byte of the vendor's file whether it may differ."""
    model = onnx.ModelProto.FromString(base)
    start = places(model, base)
    allowed = np.zeros(len(base), bool)
    for name, mask in expected_masks(model, PHI).items():
        spread = np.repeat(mask.ravel(), 4)
        allowed[start[name] : start[name] + len(spread)] = spread
    return allowed


@pytest.mark.parametrize("masked", [False, True])
def test_a_tuned_file_is_proved_and_its_changes_are_listed(masked: bool, directory: Path) -> None:
    report = check(directory, masked=masked)
    assert report.ok
    assert report.violations == ()
    assert report.evidence == (str(directory / "masked.onnx") if masked else "the record in the tuned file")
    expected = expected_masks(vendor_model(), PHI)
    rows = {name: mask.reshape(len(mask), -1).any(axis=1) for name, mask in expected.items()}
    assert {c.name: c.filters for c in report.changed} == {
        name: tuple(int(m) for m in np.flatnonzero(chosen)) for name, chosen in rows.items()
    }


@pytest.mark.parametrize("masked", [False, True])
def test_the_vendors_own_file_differs_in_nothing(masked: bool, directory: Path) -> None:
    report = check(directory, (directory / "model.onnx").read_bytes(), masked=masked)
    assert report.ok
    assert report.changed == ()


@pytest.mark.parametrize("masked", [False, True])
def test_any_bit_of_the_vendors_file_that_flips_is_caught_unless_it_belongs_to_a_retrained_filter(
    masked: bool, directory: Path
) -> None:
    base, tuned = ((directory / name).read_bytes() for name in ("model.onnx", "tuned.onnx"))
    allowed = allowed_bytes(base)
    chance = random.Random(7)
    outside = [int(i) for i in np.flatnonzero(~allowed)]
    # A hundred anywhere, and more in what is no tensor: names, shapes, attributes, the structure of the file.
    model = onnx.ModelProto.FromString(base)
    structure = np.ones(len(base), bool)
    for name, start in places(model, base).items():
        structure[start : start + len(tensors_of(model)[name].raw_data)] = False
    positions = chance.sample(outside, 100) + chance.sample([int(i) for i in np.flatnonzero(structure)], 150)
    for position in positions:
        data = bytearray(tuned)
        data[position] ^= 1 << chance.randrange(8)
        try:
            report = check(directory, bytes(data), masked=masked)
        except TgdonnxError:
            continue  # not even a model any more
        assert not report.ok, f"byte {position}"
        assert report.violations
    for position in chance.sample([int(i) for i in np.flatnonzero(allowed)], 50):
        data = bytearray(tuned)
        data[position] ^= 1 << chance.randrange(8)
        assert check(directory, bytes(data), masked=masked).ok, f"byte {position}"


def flipped(data: bytes, tensor: str, element: int) -> bytes:
    """Flips the lowest bit of one element of a tensor that is the same in both files."""
    model = onnx.ModelProto.FromString(data)
    start = places(model, data)[tensor] + 4 * element
    return data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :]


def test_one_bit_of_a_frozen_weight_is_named_with_its_filter(directory: Path) -> None:
    tuned = (directory / "tuned.onnx").read_bytes()
    mask = expected_masks(vendor_model(), PHI)["w2"]
    frozen = int(np.flatnonzero(~mask.ravel())[-1])
    report = check(directory, flipped(tuned, "w2", frozen))
    row = frozen // mask[0].size
    assert report.violations == (f"frozen values of filter {row} of 'w2' changed",)


@pytest.mark.parametrize("tensor", ["bn2_mean", "bn2_var", "bn3_mean", "w4"])
def test_one_bit_of_a_tensor_that_never_trains_is_named(tensor: str, directory: Path) -> None:
    report = check(directory, flipped((directory / "tuned.onnx").read_bytes(), tensor, 1))
    assert not report.ok
    assert len(report.violations) == 1
    assert f"'{tensor}'" in report.violations[0]


def same_length(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    assert len(old) == len(new)

    def change(data: bytes) -> bytes:
        assert data.count(old) == 1
        return data.replace(old, new)

    return change


def edited(change: Callable[[onnx.ModelProto], Any]) -> Callable[[bytes], bytes]:
    """Parse, change, serialise: as other tools write models."""

    def apply(data: bytes) -> bytes:
        model = onnx.ModelProto.FromString(data)
        change(model)
        return model.SerializeToString()

    return apply


def record_of(data: bytes) -> dict[str, Any]:
    entries = {entry.key: entry.value for entry in onnx.ModelProto.FromString(data).metadata_props}
    return json.loads(entries["tgdonnx.provenance.1"])


def reserialised(data: bytes) -> bytes:
    """The same model with the fields of the file in another order."""
    model = onnx.ModelProto.FromString(data)
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    length, head = len(graph), b""
    while length > 0x7F:
        head, length = head + bytes([length & 0x7F | 0x80]), length >> 7
    return b"\x3a" + head + bytes([length]) + graph + model.SerializeToString()


def entry(key: str, value: str) -> bytes:
    """One serialised entry of the metadata of a model."""
    return onnx.ModelProto(metadata_props=[{"key": key, "value": value}]).SerializeToString()


TAMPERED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a byte appended": (lambda data: data + b"\x00", ""),
    "a metadata entry appended": (lambda data: data + entry("a", "b"), "bytes"),
    "cut off at the end": (lambda data: data[:-1], ""),
    "the metadata of the vendor changed": (
        same_length(b"somebody else", b"somebody ELSE"),
        "metadata_props of the model changed",
    ),
    "the producer changed": (same_length(b"vendor", b"VENDOR"), "producer_name of the model changed"),
    "a node's name changed": (same_length(b"conv3", b"conv9"), "the node 'conv3' .Conv. changed"),
    "an attribute changed": (
        edited(lambda model: setattr(node(model, "n2").attribute[0], "f", 0.25)),
        r"the node 'n2' \(BatchNormalization\) changed",
    ),
    "a pad changed": (
        edited(lambda model: node(model, "t3").attribute[1].ints.__setitem__(0, 1)),
        r"the node 'conv3' \(Conv\) changed",
    ),
    "an input rewired": (
        edited(lambda model: node(model, "t3").input.__setitem__(0, "n2")),
        r"the node 'conv3' \(Conv\) changed",
    ),
    "an output renamed": (
        edited(lambda model: setattr(model.graph.output[0], "name", "z")),
        "output of the graph changed",
    ),
    "a node removed": (edited(lambda model: model.graph.node.remove(node(model, "a3"))), "nodes"),
    "a node added": (
        edited(lambda model: model.graph.node.append(onnx.helper.make_node("Relu", ["y"], ["z"]))),
        "nodes",
    ),
    "a tensor renamed": (edited(lambda model: setattr(model.graph.initializer[2], "name", "w2_")), "'w2'"),
    "a tensor removed": (edited(lambda model: model.graph.initializer.pop()), "'w4' is missing"),
    "a tensor added": (
        edited(lambda model: model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "new"))),
        "'new' is new",
    ),
    "the opset changed": (
        edited(lambda model: setattr(model.opset_import[0], "version", 14)),
        "opset_import of the model changed",
    ),
    "a doc string added": (edited(lambda model: setattr(model.graph, "doc_string", "hello")), ""),
    "the same model written in another order": (reserialised, ""),
    "float_data for raw_data": (
        edited(lambda model: model.graph.initializer[0].CopyFrom(as_float_data(model.graph.initializer[0]))),
        "",
    ),
}


def node(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.output[0] == output)


def as_float_data(tensor: onnx.TensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    return onnx.helper.make_tensor(tensor.name, tensor.data_type, tensor.dims, values.ravel())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", TAMPERED)
def test_a_file_that_was_touched_is_caught(case: str, masked: bool, directory: Path) -> None:
    change, message = TAMPERED[case]
    tuned = (directory / "tuned.onnx").read_bytes()
    data = change(tuned)
    assert data != tuned
    try:
        report = check(directory, data, masked=masked)
    except ModelFileError:
        assert case in ("a byte appended", "cut off at the end"), "every other one is still a model"
        return
    assert not report.ok
    assert any(re.search(message, violation) for violation in report.violations), report.violations


def test_what_is_told_of_many_violations_ends(directory: Path) -> None:
    def noise(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            tensor.raw_data = bytes(byte ^ 1 for byte in tensor.raw_data)

    report = check(directory, edited(noise)((directory / "tuned.onnx").read_bytes()))
    assert not report.ok
    assert 5 < len(report.violations) <= 20
    assert len(set(report.violations)) == len(report.violations)


# Other bases, other witnesses.


def test_another_base_is_told(directory: Path) -> None:
    models.save(models.dncnn(1), directory / "other.onnx")
    for masked in (None, directory / "masked.onnx"):
        report = tgdonnx.verify(directory / "other.onnx", directory / "tuned.onnx", masked=masked)
        assert not report.ok
    assert "masked model of another file" in report.violations[0]


def test_a_base_of_other_layers_is_told_to_be_another_file_and_the_record_to_be_none_of_it(directory: Path) -> None:
    models.save(
        text_model("g (float[N, 1, H, W] x) => (float[N, 1, h, v] y) { y = Conv(x, other) }", other=(1, 1, 3, 3)),
        directory / "other.onnx",
    )
    (told,) = tgdonnx.verify(directory / "other.onnx", directory / "tuned.onnx").violations
    assert f"is of another file than {directory / 'other.onnx'}" in told


def test_files_in_the_wrong_order_are_told(directory: Path) -> None:
    vendor, tuned = directory / "model.onnx", directory / "tuned.onnx"
    report = tgdonnx.verify(tuned, vendor)
    assert not report.ok
    assert report.violations == (f"{tuned} was tuned from {vendor}, by its record; name the vendor's file first",)


def test_a_base_that_differs_in_one_bit_is_another_base(directory: Path) -> None:
    data = bytearray((directory / "model.onnx").read_bytes())
    data[places(onnx.ModelProto.FromString(bytes(data)), bytes(data))["w1"]] ^= 1
    (directory / "model.onnx").write_bytes(data)
    assert not check(directory).ok
    assert not check(directory, masked=True).ok


def test_without_its_record_a_tuned_file_needs_the_masked_model(directory: Path) -> None:
    base, tuned = ((directory / name).read_bytes() for name in ("model.onnx", "tuned.onnx"))
    report = check(directory, tuned[: len(base)])
    assert not report.ok
    assert "no record of what was retrained" in report.violations[0]
    assert "`masked`" in report.violations[0]
    assert report.changed == ()
    assert check(directory, tuned[: len(base)], masked=True).ok


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(base_sha256="0" * 64),
        lambda record: record.pop("trained"),
        lambda record: record.update(trained={}),
        lambda record: record.update(trained={"no such tensor": {"retrain": [0], "maps": []}}),
        lambda record: record["trained"]["w2"].update(retrain=[]),
        lambda record: record["trained"]["w2"]["retrain"].pop(),
        lambda record: record["trained"].pop("bn2_scale"),
        lambda record: record["trained"]["w2"].update(retrain=[99]),
        lambda record: record["trained"]["w2"].update(retrain="all"),
        lambda record: record.clear(),
    ],
)
def test_a_record_that_does_not_cover_the_changes_proves_nothing(
    change: Callable[[dict[str, Any]], Any], directory: Path
) -> None:
    base, tuned = ((directory / name).read_bytes() for name in ("model.onnx", "tuned.onnx"))
    record = record_of(tuned)
    change(record)
    report = check(directory, tuned[: len(base)] + entry("tgdonnx.provenance.1", json.dumps(record)))
    assert not report.ok


def test_a_record_that_is_no_json_proves_nothing(directory: Path) -> None:
    base, tuned = ((directory / name).read_bytes() for name in ("model.onnx", "tuned.onnx"))
    assert not check(directory, tuned[: len(base)] + entry("tgdonnx.provenance.1", "{")).ok


def test_a_masked_model_with_fewer_filters_than_changed_is_believed_and_not_the_record(directory: Path) -> None:
    expected = expected_masks(vendor_model(), PHI)
    fewer = {
        name: [int(m) for m in np.flatnonzero(mask.reshape(len(mask), -1).any(axis=1))]
        for name, mask in expected.items()
    }
    weights = {name: rows for name, rows in fewer.items() if name in ("w1", "w2", "w3")}
    dropped = weights["w2"].pop()
    tgdonnx.mask(directory / "model.onnx", directory / "masked.onnx", tgdonnx.Filters(weights), overwrite=True)
    report = check(directory, masked=True)
    assert not report.ok
    assert f"frozen values of filter {dropped} of 'w2' changed" in report.violations
    assert check(directory).ok


def test_what_is_no_masked_model_cannot_be_a_witness(directory: Path) -> None:
    with pytest.raises(MaskedModelError, match="no retrain masks"):
        tgdonnx.verify(directory / "model.onnx", directory / "tuned.onnx", masked=directory / "model.onnx")


@pytest.mark.parametrize("name", ["model.onnx", "tuned.onnx", "masked.onnx"])
def test_what_is_no_model_is_told(name: str, directory: Path) -> None:
    (directory / name).write_bytes(b"this is no model")
    with pytest.raises(ModelFileError, match=name):
        check(directory, masked=True)
    (directory / name).unlink()
    with pytest.raises(ModelFileError, match=name):
        check(directory, masked=True)


def test_a_file_that_was_tuned_twice_is_proved_round_by_round(tmp_path: Path) -> None:
    model = models.dncnn(0)
    models.save(model, tmp_path / "round0.onnx")
    for number, phi in ((1, PHI), (2, 0.5)):
        report = tgdonnx.finetune(
            tmp_path / f"round{number - 1}.onnx",
            data_for(model),
            tmp_path / f"round{number}.onnx",
            tgdonnx.Phi(phi),
            options_for(),
        )
        assert report.verify.ok
        assert report.mask.selection["round"] == number
    entries = [entry.key for entry in onnx.load(tmp_path / "round2.onnx").metadata_props]
    assert entries == ["tgdonnx.provenance.1", "tgdonnx.provenance.2"]
    assert tgdonnx.verify(tmp_path / "round0.onnx", tmp_path / "round1.onnx").ok
    assert tgdonnx.verify(tmp_path / "round1.onnx", tmp_path / "round2.onnx").ok
    assert tgdonnx.verify(tmp_path / "round0.onnx", tmp_path / "round2.onnx").ok


def test_a_tensor_that_two_names_share_byte_for_byte_is_told_apart_by_its_place(tmp_path: Path) -> None:
    same = np.random.default_rng(0).normal(size=(4, 4, 1)).astype(np.float32)
    model = text_model(
        "g (float[N, 4, W] x) => (float[N, 4, w] y) { a = Conv(x, first)\n r = Tanh(a)\n y = Conv(r, second) }",
        first=same,
        second=same,
    )
    base = models.save(model, tmp_path / "model.onnx")
    rng = np.random.default_rng(1)
    data = {name: rng.normal(size=(6, 4, 5)).astype(np.float32) for name in ("x", "target")}
    report = tgdonnx.finetune(base, data, tmp_path / "tuned.onnx", tgdonnx.Filters({"second": [1, 3]}), options_for())
    assert report.verify.changed == (tgdonnx.verifying.verification.Changed("second", (1, 3)),)
