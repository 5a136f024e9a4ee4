"""The masked model: the vendor's file with masks in it, and nothing else; and masked models that are none."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.selection.reference import by_experiment
from tests.support import models
from tests.support.external_models import externalise
from tests.support.models import MODELS, Builder, random_feeds, save
from tests.support.sessions import open_session
from tgdonnx.checking import check
from tgdonnx.errors import MaskedModelError, ModelFileError, OutputError, SelectionError, TgdonnxError
from tgdonnx.layers import open_network
from tgdonnx.masked_model import SUFFIX, MaskedModel, masked_bytes, read_masked
from tgdonnx.masking import MaskOptions, mask
from tgdonnx.records import decode_mask, encode_mask
from tgdonnx.scoring import score
from tgdonnx.selection import PLAN_MODES, AllLayers, Filters, Percentile, Phi, PlanMode, plan_masks, select
from tgdonnx.tracing import trace, trace_network


def outputs(path: Path, feeds: dict[str, Any]) -> list[bytes]:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # that nobody reads the masks is no news
    session = open_session(str(path), options)
    return [array.tobytes() for array in session.run(None, feeds)]


def masked(model: onnx.ModelProto, directory: Path, *, mode: PlanMode = "paper") -> tuple[Path, Path]:
    """The vendor's file and the masked one."""
    vendor, output = save(model, directory / "model.onnx"), directory / "masked.onnx"
    mask(vendor, output, Phi(0.3), MaskOptions(mode=mode))
    return vendor, output


# What is written.


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("mode", PLAN_MODES)
def test_a_masked_model_is_valid_and_computes_the_same_to_the_bit(
    builder: Builder, mode: PlanMode, tmp_path: Path
) -> None:
    model = builder(0)
    vendor, output = masked(model, tmp_path, mode=mode)
    onnx.checker.check_model(onnx.load(output), full_check=True)
    feeds = random_feeds(model)
    assert outputs(output, feeds) == outputs(vendor, feeds)


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("mode", PLAN_MODES)
def test_taking_the_masks_away_gives_the_bytes_of_the_vendor(builder: Builder, mode: PlanMode, tmp_path: Path) -> None:
    vendor, output = masked(builder(0), tmp_path, mode=mode)
    found = read_masked(output)
    assert found.base.data == vendor.read_bytes()
    assert found.file.data == output.read_bytes()
    assert found.base.proto == onnx.load(vendor)


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("mode", PLAN_MODES)
def test_the_masks_in_the_file_are_those_of_the_rules(builder: Builder, mode: PlanMode, tmp_path: Path) -> None:
    model = builder(0)
    _, output = masked(model, tmp_path, mode=mode)
    reference = by_experiment(model)
    expected = reference.masks(reference.below(0.3), phi=0.3, readers=mode == "readers")
    stored = {tensor.name: tensor for tensor in onnx.load(output).graph.initializer}
    added = set(stored) - {tensor.name for tensor in model.graph.initializer}
    assert added == {name + SUFFIX for name in expected}
    found = read_masked(output).masks
    assert set(found) == set(expected)
    for name, what in expected.items():
        assert stored[name + SUFFIX].data_type == TensorProto.FLOAT
        np.testing.assert_array_equal(found[name], numpy_helper.to_array(stored[name + SUFFIX]))
        assert found[name].ndim == what.ndim
        np.testing.assert_array_equal(np.broadcast_to(found[name], what.shape), what, err_msg=name)


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("mode", PLAN_MODES)
def test_the_report_says_what_trains_and_how_much_of_all(builder: Builder, mode: PlanMode, tmp_path: Path) -> None:
    model = builder(0)
    vendor = save(model, tmp_path / "model.onnx")
    report = mask(vendor, tmp_path / "masked.onnx", Phi(0.3), MaskOptions(mode=mode))
    reference = by_experiment(model)
    expected = reference.masks(reference.below(0.3), phi=0.3, readers=mode == "readers")
    paper = reference.masks(reference.below(0.3))
    assert {entry.name for entry in report.params} == set(expected)
    for entry in report.params:
        rows = paper[entry.name].reshape(len(paper[entry.name]), -1)
        assert entry.filters == len(rows)
        assert entry.retrain == tuple(np.flatnonzero(rows.all(axis=1)))
        assert all(type(index) is int for index in (*entry.retrain, *entry.maps))
        if mode == "paper" or rows.shape[1] == 1:
            assert entry.maps == ()
    trained, every = (sum(int(f(m)) for m in expected.values()) for f in (np.count_nonzero, np.size))
    assert report.rho == trained / every
    assert 0 < report.rho < 1


