"""Files with side paths that were touched are found, whatever the record in them says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import tgdonnx
from tests.adapting.networks import EVERYWHERE, NETWORKS, adapter
from tests.support.forging import Record, body_of, entry, tune_by_hand
from tests.support.models import save
from tgdonnx.errors import MaskedModelError
from tgdonnx.masked_model import read_masked

PREFIX = "tgdonnx.adapter.1."


@pytest.fixture
def honest(tmp_path: Path) -> tuple[Path, Path, Record]:
    """The vendor's file, a tuned one, and its record."""
    vendor = save(NETWORKS["conv"], tmp_path / "model.onnx")
    tgdonnx.mask(vendor, tmp_path / "masked.onnx", EVERYWHERE, adapter())
    record = tune_by_hand(tmp_path / "masked.onnx", tmp_path / "tuned.onnx")
    proof = tgdonnx.verify(vendor, tmp_path / "tuned.onnx")
    assert (proof.ok, proof.violations) == (True, ())
    return vendor, tmp_path / "tuned.onnx", record


def tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(each for each in model.graph.initializer if each.name == name)


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(each for each in model.graph.node if each.name == name)


def change_weight(model: onnx.ModelProto) -> None:
    values = numpy_helper.to_array(tensor(model, "w")).copy()
    values[0, 0, 0, 0] += 1
    tensor(model, "w").raw_data = values.tobytes()


def change_bias(model: onnx.ModelProto) -> None:
    tensor(model, "b").raw_data = np.zeros(5, np.float32).tobytes()


def change_node(model: onnx.ModelProto) -> None:
    node(model, "R").op_type = "Elu"


def change_layer(model: onnx.ModelProto) -> None:
    node(model, "A").attribute[0].ints[:] = [0, 0, 2, 2]


def change_path(model: onnx.ModelProto) -> None:
    node(model, f"{PREFIX}A.maps").attribute[0].ints[:] = [0, 0, 2, 2]


def rewire_path(model: onnx.ModelProto) -> None:
    node(model, f"{PREFIX}Y.maps").input[0] = "a"


def rewire_sum(model: onnx.ModelProto) -> None:
    node(model, f"{PREFIX}Y.sum").input[0] = f"{PREFIX}Y.path"


def exchange_sum(model: onnx.ModelProto) -> None:
    node(model, f"{PREFIX}Y.sum").op_type = "Sub"


def add_node(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Identity", ["r"], [f"{PREFIX}spy"], f"{PREFIX}spy"))


def add_tensor(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), f"{PREFIX}more"))


def add_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(onnx.ValueInfoProto(name=f"{PREFIX}A.maps"))


def remove_path(model: onnx.ModelProto) -> None:
    for name in ("maps", "path", "sum"):
        model.graph.node.remove(node(model, f"{PREFIX}Y.{name}"))
    for name in ("down", "up"):
        model.graph.initializer.remove(tensor(model, f"{PREFIX}Y.{name}"))
    node(model, "Y").output[0] = "y"


def widen_path(model: onnx.ModelProto) -> None:
    for name, axis in (("down", 0), ("up", 1)):
        values = numpy_helper.to_array(tensor(model, f"{PREFIX}Y.{name}"))
        doubled = np.concatenate([values, values], axis)
        tensor(model, f"{PREFIX}Y.{name}").CopyFrom(numpy_helper.from_array(doubled, f"{PREFIX}Y.{name}"))


TOUCHED = (
    *(change_weight, change_bias, change_node, change_layer, change_path, rewire_path, rewire_sum, exchange_sum),
    *(add_node, add_tensor, add_output, remove_path, widen_path),
)


@pytest.mark.parametrize("touch", TOUCHED)
def test_a_touched_file_fails(
    touch: Callable[[onnx.ModelProto], None], honest: tuple[Path, Path, Record], tmp_path: Path
) -> None:
    vendor, path, record = honest
    body = onnx.ModelProto.FromString(body_of(path.read_bytes(), record))
    touch(body)
    path.write_bytes(body.SerializeToString() + entry(1, record))
    for masked in (None, tmp_path / "masked.onnx"):
        proof = tgdonnx.verify(vendor, path, masked)
        assert not proof.ok
        assert proof.violations


def other_rank(record: Record) -> None:
    record["selection"]["rank"] = 1


