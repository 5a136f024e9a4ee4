"""`export --blend`: exact to the byte at both ends, within one rounding between, in every mode, type and storage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import tgdonnx
from tests.blending.runs import STATE, invented, record_in, reinitialised, tensors_in
from tests.masked_model.regrown import VARIANTS
from tests.oracles.independent import tensors_of
from tests.regrowing.topologies import TOPOLOGIES
from tests.support.models import Array, random_feeds, save
from tests.sweeping.oracle import outputs, zeroed
from tgdonnx import Percentile
from tgdonnx.engines.onnxruntime.state import read_state
from tgdonnx.errors import DataError
from tgdonnx.selection import Filters

LOWEST = Percentile(40)
READERS = tgdonnx.MaskOptions(mode="readers")


def grid_of(model: onnx.ModelProto, name: str) -> Array:
    """The scale of the DequantizeLinear that reads a tensor, along the tensor's axes; 1 where there is none."""
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] == name:
            scale = onnx.numpy_helper.to_array(tensors_of(model)[node.input[1]]).astype(np.float64)
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            shape = [-1 if i == axis else 1 for i in range(len(tensors_of(model)[name].dims))]
            return scale.reshape(shape) if scale.size > 1 else scale
    return np.ones(())


def assert_on_the_line(model: onnx.ModelProto, start: Array, end: Array, found: Array, name: str, blend: float) -> None:
    """Within one rounding of the formula; ``end`` is what blend 1 stores, itself a rounding of what was trained."""
    exact = start.astype(np.longdouble) + np.longdouble(blend) * (end.astype(np.longdouble) - start)
    if found.dtype.kind in "iu":
        # Half a step for `end`, half for `found`, and what float32 lacks of integers of 32 bits.
        assert np.all(np.abs(found - exact) <= 1 + np.abs(exact) * 2.0**-22), name
    else:
        half = np.spacing(np.abs(found)).astype(np.longdouble) / 2
        rounded = np.spacing(np.abs(end)).astype(np.longdouble) / 2 if end.dtype == np.float16 else 0
        assert np.all(np.abs(found - exact) <= half * 1.0001 + rounded), name


@pytest.mark.parametrize("mode", ["paper", "readers"])
@pytest.mark.parametrize("name", [*VARIANTS, "external data"])
def test_at_both_ends_the_file_is_todays_or_the_vendors_to_the_byte(name: str, mode: Any, tmp_path: Path) -> None:
    if name == "external data":
        vendor = tmp_path / "vendor" / "model.onnx"
        vendor.parent.mkdir()
        onnx.save(VARIANTS["dncnn"](0), vendor, save_as_external_data=True, location="w.bin", size_threshold=0)
    else:
        vendor = save(VARIANTS[name](0), tmp_path / "model.onnx")
    artifacts = invented(vendor, tmp_path / "run", LOWEST, tgdonnx.MaskOptions(mode=mode))
    for folder in ("today", "one", "zero", "between"):
        (tmp_path / folder).mkdir()
    today, one, zero, between = (tmp_path / f / "t.onnx" for f in ("today", "one", "zero", "between"))
    tgdonnx.export(artifacts, today)
    tgdonnx.export(artifacts, one, blend=1.0)
    tgdonnx.export(artifacts, zero, blend=0.0)
    tgdonnx.export(artifacts, between, blend=0.3)
    assert [p.read_bytes() for p in sorted(one.parent.iterdir())] == [
        p.read_bytes() for p in sorted(today.parent.iterdir())
    ]
    assert (record_in(one)["format"], record_in(zero)["format"]) == (1, 2)
    assert "blend" not in record_in(one)
    assert (record_in(zero)["blend"], record_in(between)["blend"]) == (0.0, 0.3)
    model = onnx.load(vendor, load_external_data=False)
    if name != "external data":
        assert zero.read_bytes().startswith(vendor.read_bytes())
        assert between.read_bytes()[: vendor.stat().st_size] != vendor.read_bytes()
    first, last, mixed = tensors_in(vendor), tensors_in(today), tensors_in(between)
    assert all(tensors_in(zero)[n].tobytes() == first[n].tobytes() for n in first)
    moved = {n for n in first if first[n].tobytes() != last[n].tobytes()}
    assert moved
    assert any(mixed[n].tobytes() != last[n].tobytes() for n in moved)
    masked = tgdonnx.masked_model.read_masked(artifacts / "masked.onnx")
    for n in first:
        assert_on_the_line(model, first[n], last[n], mixed[n], n, 0.3)
        frozen = np.broadcast_to(masked.masks.get(n, np.zeros(())) == 0, first[n].shape)
        assert mixed[n][frozen].tobytes() == first[n][frozen].tobytes()
    for path in (zero, between, one):
        for evidence in (None, artifacts / "masked.onnx"):
            assert tgdonnx.verify(vendor, path, masked=evidence).ok, (path.parent.name, evidence)
    assert tgdonnx.verify(vendor, zero).changed == ()