def test_the_report_names_released_maps_and_notes(tmp_path: Path) -> None:
    vendor = save(models.shared_weights(), tmp_path / "model.onnx")
    report = mask(
        vendor, tmp_path / "masked.onnx", Filters({"w": [2], "w1": [3, 4], "w2": [4, 5]}), MaskOptions(mode="readers")
    )
    params = {entry.name: entry for entry in report.params}
    assert (params["w"].node, params["w"].retrain, params["w"].maps) == ("left_shared", (2,), (4,))
    assert (params["w5"].retrain, params["w5"].maps, params["w5"].note) == ((), (2, 9), "")
    assert (params["w2"].node, params["w2"].retrain, params["w2"].maps) == ("right", (4, 5), ())


def test_the_metadata_tells_format_selection_and_the_hash_of_the_base(tmp_path: Path) -> None:
    vendor = save(models.chain(), tmp_path / "model.onnx")
    report = mask(vendor, tmp_path / "masked.onnx", Percentile(40, alpha=0.5, k=4), MaskOptions(mode="readers"))
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "masked.onnx").metadata_props}
    selection = json.loads(metadata["tgdonnx.selection"])
    assert selection == {
        "strategy": "percentile",
        "percentile": 40,
        "alpha": 0.5,
        "k": 4,
        "phi": selection["phi"],
        "mode": "readers",
        "round": 1,
    }
    assert metadata == {
        "tgdonnx.format": "1",
        "tgdonnx.selection": metadata["tgdonnx.selection"],
        "tgdonnx.base_sha256": hashlib.sha256(vendor.read_bytes()).hexdigest(),
    }
    assert report.selection == selection
    assert read_masked(tmp_path / "masked.onnx").selection == selection


def test_a_file_that_was_tuned_before_is_masked_for_the_next_round(tmp_path: Path) -> None:
    model = models.chain()
    model.metadata_props.add(key="tgdonnx.provenance.1", value="{}")
    vendor, output = masked(model, tmp_path)
    assert read_masked(output).selection["round"] == 2
    assert read_masked(output).base.data == vendor.read_bytes()


def test_the_added_bytes_are_the_end_of_the_graph_and_the_end_of_the_file(tmp_path: Path) -> None:
    vendor, output = masked(models.chain(), tmp_path)
    before, after = onnx.load(vendor), onnx.load(output)
    count = len(before.graph.initializer)
    assert list(after.graph.initializer[:count]) == list(before.graph.initializer)
    assert [t.name for t in after.graph.initializer[count:]] == [
        name + SUFFIX for name in ("w1", "w2", "w3", "w4", "b1", "b3", "b4")
    ]
    del after.graph.initializer[count:], after.metadata_props[:]
    assert after == before


