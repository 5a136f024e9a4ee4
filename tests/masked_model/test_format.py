"""Format 2: what training starts from lies in the masked file, and the vendor's file comes back out of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import tgdonnx
from tests.masked_model.regrown import (
    LOWEST,
    RECORD,
    VARIANTS,
    invent,
    outputs,
    random_values,
    regrow_by_hand,
    started,
    stored_tensors,
    tampered,
    variant,
)
from tests.oracles.independent import tensors_of
from tests.oracles.protobuf import field
from tests.support.external_models import externalise
from tests.support.models import MODELS, Array, Builder, chain, dncnn, random_feeds, save
from tgdonnx.errors import MaskedModelError, ModelFileError
from tgdonnx.layers import Network, open_network
from tgdonnx.masked_model import (
    SUFFIX,
    is_masked,
    masked_bytes,
    read_masked,
    require_unmasked,
    runnable_vendor,
    write_masked,
    write_vendor,
)
from tgdonnx.selection import PLAN_MODES, Mode, Phi, RetrainMask, plan_masks, select
from tgdonnx.tracing import trace_network


def of_filters(network: Network, name: str, values: Array) -> RetrainMask:
    """A retrain mask by hand."""
    rows = values.ravel() == 1
    return RetrainMask(network.stored_parameters[name], "by hand", rows, np.zeros(0, bool), values, None)


# What is written, and read again.


@pytest.mark.parametrize("name", VARIANTS)
def test_what_was_written_is_read_and_the_vendors_bytes_come_back(name: str, tmp_path: Path) -> None:
    _, hand = variant(name, tmp_path)
    assert hand.values, "something is reinitialised"
    assert any(mask.any() for mask in hand.set_masks.values()), "something is set"
    found = read_masked(hand.masked)
    assert found.base.data == hand.vendor.read_bytes()
    assert found.base.proto == onnx.load(hand.vendor)
    assert found.selection == RECORD
    assert found.masks.keys() == {m.parameter.name for m in hand.masks}
    for m in hand.masks:
        np.testing.assert_array_equal(found.masks[m.parameter.name], m.values)
    assert found.set_masks.keys() == hand.set_masks.keys()
    for key, mask in hand.set_masks.items():
        np.testing.assert_array_equal(found.set_masks[key], mask)
    assert found.vendor_values.keys() == hand.values.keys()
    vendor, start = stored_tensors(hand.vendor), {k: p.numpy() for k, p in found.network.stored_parameters.items()}
    assert vendor.keys() == start.keys()
    for key, values in vendor.items():
        assert start[key].dtype == values.dtype
        assert start[key].tobytes() == hand.values.get(key, values).tobytes(), key
        if key in found.vendor_values:
            assert found.vendor_values[key].tobytes() == values.tobytes(), key
            assert start[key].tobytes() != values.tobytes(), key


@pytest.mark.parametrize("name", VARIANTS)
def test_the_masked_file_is_valid_and_gives_the_outputs_of_the_start_in_a_runtime(name: str, tmp_path: Path) -> None:
    model, hand = variant(name, tmp_path)
    onnx.checker.check_model(onnx.load(hand.masked), full_check=True)
    feeds = random_feeds(model)
    found = outputs(hand.masked, feeds)
    assert found == outputs(started(model, hand.values), feeds)
    assert found != outputs(hand.vendor, feeds)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_start_is_the_vendors_file_with_other_values_and_nothing_else(name: str, tmp_path: Path) -> None:
    model, hand = variant(name, tmp_path)
    start = onnx.ModelProto.FromString(read_masked(hand.masked).start.data)
    assert len(start.SerializeToString()) == len(model.SerializeToString())
    for tensor in (*tensors_of(start).values(), *tensors_of(model).values()):
        for name in ("raw_data", "float_data", "int32_data"):
            tensor.ClearField(name)
    assert start == model


def test_the_file_has_masks_values_and_metadata_by_the_names_of_the_format(tmp_path: Path) -> None:
    model, hand = variant("dncnn", tmp_path)
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(hand.masked).graph.initializer}
    added = {name: array for name, array in stored.items() if name not in tensors_of(model)}
    trained = [m.parameter.name for m in hand.masks]
    assert list(added) == [
        *(name + ".retrain_mask" for name in trained),
        *(name + ".vendor_values" for name in hand.values),
        *(name + ".set_mask" for name in hand.set_masks),
    ]
    assert added["bn2_mean.set_mask"].dtype == np.float32
    np.testing.assert_array_equal(added["bn2_mean.set_mask"], [1, 0, 0, 0, 0, 0, 0, 0, 1, 0])
    digest = hashlib.sha256()
    for name in sorted(hand.values):
        digest.update(name.encode() + b"\0" + stored_tensors(hand.vendor)[name].tobytes())
    assert {entry.key: entry.value for entry in onnx.load(hand.masked).metadata_props} == {
        "tgdonnx.format": "2",
        "tgdonnx.selection": json.dumps(RECORD),
        "tgdonnx.base_sha256": hashlib.sha256(hand.vendor.read_bytes()).hexdigest(),
        "tgdonnx.vendor_values_sha256": digest.hexdigest(),
    }


def test_old_files_list_all_that_was_added_among_the_inputs_but_ask_for_none(tmp_path: Path) -> None:
    model, hand = variant("ir 3", tmp_path)
    graph = onnx.load(hand.masked).graph
    assert {tensor.name for tensor in graph.initializer} < {value.name for value in graph.input}
    assert {"w1.vendor_values", "bn_mean.set_mask"} < {value.name for value in graph.input}
    assert outputs(hand.masked, random_feeds(model))


def test_a_regrown_model_is_masked(tmp_path: Path) -> None:
    _, hand = variant("chain", tmp_path)
    file = read_masked(hand.masked).file
    assert is_masked(file)
    with pytest.raises(MaskedModelError, match="has retrain masks already"):
        require_unmasked(file)


def test_values_that_are_the_vendors_are_not_stored_twice(tmp_path: Path) -> None:
    vendor = save(dncnn(), tmp_path / "model.onnx")
    network = open_network(vendor)
    masks, values, set_masks = invent(network, np.random.default_rng(0))
    values["w2"] = network.stored_parameters["w2"].numpy()
    write_masked(network, masks, RECORD, tmp_path / "masked.onnx", values=values, set_masks=set_masks)
    found = read_masked(tmp_path / "masked.onnx")
    assert "w2" not in found.vendor_values
    assert found.vendor_values.keys() == values.keys() - {"w2"}
    assert found.base.data == vendor.read_bytes()


def test_a_changed_sign_of_zero_and_another_nan_are_changes(tmp_path: Path) -> None:
    # As numbers these are equal, or are not equal to themselves; the vendor's bits have to come back.
    model = dncnn()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "b3")
    weight.raw_data = np.array([0, np.nan, np.nan, 1, 2, 3, 4], np.float32).tobytes()
    vendor = save(model, tmp_path / "model.onnx")
    network = open_network(vendor)
    everywhere = of_filters(network, "b3", np.ones(7, np.float32))
    bits = np.array([0x80000000, 0x7FC00000, 0x7FC00001], np.uint32).view(np.float32)
    values = np.concatenate([bits, np.array([1, 2, 3, 4], np.float32)])
    write_masked(network, [everywhere], RECORD, tmp_path / "masked.onnx", values={"b3": values})
    found = read_masked(tmp_path / "masked.onnx")
    assert found.network.stored_parameters["b3"].numpy().tobytes() == values.tobytes()
    assert found.base.data == vendor.read_bytes()
    nowhere = of_filters(network, "b3", np.zeros(7, np.float32))
    with pytest.raises(MaskedModelError, match=r"^2 values of 'b3' are not the vendor's, .* the first at \[0\]"):
        masked_bytes(network, [nowhere], RECORD, {"b3": values})


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_values_within_any_masks_come_back_and_any_outside_are_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("random")
    name = data.draw(st.sampled_from(sorted(VARIANTS)))
    vendor = save(VARIANTS[name](data.draw(st.integers(0, 3))), directory / "model.onnx")
    network = open_network(vendor)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    masks, values, set_masks = [], {}, {}
    for planned in plan_masks(trace_network(network), select(trace_network(network), LOWEST), "paper"):
        parameter, old = planned.parameter, planned.parameter.numpy()
        shape = [data.draw(st.sampled_from([1, dim])) for dim in old.shape]
        kinds = rng.choice(3, size=shape, p=[0.4, 0.3, 0.3])  # frozen, trains, set
        retrain, given_value = (kinds == 1).astype(np.float32), (kinds == 2).astype(np.float32)
        masks.append(RetrainMask(parameter, planned.node, planned.filters, planned.maps, retrain, None))
        if data.draw(st.booleans()):
            set_masks[parameter.name] = given_value
        may = np.broadcast_to((kinds == 1) | ((kinds == 2) & (parameter.name in set_masks)), old.shape)
        new = random_values(rng, old)
        values[parameter.name] = np.where(may & (rng.random(old.shape) < 0.7), new, old)
    (directory / "masked.onnx").write_bytes(masked_bytes(network, masks, RECORD, values, set_masks))
    found = read_masked(directory / "masked.onnx")
    assert found.base.data == vendor.read_bytes()
    for key, array in values.items():
        assert found.network.stored_parameters[key].numpy().tobytes() == array.tobytes()
    # One element more, where no mask is 1.
    chosen = data.draw(st.sampled_from(masks))
    key, old = chosen.parameter.name, chosen.parameter.numpy()
    free = np.broadcast_to((chosen.values == 1) | (set_masks.get(key, np.zeros((), np.float32)) == 1), old.shape)
    if not free.all():
        place = tuple(np.argwhere(~free)[rng.integers((~free).sum())])
        stray = values[key].copy()
        stray[place] = random_values(rng, old)[place]
        with pytest.raises(MaskedModelError, match=rf"^1 values of '{key}' are not the vendor's"):
            masked_bytes(network, masks, RECORD, {**values, key: stray}, set_masks)


# Format 1 stays what it was.


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("mode", PLAN_MODES)
def test_a_model_without_reinitialization_is_written_byte_by_byte_as_ever(
    builder: Builder, mode: Mode, tmp_path: Path
) -> None:
    model = builder(0)
    vendor = save(model, tmp_path / "model.onnx")
    report = tgdonnx.mask(vendor, tmp_path / "masked.onnx", Phi(0.3), tgdonnx.MaskOptions(mode=mode))
    network = open_network(vendor)
    provenance = trace_network(network)
    masks = {m.parameter.name: m.values for m in plan_masks(provenance, select(provenance, Phi(0.3)), mode)}
    added = onnx.GraphProto()
    for name, values in masks.items():
        added.initializer.append(numpy_helper.from_array(values, name + ".retrain_mask"))
        if model.ir_version < 4:
            kind = onnx.helper.make_tensor_value_info(name + ".retrain_mask", onnx.TensorProto.FLOAT, values.shape)
            added.input.append(kind)
    metadata = b"".join(
        field(14, field(1, key.encode()) + field(2, value.encode()))
        for key, value in (
            ("tgdonnx.format", "1"),
            ("tgdonnx.selection", json.dumps(report.selection)),
            ("tgdonnx.base_sha256", hashlib.sha256(vendor.read_bytes()).hexdigest()),
        )
    )
    old_graph = field(7, model.graph.SerializeToString())
    before, after = vendor.read_bytes().split(old_graph)
    new_graph = field(7, model.graph.SerializeToString() + added.SerializeToString())
    assert (tmp_path / "masked.onnx").read_bytes() == before + new_graph + after + metadata
    found = read_masked(tmp_path / "masked.onnx")
    assert found.start is found.base
    assert (found.set_masks, found.vendor_values) == ({}, {})
    assert runnable_vendor(found) is found.base


# External data.


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """vendor/model.onnx with all weights in vendor/weights.bin, and an empty directory ``masked``."""
    for name in ("vendor", "masked"):
        (tmp_path / name).mkdir()
    save(externalise(dncnn(), tmp_path / "vendor"), tmp_path / "vendor" / "model.onnx")
    return tmp_path


def test_copied_external_data_holds_the_start_and_the_vendors_is_in_the_masked_file(external: Path) -> None:
    vendor, output = external / "vendor" / "model.onnx", external / "masked" / "masked.onnx"
    before = {path: path.read_bytes() for path in vendor.parent.iterdir()}
    hand = regrow_by_hand(dncnn(), external, vendor=vendor, output=output, statistics=("bn2_mean", "bn3_var"))
    assert {path: path.read_bytes() for path in vendor.parent.iterdir()} == before
    found = read_masked(output)
    assert found.base.data == vendor.read_bytes()
    start, old = stored_tensors(output), stored_tensors(vendor)
    for name, values in old.items():
        assert start[name].tobytes() == hand.values.get(name, values).tobytes(), name
    for name in hand.values:
        assert found.vendor_values[name].tobytes() == old[name].tobytes(), name
        assert found.network.stored_parameters[name].numpy().tobytes() == hand.values[name].tobytes(), name
    feeds = random_feeds(dncnn())
    assert outputs(output, feeds) == outputs(started(dncnn(), hand.values), feeds)
    (external / "back").mkdir()
    assert write_vendor(found, external / "back").read_bytes() == before[vendor]
    assert (external / "back" / "weights.bin").read_bytes() == before[vendor.parent / "weights.bin"]
    vendors = runnable_vendor(found)
    assert vendors.path == output
    values = {name: p.numpy() for name, p in open_network(vendors).stored_parameters.items()}
    assert {name: v.tobytes() for name, v in values.items()} == {name: v.tobytes() for name, v in old.items()}


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_vendors_external_data_is_never_overwritten(overwrite: bool, external: Path) -> None:
    vendor = external / "vendor" / "model.onnx"
    before = (external / "vendor" / "weights.bin").read_bytes()
    network = open_network(vendor)
    masks, values, set_masks = invent(network, np.random.default_rng(0))
    (external / "link").symlink_to(external / "vendor")
    for output in (external / "vendor" / "masked.onnx", external / "link" / "other.onnx"):
        write_masked(network, masks, RECORD, output, values=values, set_masks=set_masks, overwrite=overwrite)
        assert (external / "vendor" / "weights.bin").read_bytes() == before
        start = stored_tensors(output)
        assert {name: start[name].tobytes() for name in values} == {n: v.tobytes() for n, v in values.items()}


def test_of_tensors_that_lie_in_the_same_bytes_none_is_reinitialized(external: Path) -> None:
    vendor = external / "vendor" / "model.onnx"

    def tie(model: onnx.ModelProto) -> None:
        places = {tensor.name: tensor.external_data for tensor in model.graph.initializer}
        next(entry for entry in places["bn3_scale"] if entry.key == "offset").value = next(
            entry.value for entry in places["b3"] if entry.key == "offset"
        )

    tampered(vendor, tie)
    network = open_network(vendor)
    masks, values, set_masks = invent(network, np.random.default_rng(0))
    assert not {"b3", "bn3_scale"} & set(values)
    values["b3"] = network.stored_parameters["b3"].numpy() + np.float32(1)
    set_masks["b3"] = np.ones_like(values["b3"])
    with pytest.raises(
        MaskedModelError, match=r"'b3' would get new values, but it lies in the same bytes of 'weights\.bin' as"
    ):
        write_masked(network, masks, RECORD, external / "masked" / "m.onnx", values=values, set_masks=set_masks)
    assert list((external / "masked").iterdir()) == []


def test_external_values_of_the_vendor_that_were_touched_are_noticed(external: Path) -> None:
    vendor, output = external / "vendor" / "model.onnx", external / "masked" / "masked.onnx"
    hand = regrow_by_hand(dncnn(), external, vendor=vendor, output=output)

    def touch(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == "w2.vendor_values")
        place = int(np.flatnonzero(hand.trains("w2").ravel())[0])
        values = numpy_helper.to_array(tensor).copy()
        values.ravel()[place] += 1
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    tampered(output, touch)
    with pytest.raises(MaskedModelError, match=r"the vendor's values in .* are not those that were put there"):
        read_masked(output)


def test_an_external_file_without_the_start_is_noticed_where_no_mask_is_1(external: Path) -> None:
    vendor, output = external / "vendor" / "model.onnx", external / "masked" / "masked.onnx"
    regrow_by_hand(dncnn(), external, vendor=vendor, output=output)
    data = bytearray((external / "masked" / "masked.onnx.data").read_bytes())
    data[:] = bytes(byte ^ 1 for byte in data)
    (external / "masked" / "masked.onnx.data").write_bytes(data)
    with pytest.raises(MaskedModelError, match=r"values of .* are not the vendor's, though no mask lets them change"):
        read_masked(output)
    (external / "masked" / "masked.onnx.data").unlink()
    with pytest.raises(ModelFileError, match=r"keeps weights in 'masked\.onnx\.data', which is not in"):
        read_masked(output)


# What is not written.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda of: of.values.update(w2=of.values["w2"].astype(np.float64)),
            "'w2' has type float64 and shape [10, 8, 3, 3]; expected float32 and [10, 8, 3, 3]",
        ),
        (
            lambda of: of.values.update(w2=of.values["w2"][:5]),
            "'w2' has type float32 and shape [5, 8, 3, 3]; expected float32 and [10, 8, 3, 3]",
        ),
        (lambda of: of.values.update(w9=of.values["w2"]), "'w9' belongs to no tensor: there is no 'w9' in"),
        (lambda of: of.sets.update(w9=of.sets["w4"]), "'w9.set_mask' belongs to no tensor: there is no 'w9' in"),
        (lambda of: of.sets.update(w4=0.5 * of.sets["w4"]), "'w4.set_mask' holds 0.5; expected 0 or 1"),
        (
            lambda of: of.sets.update(w4=np.ones((3, 7, 2, 1), np.float32)),
            "'w4.set_mask' has shape [3, 7, 2, 1], which does not broadcast against [3, 7, 3, 3]",
        ),
        (
            lambda of: of.sets.update(w4=np.ones((1, 1, 1, 1), np.float32)),
            "'w4.retrain_mask' and 'w4.set_mask' are both 1 at [0, ",
        ),
        (lambda of: of.sets.pop("w4"), "values of 'w4' are not the vendor's, though no mask lets them change"),
        (
            lambda of: of.values.update(bn2_mean=of.values["bn2_scale"]),
            "10 values of 'bn2_mean' are not the vendor's, though no mask lets them change, the first at [0]",
        ),
    ],
)  # fmt: skip
def test_values_that_do_not_go_with_the_masks_are_refused(
    change: Callable[[Any], Any], message: str, tmp_path: Path
) -> None:
    network = open_network(save(dncnn(), tmp_path / "model.onnx"))
    masks, values, set_masks = invent(network, np.random.default_rng(0))
    change(SimpleNamespace(values=values, sets=set_masks))
    with pytest.raises(MaskedModelError) as caught:
        write_masked(network, masks, RECORD, tmp_path / "masked.onnx", values=values, set_masks=set_masks)
    assert message in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_numbers_of_varying_length_are_not_overwritten(tmp_path: Path) -> None:
    model = VARIANTS["float16"](0)
    half = tensors_of(model)["w2.half"]
    bits = numpy_helper.to_array(half).view(np.uint16).ravel()
    half.ClearField("raw_data")
    half.int32_data.extend(int(b) for b in bits)
    network = open_network(save(model, tmp_path / "model.onnx"))
    _, values, _ = invent(network, np.random.default_rng(0))
    assert "w2.half" not in values, "selection freezes it"
    parameter = network.stored_parameters["w2.half"]
    every = of_filters(network, parameter.name, np.ones((10, 1, 1, 1), np.float32))
    with pytest.raises(
        MaskedModelError, match=r"'w2\.half' would get new values, but it is stored as numbers of varying"
    ):
        masked_bytes(network, [every], RECORD, {"w2.half": random_values(np.random.default_rng(0), parameter.numpy())})


@pytest.mark.parametrize("taken", ["w1.vendor_values", "t9.set_mask", "other.vendor_values", "other.retrain_mask"])
def test_a_name_that_an_addition_would_have_is_refused(taken: str, tmp_path: Path) -> None:
    model = chain()
    if taken.startswith("t9"):
        model.graph.input.append(onnx.helper.make_tensor_value_info(taken, onnx.TensorProto.FLOAT, [1]))
    else:
        model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), taken))
    network = open_network(save(model, tmp_path / "model.onnx"))
    masks, values, set_masks = invent(network, np.random.default_rng(0))
    with pytest.raises(MaskedModelError, match=f"has a value '{taken}', as a tensor of a masked model would be called"):
        masked_bytes(network, masks, RECORD, values, set_masks)
    assert masked_bytes(network, masks, RECORD).count(SUFFIX.encode()), (
        "without reinitialisation nobody else uses these names"
    )