def test_float_tensors_are_rounded_once_from_the_trained_numbers(tmp_path: Path) -> None:
    vendor = save(VARIANTS["float16"](0), tmp_path / "model.onnx")
    artifacts = invented(vendor, tmp_path / "run", LOWEST)
    tgdonnx.export(artifacts, tmp_path / "t.onnx", blend=0.7)
    start, found, trained = tensors_in(vendor), tensors_in(tmp_path / "t.onnx"), read_state(artifacts / STATE).tensors
    halves = 0
    for name in ("w1", "w2.half", "w3.half", "bn2_scale"):
        line = trained[name].astype(np.longdouble) - start[name]
        exact = start[name].astype(np.longdouble) + np.longdouble(0.7) * line
        # Half a unit in the last place; float64 in between can break a tie the other way.
        unit = np.spacing(np.abs(found[name])).astype(np.longdouble)
        assert np.all(np.abs(found[name] - exact) <= unit * (0.5 + 1e-7)), name
        halves += int((found[name] != start[name]).sum()) if start[name].dtype == np.float16 else 0
    assert halves > 100


def test_integers_go_to_the_nearest_of_their_grid(tmp_path: Path) -> None:
    model = VARIANTS["int8"](0)
    vendor = save(model, tmp_path / "model.onnx")
    artifacts = invented(vendor, tmp_path / "run", LOWEST)
    tgdonnx.export(artifacts, tmp_path / "t.onnx", blend=0.6)
    start, found, trained = tensors_in(vendor), tensors_in(tmp_path / "t.onnx"), read_state(artifacts / STATE).tensors
    compared = 0
    for name, old in start.items():
        dq = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == name]
        shadow = next((trained[k] for k in (name, *(n.output[0] for n in dq)) if k in trained), None)
        if shadow is None or old.dtype != np.int8:
            continue
        scale = np.broadcast_to(grid_of(model, name), old.shape)
        real = old.astype(np.float64) * scale
        exact = (real + 0.6 * (np.clip(shadow, -128 * scale, 127 * scale) - real)) / scale
        assert np.all(np.abs(found[name] - exact) <= 0.5 + 1e-4), name
        compared += int((found[name] != old).sum())
    assert compared > 10


# Mode regrow: what reads reinitialised maps is scaled.


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_at_0_a_regrown_network_is_the_one_without_its_reinitialised_filters(
    name: str, isolate: bool, tmp_path: Path
) -> None:
    vendor, artifacts = reinitialised(name, tmp_path, isolate=isolate)
    zero, half, one = (tmp_path / f"{b}.onnx" for b in ("zero", "half", "one"))
    for path, blend in ((zero, 0.0), (half, 0.5), (one, 1.0)):
        tgdonnx.export(artifacts, path, blend=blend)
        for evidence in (None, artifacts / "masked.onnx"):
            assert tgdonnx.verify(vendor, path, masked=evidence).ok
    # The masked model computes what the network computes without these filters, as is proved elsewhere.
    for seed in range(2):
        feeds = random_feeds(onnx.load(vendor), seed)
        (wanted,), (found,), (tuned,) = (outputs(onnx.load(p), feeds) for p in (artifacts / "masked.onnx", zero, one))
        assert np.abs(found - wanted).max() <= 1e-6 * np.abs(wanted).max()
        assert np.abs(tuned - wanted).max() > 1e-3 * np.abs(wanted).max()
    # What is scaled is half as large; everything else is what was trained, to the bit.
    between, last, none = tensors_in(half), tensors_in(one), tensors_in(zero)
    scaled = 0
    for n, values in last.items():
        heard = none[n] != values
        assert between[n][~heard].tobytes() == values[~heard].tobytes()
        if values.dtype.kind == "f":
            assert np.array_equal(between[n][heard], (values[heard].astype(np.float64) / 2).astype(values.dtype))
            assert not none[n][heard].any()
        scaled += int(heard.sum())
    assert scaled


def test_scaling_what_reads_reinitialised_maps_is_scaling_these_maps(tmp_path: Path) -> None:
    vendor, artifacts = reinitialised("batch norms", tmp_path)
    tgdonnx.export(artifacts, tmp_path / "one.onnx")
    tgdonnx.export(artifacts, tmp_path / "part.onnx", blend=0.3)
    expected = onnx.load(tmp_path / "one.onnx")
    factors = {"ar": (6, [1, 4]), "br": (5, [0, 3])}  # the maps of the filters {"w1": [1, 4], "w2": [0, 3]}
    nodes = []
    for node in expected.graph.node:
        node.input[:] = [f"{i}.scaled" if i in factors else i for i in node.input]
        nodes.append(node)
        for name in set(node.output) & set(factors):
            channels, reborn = factors[name]
            values = np.where(np.isin(np.arange(channels), reborn), 0.3, 1.0)
            expected.graph.initializer.append(
                helper.make_tensor(f"{name}.g", TensorProto.FLOAT, [channels, 1, 1], values)
            )
            nodes.append(helper.make_node("Mul", [name, f"{name}.g"], [f"{name}.scaled"]))
    del expected.graph.node[:]
    expected.graph.node.extend(nodes)
    feeds = random_feeds(onnx.load(vendor))
    (wanted,), (found,), (whole,) = (
        outputs(m, feeds) for m in (expected, onnx.load(tmp_path / "part.onnx"), onnx.load(tmp_path / "one.onnx"))
    )
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert np.abs(whole - wanted).max() > 1e-2 * np.abs(wanted).max()