def test_what_no_serialiser_would_write_survives(tmp_path: Path) -> None:
    # Unknown fields in graph and model, fields out of order, a weight in two pieces.
    model = models.chain()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "w2")
    model.graph.initializer.remove(weight)
    raw = weight.raw_data
    weight.ClearField("raw_data")
    pieces = b"".join(_block(4, part) for part in (raw[:40], raw[40:]))
    graph = _block(5, pieces + weight.SerializeToString()) + _block(900, b"unknown") + model.graph.SerializeToString()
    model.ClearField("graph")
    data = _block(7, graph) + _block(901, b"unknown") + model.SerializeToString()
    vendor = tmp_path / "model.onnx"
    vendor.write_bytes(data)
    mask(vendor, tmp_path / "masked.onnx", Phi(0.3), MaskOptions(mode="readers"))
    assert read_masked(tmp_path / "masked.onnx").base.data == data
    save(models.chain(), tmp_path / "plain.onnx")
    mask(tmp_path / "plain.onnx", tmp_path / "plain_masked.onnx", Phi(0.3), MaskOptions(mode="readers"))
    expected, found = (read_masked(tmp_path / name).masks for name in ("plain_masked.onnx", "masked.onnx"))
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    feeds = random_feeds(models.chain())
    assert outputs(tmp_path / "masked.onnx", feeds) == outputs(tmp_path / "plain.onnx", feeds)


def _block(number: int, body: bytes) -> bytes:
    message = onnx.GraphProto(doc_string="x" * len(body)).SerializeToString()  # field 10; borrow its length
    key = number << 3 | 2
    head = bytes([key]) if key < 128 else bytes([key & 0x7F | 0x80, key >> 7])
    return head + (message[1 : len(message) - len(body)] if body else b"\x00") + body


def test_listed_filters_may_be_numbers_and_arrays_of_numpy(tmp_path: Path) -> None:
    vendor = save(models.chain(), tmp_path / "model.onnx")
    rows = np.flatnonzero([0, 1, 0, 1, 0, 0])
    for i, chosen in enumerate((rows, list(rows), rows.tolist())):
        mask(vendor, tmp_path / f"{i}.onnx", Filters({"w2": chosen}))
        found = read_masked(tmp_path / f"{i}.onnx")
        assert found.selection["filters"] == {"w2": [1, 3]}
        np.testing.assert_array_equal(found.masks["w2"][:, 0, 0, 0], [0, 1, 0, 1, 0, 0])


def test_old_files_list_the_masks_among_the_inputs_but_ask_for_none(tmp_path: Path) -> None:
    _, output = masked(models.ir_3(), tmp_path)
    graph = onnx.load(output).graph
    inputs = {value.name for value in graph.input}
    assert {tensor.name for tensor in graph.initializer} < inputs
    assert "w1" + SUFFIX in inputs
    session = open_session(output)
    assert [value.name for value in session.get_inputs()] == ["x"]


def test_new_files_do_not_list_the_masks_among_the_inputs(tmp_path: Path) -> None:
    model = models.chain()
    for tensor in model.graph.initializer:  # defaults that a caller may override
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    vendor, output = masked(model, tmp_path)
    assert [value.name for value in onnx.load(output).graph.input] == [value.name for value in model.graph.input]
    onnx.checker.check_model(onnx.load(output), full_check=True)
    assert read_masked(output).base.data == vendor.read_bytes()


# External data.


@pytest.mark.parametrize(
    ("shift", "sharing"),
    [(0, {"b3", "bn2_scale"}), (16, {"b3", "bn2_scale", "bn2_offset"}), (-8, {"b3", "bn2_scale", "w2"})],
)
def test_tensors_that_share_bytes_of_external_data_stay_frozen_since_one_would_move_the_other(
    shift: int, sharing: set[str], tmp_path: Path
) -> None:
    model = externalise(models.dncnn(), tmp_path)
    offsets = {
        tensor.name: entry
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "offset"
    }
    offsets["b3"].value = str(int(offsets["bn2_scale"].value) + shift)
    report = mask(save(model, tmp_path / "model.onnx"), tmp_path / "masked.onnx", AllLayers())
    noted = {param.name for param in report.params if "lies in the same bytes of 'weights.bin'" in param.note}
    # The scale of a filter that is frozen itself needs no further reason.
    assert noted == sharing - ({"bn2_scale"} if "w2" in sharing else set())
    assert sharing <= {param.name for param in report.params if not param.retrain}
    assert any(param.retrain for param in report.params)


