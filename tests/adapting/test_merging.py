"""Merged side paths compute what they do unmerged, to rounding; in float64, by the definition, to 11 digits."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import tgdonnx
from tests.adapting.networks import EVERYWHERE, NETWORKS, NORMED, input_of, tuned
from tests.blending.runs import tensors_in
from tests.support.models import Array, save
from tests.support.sessions import open_session
from tgdonnx.adapting import Adapter, adapt, merge
from tgdonnx.errors import ArtifactsError
from tgdonnx.layers import open_network
from tgdonnx.selection import select
from tgdonnx.tracing import trace_network

MERGED = [name for name in NETWORKS if name not in ("shared", "old")]


def run(path: Path, x: Array) -> Array:
    (y,) = open_session(path).run(None, {"x": x})
    return np.asarray(y)


@pytest.mark.parametrize("blend", [1, 0.3])
@pytest.mark.parametrize("name", MERGED)
def test_merged_outputs_are_those_with_side_paths(name: str, blend: float, tmp_path: Path) -> None:
    artifacts = tuned(NETWORKS[name], tmp_path)
    tgdonnx.export(artifacts, tmp_path / "paths.onnx", blend=blend)
    tgdonnx.export(artifacts, tmp_path / "merged.onnx", blend=blend, merge=True)
    x = input_of(name)
    vendor, paths, merged = (run(tmp_path / f"{n}.onnx", x) for n in ("model", "paths", "merged"))
    assert np.abs(paths - merged).max() <= 1e-5 * np.abs(paths).max()
    assert np.abs(paths - vendor).max() > 1e-3 * np.abs(vendor).max()


@pytest.mark.parametrize("name", MERGED)
def test_merged_files_differ_from_the_vendors_in_weights_alone_and_are_verified(name: str, tmp_path: Path) -> None:
    artifacts = tuned(NETWORKS[name], tmp_path)
    report = tgdonnx.export(artifacts, tmp_path / "merged.onnx", merge=True)
    vendor, merged = tensors_in(tmp_path / "model.onnx"), tensors_in(tmp_path / "merged.onnx")
    differing = {key for key in vendor if vendor[key].tobytes() != merged[key].tobytes()}
    assert merged.keys() == vendor.keys()
    assert differing == {entry.name for entry in report.changed}
    assert onnx.load(tmp_path / "merged.onnx").graph.node == onnx.load(tmp_path / "model.onnx").graph.node
    for masked in (None, tmp_path / "masked.onnx"):
        proof = tgdonnx.verify(tmp_path / "model.onnx", tmp_path / "merged.onnx", masked)
        assert (proof.ok, proof.violations, proof.proof) == (True, (), "recomputed")
        assert {entry.name for entry in proof.changed} == differing


def test_a_weight_that_two_layers_share_is_not_merged_into(tmp_path: Path) -> None:
    artifacts = tuned(NETWORKS["shared"], tmp_path)
    with pytest.raises(ArtifactsError, match="the side path of 'A' cannot be merged into 'w', which other nodes read"):
        tgdonnx.export(artifacts, tmp_path / "merged.onnx", merge=True)
    assert not (tmp_path / "merged.onnx").exists()


def test_a_norm_that_multiplies_by_zero_is_not_merged_through(tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(NETWORKS[NORMED])
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "s")
    scale.CopyFrom(numpy_helper.from_array(np.array([1, 2, 0, 1, 1], np.float32), "s"))
    artifacts = tuned(model, tmp_path)
    with pytest.raises(
        ArtifactsError, match="'w': numbers would not fit float32, or the norm behind it multiplies by 0"
    ):
        tgdonnx.export(artifacts, tmp_path / "merged.onnx", merge=True)


def test_other_modes_have_nothing_to_merge(tmp_path: Path) -> None:
    tgdonnx.mask(save(NETWORKS["conv"], tmp_path / "model.onnx"), tmp_path / "masked.onnx", EVERYWHERE)
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts", tgdonnx.BuildOptions(engine="onnxruntime"))
    with pytest.raises(ArtifactsError, match=r"nothing to merge.*mode paper"):
        tgdonnx.export(tmp_path / "artifacts", tmp_path / "merged.onnx", merge=True)


def convolved(attributes: Mapping[str, Any], x: Array, w: Array, *, transposed: bool) -> Array:
    """A convolution by its definition, tap by tap; pads are of both ends of every axis."""
    group, strides, dilations, pads = (attributes[name] for name in ("group", "strides", "dilations", "pads"))
    kernel, sizes = w.shape[2:], x.shape[2:]
    rank = len(kernel)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    if transposed:
        full = [(size - 1) * s + r for size, s, r in zip(sizes, strides, reach)]
        y = np.zeros((len(x), group * w.shape[1], *full))
        count = sizes
    else:
        x = np.pad(x, [(0, 0), (0, 0), *((pads[i], pads[rank + i]) for i in range(rank))])
        count = [(size - r) // s + 1 for size, r, s in zip(x.shape[2:], reach, strides)]
        y = np.zeros((len(x), len(w), *count))
    ins, outs = x.shape[1] // group, y.shape[1] // group
    for g, tap in itertools.product(range(group), np.ndindex(*kernel)):
        moved = tuple(slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilations, count, strides))
        mine, theirs = slice(g * ins, (g + 1) * ins), slice(g * outs, (g + 1) * outs)
        if transposed:
            y[(slice(None), theirs, *moved)] += np.einsum("nc...,cm->nm...", x[:, mine], w[(mine, slice(None), *tap)])
        else:
            y[:, theirs] += np.einsum("nc...,mc->nm...", x[(slice(None), mine, *moved)], w[(theirs, slice(None), *tap)])
    if transposed:
        y = y[(..., *(slice(pads[i], size - pads[rank + i]) for i, size in enumerate(full)))]
    return y


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[onnx.ModelProto, Array, dict[str, Any], bool]:
    """A Conv or ConvTranspose of any rank, groups, strides, pads and dilations, in float64, and an input."""
    rank, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    transposed = draw(st.booleans())
    kernel = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    inner, outer = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    maps, filters = group * inner, group * outer
    shape = (maps, outer, *kernel) if transposed else (filters, inner, *kernel)
    small = st.lists(st.integers(1, 2), min_size=rank, max_size=rank)
    attributes = {"group": group, "strides": draw(small), "dilations": draw(small), "pads": [0] * (2 * rank)}
    reach = [(k - 1) * d for k, d in zip(kernel, attributes["dilations"])]
    attributes["pads"] = [draw(st.integers(0, min(2, r // 2))) for r in (*reach, *reach)]
    x = rng.normal(size=(2, maps, *(r + 1 + draw(st.integers(0, 2)) for r in reach)))
    node = helper.make_node("ConvTranspose" if transposed else "Conv", ["x", "w"], ["y"], "layer", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, x.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, None)],
        [numpy_helper.from_array(rng.normal(size=shape), "w")],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), x, attributes, transposed


@given(convolutions(), st.integers(1, 4))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_convolution_can_be_merged(
    tmp_path: Path, drawn: tuple[onnx.ModelProto, Array, dict[str, Any], bool], rank: int
) -> None:
    model, x, attributes, transposed = drawn
    network = open_network(save(model, tmp_path / "model.onnx"))
    adapted = adapt(network, select(trace_network(network), EVERYWHERE), Adapter(rank), 1)
    (path,) = adapted.paths
    rng = np.random.default_rng(1)
    down, up = rng.normal(size=path.down_shape), rng.normal(size=path.up_shape)
    # As the file has it: the path's first node has the attributes of the layer, the second the group alone.
    maps, out, _ = (n for n in adapted.network.file.proto.graph.node if n.name.startswith("tgdonnx.adapter.1."))
    assert {a.name: helper.get_attribute_value(a) for a in maps.attribute} == attributes
    assert {a.name: helper.get_attribute_value(a) for a in out.attribute} == {"group": attributes["group"]}
    ones = len(x.shape) - 2
    pointwise = {"group": attributes["group"], "strides": [1] * ones, "dilations": [1] * ones, "pads": [0] * 2 * ones}
    weight, merged = merge(path, down, up, network)
    between = convolved(attributes, x, down, transposed=transposed)
    expected = convolved(attributes, x, weight.numpy(), transposed=transposed)
    expected = expected + convolved(pointwise, between, up, transposed=False)
    assert np.allclose(convolved(attributes, x, merged, transposed=transposed), expected, rtol=1e-12, atol=1e-11)