def test_at_0_with_the_filters_zeroed_by_hand_nothing_more_changes(tmp_path: Path) -> None:
    vendor, artifacts = reinitialised("batch norms", tmp_path)
    tgdonnx.export(artifacts, tmp_path / "zero.onnx", blend=0.0)
    model = onnx.load(vendor)
    rows = {"w1": [1, 4], "b1": [1, 4], "s1": [1, 4], "o1": [1, 4], "w2": [0, 3], "s2": [0, 3], "o2": [0, 3]}
    where = {}
    for name, chosen in rows.items():
        where[name] = np.zeros(tuple(tensors_of(model)[name].dims), bool)
        where[name][chosen] = True
    feeds = random_feeds(model)
    (wanted,), (found,) = outputs(zeroed(model, where), feeds), outputs(onnx.load(tmp_path / "zero.onnx"), feeds)
    assert np.abs(found - wanted).max() <= 1e-6 * np.abs(wanted).max()


# Any network, selection, form and blend.


@settings(max_examples=25, deadline=None)
@given(
    network=st.sampled_from(["chain", "dncnn", "residual", "grouped", "float_data"]),
    mode=st.sampled_from(["paper", "readers"]),
    form=st.sampled_from(["masked", "thin"]),
    percentile=st.floats(25, 90),
    blend=st.floats(0, 1),
    seed=st.integers(0, 3),
)
def test_every_network_and_blend_lies_on_the_line_and_is_proved(
    network: str, mode: Any, form: str, percentile: float, blend: float, seed: int, tmp_path_factory: Any
) -> None:
    work: Path = tmp_path_factory.mktemp("any")
    model = VARIANTS[network](seed)
    vendor = save(model, work / "model.onnx")
    artifacts = invented(
        vendor, work / "run", Percentile(percentile), tgdonnx.MaskOptions(mode=mode), form=form, seed=seed
    )
    tgdonnx.export(artifacts, work / "one.onnx")
    tgdonnx.export(artifacts, work / "t.onnx", blend=blend)
    first, last, found = tensors_in(vendor), tensors_in(work / "one.onnx"), tensors_in(work / "t.onnx")
    for name in first:
        assert_on_the_line(model, first[name], last[name], found[name], name, blend)
        still = first[name] == last[name]
        assert found[name][still].tobytes() == first[name][still].tobytes()
    assert tgdonnx.verify(vendor, work / "t.onnx").ok


# Rounds.


def test_each_round_goes_from_the_file_it_started_from(tmp_path: Path) -> None:
    vendor = save(VARIANTS["dncnn"](0), tmp_path / "model.onnx")
    first = invented(vendor, tmp_path / "one", Filters({"w1": [1, 4], "w3": [2]}))
    tgdonnx.export(first, tmp_path / "first.onnx", blend=0.5)
    second = invented(
        tmp_path / "first.onnx", tmp_path / "two", Filters({"w1": [4, 5]}), tgdonnx.MaskOptions(protect=True)
    )
    tgdonnx.export(second, tmp_path / "second.onnx", blend=0.25)
    tgdonnx.export(second, tmp_path / "zero.onnx", blend=0)
    assert (tmp_path / "zero.onnx").read_bytes().startswith((tmp_path / "first.onnx").read_bytes())
    for base in (vendor, tmp_path / "first.onnx"):
        for tuned in ("second.onnx", "zero.onnx"):
            assert tgdonnx.verify(base, tmp_path / tuned).ok
    assert (record_in(tmp_path / "second.onnx", 1)["blend"], record_in(tmp_path / "second.onnx", 2)["blend"]) == (
        0.5,
        0.25,
    )


# What is refused.


@pytest.mark.parametrize("blend", [-0.01, 1.5, float("nan")])
def test_a_blend_out_of_range_is_refused_and_nothing_is_written(blend: float, tmp_path: Path) -> None:
    artifacts = invented(VARIANTS["chain"](0), tmp_path / "run", LOWEST)
    with pytest.raises(DataError, match="expected a blend from 0"):
        tgdonnx.export(artifacts, tmp_path / "t.onnx", blend=blend)
    assert not (tmp_path / "t.onnx").exists()