@pytest.mark.parametrize("where", ["vendor", "elsewhere"])
def test_external_data_is_beside_the_masked_model(where: str, tmp_path: Path) -> None:
    for name in ("vendor", "elsewhere"):
        (tmp_path / name).mkdir()
    vendor = save(externalise(models.dncnn(), tmp_path / "vendor"), tmp_path / "vendor" / "model.onnx")
    data = (tmp_path / "vendor" / "weights.bin").read_bytes()
    output = tmp_path / where / "masked.onnx"
    mask(vendor, output, Phi(0.3), MaskOptions(mode="readers"))
    assert (tmp_path / where / "masked.onnx.data").read_bytes() == data
    assert (tmp_path / "vendor" / "weights.bin").read_bytes() == data
    assert (tmp_path / "elsewhere" / "weights.bin").exists() is False
    onnx.checker.check_model(str(output), full_check=True)
    feeds = random_feeds(models.dncnn())
    assert outputs(output, feeds) == outputs(vendor, feeds)
    assert read_masked(output).base.data == vendor.read_bytes()

    inside = save(models.dncnn(), tmp_path / "inside.onnx")
    mask(inside, tmp_path / "inside_masked.onnx", Phi(0.3), MaskOptions(mode="readers"))
    expected = read_masked(tmp_path / "inside_masked.onnx").masks
    found = read_masked(output).masks
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_missing_external_data_is_refused_and_nothing_written(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    vendor = save(externalise(models.dncnn(), tmp_path), tmp_path / "model.onnx")
    (tmp_path / "weights.bin").unlink()
    for strategy in (Phi(0.3), AllLayers()):
        with pytest.raises(ModelFileError, match=r"keeps weights in 'weights\.bin'"):
            mask(vendor, tmp_path / "out" / "masked.onnx", strategy)
    assert list((tmp_path / "out").iterdir()) == []


# Refusals when masking.


def test_a_masked_model_is_not_masked_again(tmp_path: Path) -> None:
    _, output = masked(models.chain(), tmp_path)
    with pytest.raises(
        MaskedModelError, match=r"masked\.onnx has retrain masks already; start from the vendor's file$"
    ):
        mask(output, tmp_path / "again.onnx", AllLayers())
    assert not (tmp_path / "again.onnx").exists()


@pytest.mark.parametrize("suffix", [".retrain_mask", ".vendor_values", ".set_mask"])
@pytest.mark.parametrize("what", ["tensor", "sparse tensor", "tensor without a base"])
def test_a_vendors_tensor_that_is_called_like_ours_is_refused_by_its_name(
    what: str, suffix: str, tmp_path: Path
) -> None:
    model, name = models.chain(), ("nothing" if what == "tensor without a base" else "w1") + suffix
    tensor = numpy_helper.from_array(np.ones((8,), np.float32), name)
    if what == "sparse tensor":
        indices = numpy_helper.from_array(np.arange(8), "indices")
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(tensor, indices, [8]))
    else:
        model.graph.initializer.append(tensor)
    path = save(model, tmp_path / "model.onnx")
    for command in (lambda: mask(path, tmp_path / "masked.onnx", AllLayers()), lambda: check(path)):
        with pytest.raises(
            MaskedModelError, match=re.escape(f"a tensor {name!r}, which is how masked models are marked")
        ):
            command()
    assert not (tmp_path / "masked.onnx").exists()


@pytest.mark.parametrize(
    "keys",
    [
        ["tgdonnx.format"],
        ["tgdonnx.selection"],
        ["tgdonnx.base_sha256", "tgdonnx.format"],
        ["tgdonnx.vendor_values_sha256"],
        ["tgdonnx.vendor_external_data"],
    ],
)
@pytest.mark.parametrize("value", ["", "1", "{", "\x1b[31m"])
def test_a_vendors_metadata_that_is_called_like_ours_is_refused_by_its_name(
    keys: list[str], value: str, tmp_path: Path
) -> None:
    model = models.chain()
    for key in keys:
        model.metadata_props.add(key=key, value=value)
    path = save(model, tmp_path / "model.onnx")
    for command in (lambda: mask(path, tmp_path / "masked.onnx", AllLayers()), lambda: check(path)):
        with pytest.raises(MaskedModelError, match=f"metadata '{keys[0]}', which is how masked models are marked"):
            command()
    assert not (tmp_path / "masked.onnx").exists()
    assert len(score(path).layers) == len(trace(path).layers) == 4  # for reading it does not matter


