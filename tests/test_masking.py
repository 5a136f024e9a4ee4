"""The masked model: the vendor's file with masks in it, and nothing else."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.selection.reference import by_experiment
from tests.support import models
from tests.support.external_models import externalise
from tests.support.models import MODELS, Builder, random_feeds, save
from tests.support.sessions import open_session
from tgdonnx.checking import check
from tgdonnx.errors import MaskedModelError, ModelFileError, OutputError, SelectionError, TgdonnxError
from tgdonnx.masked_model import SUFFIX, read_masked
from tgdonnx.masking import MaskOptions, mask
from tgdonnx.scoring import score
from tgdonnx.selection import PLAN_MODES, AllLayers, Filters, Percentile, Phi, PlanMode
from tgdonnx.tracing import trace


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