def other_layers(record: Record) -> None:
    record["selection"] = {"strategy": "last", "last": 1, "mode": "adapter", "round": 1, "rank": 2, "seed": 0}


def other_mode(record: Record) -> None:
    record["selection"] = {"strategy": "all", "mode": "paper", "round": 1}


def no_rank(record: Record) -> None:
    del record["selection"]["rank"]


def vendors_weight(record: Record) -> None:
    record["trained"]["w"] = {"retrain": [0, 1, 2, 3, 4], "kernels": None}


def part_of_a_path(record: Record) -> None:
    record["trained"][f"{PREFIX}A.up"] = {"retrain": [0], "kernels": None}


def merged(record: Record) -> None:
    record["merged"] = True


def at_zero(record: Record) -> None:
    record.update(format=2, blend=0.0)


@pytest.mark.parametrize(
    "forge", [other_rank, other_layers, other_mode, no_rank, vendors_weight, part_of_a_path, merged, at_zero]
)
def test_a_record_that_says_something_else_fails(
    forge: Callable[[Record], None], honest: tuple[Path, Path, Record]
) -> None:
    vendor, path, record = honest
    body = body_of(path.read_bytes(), record)
    forge(record)
    path.write_bytes(body + entry(1, record))
    proof = tgdonnx.verify(vendor, path)
    assert not proof.ok
    assert proof.violations


def test_another_seed_in_the_record_is_believed_only_where_all_trained(
    honest: tuple[Path, Path, Record],
) -> None:
    """What a path starts with is gone after training; what did not train is that of the seed."""
    vendor, path, record = honest
    body = body_of(path.read_bytes(), record)
    record["selection"]["seed"] = 5
    path.write_bytes(body + entry(1, record))
    assert tgdonnx.verify(vendor, path).ok
    del record["trained"][f"{PREFIX}A.down"]
    path.write_bytes(body + entry(1, record))
    assert not tgdonnx.verify(vendor, path).ok


def test_a_merged_file_may_differ_in_weights_beside_paths_alone(honest: tuple[Path, Path, Record]) -> None:
    vendor, path, record = honest
    model = onnx.load(vendor)
    change_weight(model)
    record.update(merged=True, trained={"w": {"retrain": [0, 1, 2, 3, 4], "kernels": None}})
    path.write_bytes(model.SerializeToString() + entry(1, record))
    assert tgdonnx.verify(vendor, path).ok
    change_bias(model)
    path.write_bytes(model.SerializeToString() + entry(1, record))
    assert not tgdonnx.verify(vendor, path).ok
    record["trained"]["b"] = {"retrain": [0, 1, 2, 3, 4], "kernels": None}
    path.write_bytes(model.SerializeToString() + entry(1, record))
    (violation,) = tgdonnx.verify(vendor, path).violations
    assert "'b' is said to have trained, but is not what trains" in violation


def test_a_list_of_filters_contradicts_side_paths(honest: tuple[Path, Path, Record]) -> None:
    vendor, path, _ = honest
    (violation,) = tgdonnx.verify(vendor, path, filters={"w": [0]}).violations
    assert "retrains none" in violation


def touched_masked(path: Path, touch: Callable[[onnx.ModelProto], Any]) -> None:
    model = onnx.load(path)
    touch(model)
    path.write_bytes(model.SerializeToString())


def let_the_vendors_train(model: onnx.ModelProto) -> None:
    tensor(model, "w.retrain_mask").CopyFrom(
        numpy_helper.from_array(np.ones((5, 1, 1, 1), np.float32), "w.retrain_mask")
    )


def start_louder(model: onnx.ModelProto) -> None:
    values = np.ones((4, 2, 1, 1), np.float32)
    tensor(model, f"{PREFIX}Y.up").CopyFrom(numpy_helper.from_array(values, f"{PREFIX}Y.up"))


@pytest.mark.parametrize("touch", [*TOUCHED, let_the_vendors_train, start_louder])
def test_a_touched_masked_model_is_refused(touch: Callable[[onnx.ModelProto], None], tmp_path: Path) -> None:
    tgdonnx.mask(save(NETWORKS["conv"], tmp_path / "model.onnx"), tmp_path / "masked.onnx", EVERYWHERE, adapter())
    assert read_masked(tmp_path / "masked.onnx").masks
    touched_masked(tmp_path / "masked.onnx", touch)
    with pytest.raises(MaskedModelError):
        read_masked(tmp_path / "masked.onnx")