@pytest.mark.parametrize("key", ["tgdonnx.format", "tgdonnx.selection", "tgdonnx.base_sha256"])
def test_a_masked_model_that_says_a_thing_twice_is_refused(key: str, tmp_path: Path) -> None:
    _, output = masked(models.chain(), tmp_path)
    model = onnx.load(output)
    model.metadata_props.add(key=key, value=next(e.value for e in model.metadata_props if e.key == key))
    with pytest.raises(MaskedModelError, match=f"the metadata '{key}' twice"):
        read_masked(save(model, output))


def test_a_selection_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    _, output = masked(models.chain(), tmp_path)
    model = onnx.load(output)
    next(e for e in model.metadata_props if e.key == "tgdonnx.selection").value = "[" * 200_000
    with pytest.raises(MaskedModelError, match=r"'tgdonnx\.selection' in .* is no JSON"):
        read_masked(save(model, output))


def test_metadata_of_another_prefix_is_the_vendors_own(tmp_path: Path) -> None:
    model = models.chain()
    for key in ("tgdonnx", "tgdonnx.x", "TGDONNX.FORMAT", "tgdonnx.format ", ""):
        model.metadata_props.add(key=key, value="x")
    path = save(model, tmp_path / "model.onnx")
    mask(path, tmp_path / "masked.onnx", AllLayers())
    assert read_masked(tmp_path / "masked.onnx").base.data == path.read_bytes()


def test_a_name_that_a_mask_would_take_is_refused(tmp_path: Path) -> None:
    # A value of the vendor's that is called like a mask: the masked file would have two things of one name.
    model = models.chain()
    for node in model.graph.node:
        node.input[:] = ["w1" + SUFFIX if name == "t1" else name for name in node.input]
        node.output[:] = ["w1" + SUFFIX if name == "t1" else name for name in node.output]
    onnx.checker.check_model(model, full_check=True)
    vendor, output = save(model, tmp_path / "model.onnx"), tmp_path / "masked.onnx"
    try:
        mask(vendor, output, Phi(0.3))
    except TgdonnxError:
        assert not output.exists()
        return
    onnx.checker.check_model(onnx.load(output), full_check=True)
    assert outputs(output, random_feeds(model)) == outputs(vendor, random_feeds(model))


def test_an_existing_output_is_kept_unless_it_may_be_overwritten(tmp_path: Path) -> None:
    vendor = save(models.chain(), tmp_path / "model.onnx")
    output = tmp_path / "masked.onnx"
    output.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"masked\.onnx exists; pass `overwrite=True`"):
        mask(vendor, output, Phi(0.3))
    assert output.read_bytes() == b"precious"
    mask(vendor, output, Phi(0.3), overwrite=True)
    assert read_masked(output).base.data == vendor.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masked.onnx", "model.onnx"]


def test_a_refused_selection_writes_nothing(tmp_path: Path) -> None:
    vendor = save(models.chain(), tmp_path / "model.onnx")
    for strategy in (Phi(0.0), Phi(2.0), Filters({"w7": [0]})):
        with pytest.raises(SelectionError):
            mask(vendor, tmp_path / "masked.onnx", strategy)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


# Masked models that are none.


def tampered(directory: Path, change: Callable[[onnx.ModelProto], None], builder: Builder = models.chain) -> Path:
    _, output = masked(builder(0), directory, mode="readers")
    model = onnx.load(output, load_external_data=False)
    change(model)
    return save(model, directory / "tampered.onnx")


def set_mask(name: str, array: Any) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name + SUFFIX)
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(array), tensor.name))

    return change


def set_metadata(key: str, value: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        next(entry for entry in model.metadata_props if entry.key == key).value = value

    return change


def test_masks_may_be_changed_by_hand(tmp_path: Path) -> None:
    wanted = np.zeros((6, 1, 1, 1), np.float32)
    wanted[3] = 1
    found = read_masked(tampered(tmp_path, set_mask("w2", wanted)))
    np.testing.assert_array_equal(found.masks["w2"], wanted)
    assert found.base.data == (tmp_path / "model.onnx").read_bytes()


def half(index: tuple[int, ...]) -> Any:
    array = np.zeros((6, 8, 1, 1), np.float32)
    array[index] = 0.5
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_mask("w2", half((4, 1, 0, 0))), "'w2.retrain_mask' holds 0.5; expected 0 or 1"),
        (set_mask("b1", np.full(8, np.nan, np.float32)), "'b1.retrain_mask' holds nan; expected 0 or 1"),
        (set_mask("b1", np.full(8, -1, np.float32)), "'b1.retrain_mask' holds -1.0; expected 0 or 1"),
        (
            set_mask("w2", np.ones((5, 1, 1, 1), np.float32)),
            "'w2.retrain_mask' has shape [5, 1, 1, 1], which does not broadcast against [6, 8, 1, 1]",
        ),
        (
            set_mask("w2", np.ones((1, 6, 1, 1, 1), np.float32)),
            "'w2.retrain_mask' has shape [1, 6, 1, 1, 1], which does not broadcast against [6, 8, 1, 1]",
        ),
        (
            set_mask("w2", np.ones(8, np.float32)),
            "'w2.retrain_mask' has shape [8], which does not broadcast against [6, 8, 1, 1]",
        ),
        (
            lambda model: model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "ghost" + SUFFIX)),
            "'ghost.retrain_mask' belongs to no tensor: there is no 'ghost' in ",
        ),
        (
            set_metadata("tgdonnx.format", "4"),
            "has masks of format 4; this version reads formats 1 to 3: update tgdonnx",
        ),
        (set_metadata("tgdonnx.base_sha256", "0" * 64), "without its masks is not the file that was masked; mask it again"),
        (lambda model: model.metadata_props.pop(), "has no retrain masks; make them with `tgdonnx.mask`"),
    ],
)  # fmt: skip
def test_a_masked_model_that_breaks_the_format_is_refused(
    change: Callable[[onnx.ModelProto], None], message: str, tmp_path: Path
) -> None:
    path = tampered(tmp_path, change)
    with pytest.raises(MaskedModelError, match=re.escape(message)):
        read_masked(path)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.bool_, np.float16])
def test_a_mask_of_another_type_is_refused(dtype: type, tmp_path: Path) -> None:
    path = tampered(tmp_path, set_mask("b1", np.ones(8, dtype)))
    with pytest.raises(MaskedModelError, match=r"b1\.retrain_mask"):
        read_masked(path)


@pytest.mark.parametrize("value", ["", "no json", "[1, 2]", "null"])
def test_a_damaged_selection_is_refused(value: str, tmp_path: Path) -> None:
    path = tampered(tmp_path, set_metadata("tgdonnx.selection", value))
    with pytest.raises(MaskedModelError):
        read_masked(path)


@pytest.mark.parametrize("damage", ["too little data", "data elsewhere", "unknown type"])
def test_a_mask_that_cannot_be_read_is_refused(damage: str, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "b1" + SUFFIX)
        if damage == "too little data":
            tensor.raw_data = tensor.raw_data[:-4]
        elif damage == "unknown type":
            tensor.data_type = 999
        else:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="/etc/hostname")

    path = tampered(tmp_path, change)
    with pytest.raises((MaskedModelError, ModelFileError), match=r"b1\.retrain_mask"):
        read_masked(path)


def test_any_change_to_the_vendor_s_bytes_is_noticed(tmp_path: Path) -> None:
    vendor, output = masked(models.ir_3(), tmp_path)
    data = output.read_bytes()
    size = len(vendor.read_bytes())
    refused = 0
    for place in range(30, size - 30, 41):
        changed = bytearray(data)
        changed[place] ^= 1
        (tmp_path / "changed.onnx").write_bytes(changed)
        with pytest.raises((MaskedModelError, ModelFileError)):
            read_masked(tmp_path / "changed.onnx")
        refused += 1
    assert refused > 50


def test_a_file_without_masks_is_told_how_to_get_them(tmp_path: Path) -> None:
    path = save(models.chain(), tmp_path / "model.onnx")
    with pytest.raises(MaskedModelError, match=r"model\.onnx has no retrain masks; make them with `tgdonnx\.mask`$"):
        read_masked(path)


def test_masked_bytes_do_not_depend_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    texts = []
    for path in (tmp_path / "one.onnx", tmp_path / "a" / "two.onnx"):
        network = open_network(save(models.gated(), path))
        provenance = trace_network(network)
        masks = plan_masks(provenance, select(provenance, Phi(0.3)), "paper")
        texts.append(masked_bytes(network, masks, {"strategy": "phi"}))
    assert texts[0] == texts[1]
    (tmp_path / "read.onnx").write_bytes(texts[0])
    assert isinstance(read_masked(tmp_path / "read.onnx"), MaskedModel)


# Masks in short, for records.


@pytest.fixture(scope="module")
def networks_of_all(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("networks")
    return {name: open_network(save(builder(0), directory / f"{name}.onnx")) for name, builder in MODELS.items()}


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_a_mask_in_short_is_read_back_as_it_was(networks_of_all: dict[str, Any], data: st.DataObject) -> None:
    network = networks_of_all[data.draw(st.sampled_from(sorted(networks_of_all)))]
    weights = [layer.weight for layer in network.layers]
    parameter = data.draw(st.sampled_from(weights))
    per_axis = [data.draw(st.sampled_from([1, dim])) for dim in parameter.shape]
    if data.draw(st.booleans()):
        per_axis[0] = parameter.shape[0]
        per_axis[1:] = [1] * (len(per_axis) - 1)
    bits = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = (bits.random(per_axis) < data.draw(st.sampled_from([0.0, 0.2, 0.8, 1.0]))).astype(np.float32)
    retrain, kernels = encode_mask(values, network, parameter.name)
    read = decode_mask(json.loads(json.dumps(retrain)), kernels, network, parameter.name)
    np.testing.assert_array_equal(np.broadcast_to(read, parameter.shape), np.broadcast_to(values, parameter.shape))
    assert read.dtype == np.float32
    whole = np.broadcast_to(values, parameter.shape).reshape(parameter.shape[0], -1).all(axis=1)
    assert retrain == tuple(np.flatnonzero(whole))
    rows = np.broadcast_to(values, parameter.shape).reshape(parameter.shape[0], -1)
    assert (kernels is None) == (rows == whole[:, None]).all()


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("mode", PLAN_MODES)
def test_planned_masks_in_short_are_read_back_as_they_were(builder: Builder, mode: PlanMode, tmp_path: Path) -> None:
    network = open_network(save(builder(0), tmp_path / "model.onnx"))
    provenance = trace_network(network)
    for entry in plan_masks(provenance, select(provenance, Phi(0.4)), mode):
        name, shape = entry.parameter.name, entry.parameter.shape
        retrain, kernels = encode_mask(entry.values, network, name)
        assert mode == "readers" or kernels is None
        read = decode_mask(retrain, kernels, network, name)
        np.testing.assert_array_equal(np.broadcast_to(read, shape), np.broadcast_to(entry.values, shape), err_msg=name)


@pytest.mark.parametrize("kernels", ["", "6x8x1x1", "6x8x1x1:", "6x8x1x1:!!", "axb:eJw=", "6x8x1x1:AAAA"])
def test_a_mask_in_short_that_was_not_written_so_is_refused(kernels: str, tmp_path: Path) -> None:
    network = open_network(save(models.chain(), tmp_path / "model.onnx"))
    with pytest.raises(ValueError):  # noqa: PT011  # of several makers
        decode_mask([], kernels, network, "w2")
