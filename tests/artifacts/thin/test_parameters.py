"""What is a parameter in thin artifacts, and that the tensors put together from them are the vendor's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import tgdonnx
from tests.artifacts.selections import SELECTIONS, filters, weight
from tests.artifacts.thin.forms import (
    batch_for,
    build_both,
    build_with_masks,
    checkpoint_of,
    classifier,
    held,
    kernel_mask,
    masks_of,
    train,
    transposed,
)
from tests.support import models
from tests.support.models import Array
from tests.support.trainer import make_artifacts
from tests.support.training_models import text_model
from tgdonnx.artifacts import read_manifest
from tgdonnx.artifacts.manifest import AxisPart
from tgdonnx.artifacts.thin import ThinParameter, split_parameters

SHAPES = {"w": (4, 3, 2, 1), "v": (4, 3, 2, 1), "s": (4,), "t": (1, 4, 1, 1), "u": (2, 4)}
INPUTS = {"x": "1, 3, 4, 5", "x4": "1, 4, 3, 3", "x2": "5, 4"}

# Graphs that compute `y` from parameters, what of each trains, and how many nodes are then computed row by row.
GRAPHS: dict[str, tuple[str, dict[str, Sequence[int]], int]] = {
    "a factor that is constant": ("y0 = Mul(w, c)\n y = Conv(x, y0)", {"w": [1, 3]}, 1),
    "one that is the same for all rows": ("y0 = Div(w, d)\n y = Conv(x, y0)", {"w": [0]}, 1),
    "a factor of the same rows": (
        "r = Reshape(s, column)\n y0 = Mul(r, w)\n y = Conv(x, y0)",
        {"w": [1, 3], "s": [1, 3]},
        2,
    ),
    "a factor that trains whole": (
        "r = Reshape(s, column)\n y0 = Mul(r, w)\n y = Conv(x, y0)",
        {"w": [1, 3], "s": [0, 1, 2, 3]},
        0,
    ),
    "a factor of other rows": (
        "r = Reshape(s, column)\n y0 = Mul(w, r)\n y = Conv(x, y0)",
        {"w": [1, 3], "s": [0, 1]},
        1,
    ),
    "a factor of fewer rows, the first": (
        "r = Reshape(s, column)\n y0 = Mul(w, r)\n y = Conv(x, y0)",
        {"w": [0, 1], "s": [0]},
        1,
    ),
    "what comes of a factor that trains whole": (
        "r = Reshape(s, column)\n q = Sqrt(r)\n y0 = Div(w, q)\n y = Conv(x, y0)",
        {"w": [2], "s": [0, 1, 2, 3]},
        0,
    ),
    "a sum of two": ("y0 = Add(w, v)\n y1 = Sub(y0, w)\n y = Conv(x, y1)", {"w": [1, 3], "v": [1, 3]}, 2),
    "axes that trade places": (
        "y0 = Transpose<perm = [3, 0, 2, 1]>(w)\n y1 = Transpose<perm = [1, 3, 2, 0]>(y0)\n y = Conv(x, y1)",
        {"w": [0, 2]},
        2,
    ),
    "axes turned around": ("y0 = Transpose(w)\n y1 = Transpose(y0)\n y = Conv(x, y1)", {"w": [2]}, 2),
    "rows that are split": ("y0 = Reshape(w, halves)\n y1 = Reshape(y0, back)\n y = Conv(x, y1)", {"w": [2]}, 0),
    "a shape with blanks": ("y0 = Reshape(w, blanks)\n y1 = Reshape(y0, back)\n y = Conv(x, y1)", {"w": [1, 2]}, 2),
    "rows along the second axis": ("y0 = Mul(t, t2)\n y1 = Add(x4, y0)\n y = Relu(y1)", {"t": [0, 3]}, 1),
    "columns, that a Reshape mixes": ("y0 = Reshape(u, turned)\n y = MatMul(x2, y0)", {"u": [0, 3]}, 0),
    "a node that mixes rows": ("y0 = Softmax<axis = 0>(w)\n y = Conv(x, y0)", {"w": [1]}, 0),
    "two readers": ("y0 = Conv(x, w)\n y1 = Conv(x, w)\n y = Add(y0, y1)", {"w": [3]}, 0),
}


# Likewise, with rows and columns of each; of `w` and `v` columns lie along axis 1, of `u` along axis 0.
UNIONS: dict[str, tuple[str, dict[str, tuple[Sequence[int], Sequence[int]]], int]] = {
    "rows and columns": ("y = Conv(x, w)", {"w": ([1, 3], [0, 2])}, 0),
    "columns alone": ("y0 = Mul(w, c)\n y = Conv(x, y0)", {"w": ([], [1])}, 1),
    "a factor that is constant": ("y0 = Mul(w, c)\n y = Conv(x, y0)", {"w": ([1], [0, 2])}, 2),
    "one for each column": ("y0 = Div(e, w)\n y = Conv(x, y0)", {"w": ([0, 3], [2])}, 2),
    "one for each element": ("y0 = Sub(f, w)\n y = Conv(x, y0)", {"w": ([2], [1])}, 2),
    "a factor whose rows train": (
        "r = Reshape(s, column)\n y0 = Mul(r, w)\n y = Conv(x, y0)",
        {"w": ([1, 3], [0]), "s": ([1, 3], [])},
        3,
    ),
    "a factor of other rows": (
        "r = Reshape(s, column)\n y0 = Mul(w, r)\n y = Conv(x, y0)",
        {"w": ([1, 3], [0]), "s": ([1, 2], [])},
        1,
    ),
    "a sum of two": (
        "y0 = Add(w, v)\n y1 = Sub(y0, w)\n y = Conv(x, y1)",
        {"w": ([1, 3], [1, 2]), "v": ([1, 3], [1, 2])},
        4,
    ),
    "a sum of two of which one has no columns": (
        "y0 = Add(w, v)\n y = Conv(x, y0)",
        {"w": ([1, 3], [1, 2]), "v": ([1, 3], [])},
        2,
    ),
    "a sum of other columns": ("y0 = Add(w, v)\n y = Conv(x, y0)", {"w": ([1], [1]), "v": ([1], [2])}, 0),
    "axes that trade places": (
        "y0 = Transpose<perm = [3, 0, 2, 1]>(w)\n y1 = Mul(y0, g)\n y2 = Transpose<perm = [1, 3, 2, 0]>(y1)\n"
        " y = Conv(x, y2)",
        {"w": ([0, 2], [1])},
        6,
    ),
    "a shape that keeps both": (
        "y0 = Reshape(w, flat)\n y1 = Reshape(y0, back)\n y = Conv(x, y1)",
        {"w": ([3], [0, 1])},
        4,
    ),
    "columns that are mixed": (
        "y0 = Reshape(w, mixed)\n y1 = Reshape(y0, back)\n y = Conv(x, y1)",
        {"w": ([3], [0, 1])},
        0,
    ),
    "a matrix": ("y0 = Transpose(u)\n y = MatMul(x2, y0)", {"u": ([3], [0])}, 2),
    "two readers": ("y0 = Conv(x, w)\n y1 = Conv(x, w)\n y = Add(y0, y1)", {"w": ([3], [1])}, 0),
    "a node that mixes rows": ("y0 = Softmax<axis = 0>(w)\n y = Conv(x, y0)", {"w": ([1], [0])}, 0),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_network_is_the_same_whatever_the_parameters_become(name: str) -> None:
    text, trained, row_by_row = GRAPHS[name]
    masks = {}
    for key, rows in trained.items():
        axis = SHAPES[key].index(4)
        masks[key] = np.zeros([4 if i == axis else 1 for i in range(len(SHAPES[key]))], np.float32)
        masks[key].reshape(-1)[list(rows)] = 1
    assert same_network(text, masks) == row_by_row


@pytest.mark.parametrize("name", UNIONS)
def test_it_is_where_rows_and_columns_train(name: str) -> None:
    text, trained, piece_by_piece = UNIONS[name]
    masks = {}
    for key, (rows, columns) in trained.items():
        axis = SHAPES[key].index(4)
        other = {"s": axis, "u": 0}.get(key, 1)
        masks[key] = kernel_mask(SHAPES[key], (axis, other), rows, columns)
    assert same_network(text, masks) == piece_by_piece


def same_network(text: str, masks: dict[str, Array]) -> int:
    """Asserts that a graph computes the same after some training; returns how many nodes are computed by pieces."""
    rng = np.random.default_rng(2)
    constants: dict[str, Array] = {
        "c": np.random.default_rng(1).uniform(1, 2, (4, 1, 2, 1)).astype(np.float32),
        "d": np.array([[[1.5], [-2]]], np.float32),
        "e": rng.uniform(1, 2, (1, 3, 1, 1)).astype(np.float32),
        "f": rng.uniform(1, 2, (4, 3, 2, 1)).astype(np.float32),
        "g": rng.uniform(1, 2, (1, 4, 2, 3)).astype(np.float32),
        "t2": rng.uniform(1, 2, (1, 4, 1, 1)).astype(np.float32),
        "column": np.array([-1, 1, 1, 1]),
        "halves": np.array([8, 3]),
        "back": np.array([4, 3, 2, 1]),
        "flat": np.array([0, 3, -1]),
        "mixed": np.array([0, 6]),
        "blanks": np.array([0, -1, 2]),
        "turned": np.array([4, 2]),
    }
    words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
    tensors = {word: array for word, array in constants.items() if word in words}
    tensors.update({key: np.random.default_rng(3).uniform(1, 2, SHAPES[key]).astype(np.float32) for key in masks})
    (read,) = words & set(INPUTS)
    result = "a, b" if read == "x2" else "a, b, e, f"
    proto = text_model(f"g (float[{INPUTS[read]}] {read}) => (float[{result}] y) {{\n{text}\n}}", **tensors)
    model = ir.from_proto(proto)
    thin = split_parameters(model, masks, tuple(masks), {key: SHAPES[key].index(4) for key in masks})
    assert set(thin) == {key for key in masks if not masks[key].all()}
    # As after some training: every element that trains has moved once, and no other.
    new = {key: tensors[key] + np.float32(0.5) * masks[key] for key in masks}
    for key in masks:
        for parameter in thin.get(key, (ThinParameter(key, ()),)):
            value = model.graph.initializers[parameter.name]
            assert value.const_value is not None
            values, place = value.const_value.numpy() + np.float32(0.5), tensors[key]
            for axis, indices in parameter.part:
                place = np.take(place, indices, axis)
            assert np.array_equal(values, place + np.float32(0.5))
            value.const_value = ir.tensor(values, name=parameter.name)
        held = sum(model.graph.initializers[p.name].const_value.size for p in thin.get(key, ()))
        assert key not in thin or held == np.broadcast_to(masks[key], SHAPES[key]).sum()
    for tensor in proto.graph.initializer:
        if tensor.name in new:
            tensor.CopyFrom(numpy_helper.from_array(new[tensor.name], tensor.name))
    split = ir.to_proto(model)
    onnx.checker.check_model(split, full_check=True)
    shape = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    x = {proto.graph.input[0].name: np.random.default_rng(5).normal(size=shape).astype(np.float32)}
    (expected,), (found,) = (ReferenceEvaluator(each).run(None, x) for each in (proto, split))
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()
    return sum(".retrained" in node.output[0] for node in split.graph.node)


@pytest.mark.parametrize("name", SELECTIONS)
def test_the_checkpoint_holds_exactly_the_rows_that_train(name: str, tmp_path: Path) -> None:
    build, asked, trained = SELECTIONS[name]
    model = build(2)
    directory = make_artifacts(model, tmp_path, filters(model, asked), form="thin")
    found, manifest = checkpoint_of(directory), read_manifest(directory)
    assert set(found) == {tensor.name for tensor in manifest.trained}
    assert {tensor.vendor_name for tensor in manifest.trained} == set(trained)
    for tensor in manifest.trained:
        whole, rows = weight(model, tensor.vendor_name), list(trained[tensor.vendor_name])
        assert np.array_equal(found[tensor.name], whole[rows]), tensor.name
        assert tensor.part == (None if len(rows) == len(whole) else (AxisPart(0, tuple(rows)),))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_checkpoint_with_the_optimizers_state_is_smaller_as_fewer_filters_train(
    optimizer: str, tmp_path: Path
) -> None:
    wide = text_model(
        """g (float[N, 3, H, W] x) => (float[N, 60, H, W] y) {
            t = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w1)
            y = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(t, w2)
        }""",
        **{"w1": (60, 3, 3, 3), "w2": (60, 60, 3, 3)},
    )
    sizes = {}
    for name, rows in (("all", range(60)), ("some", range(0, 60, 10))):
        (tmp_path / name).mkdir()
        chosen = tgdonnx.Filters({"w1": list(rows), "w2": list(rows)})
        build_both(wide, tmp_path / name, chosen, optimizer=optimizer, engine="onnxruntime")
        train(tmp_path / name / "thin", batch_for(wide), 1, 1e-3)
        sizes[name] = (tmp_path / name / "thin" / "state.safetensors").stat().st_size
    rho = 6 / 60
    assert sizes["some"] <= (1 + 2 * rho) / 3 * sizes["all"]


@pytest.mark.parametrize("build", [models.chain, models.dncnn, models.residual, models.grouped, transposed, classifier])
def test_the_pieces_hold_every_element_that_a_mask_per_kernel_lets_train_once(
    build: models.Builder, tmp_path: Path
) -> None:
    model = build(0)
    report = build_both(model, tmp_path, tgdonnx.Phi(0.35), mode="readers")["thin"]
    masks, found = masks_of(tmp_path / "masked.onnx"), checkpoint_of(tmp_path / "thin")
    counts = {name: np.zeros(weight(model, name).shape) for name in report.trained}
    for tensor in read_manifest(tmp_path / "thin").trained:
        whole = weight(model, tensor.vendor_name)
        assert np.array_equal(found[tensor.name], held(tensor, whole)), tensor.name
        counts[tensor.vendor_name].reshape(-1)[held(tensor, np.arange(whole.size).reshape(whole.shape))] += 1
    per_kernel = {name for name, mask in masks.items() if name in counts and sum(d > 1 for d in mask.shape) > 1}
    assert len(per_kernel) > 1
    for name in set(counts) - set(report.unthinned):
        assert np.array_equal(counts[name], np.broadcast_to(masks[name], counts[name].shape)), name
    of_groups = {models.grouped: {"w5"}, transposed: {"w3"}}
    assert set(report.unthinned) <= of_groups.get(build, set()), "groups read other columns"


def test_tensors_of_which_no_whole_rows_and_columns_train_stay_whole_and_are_named(tmp_path: Path) -> None:
    model = models.chain(0)
    diagonal = np.eye(*weight(model, "w2").shape[:2], dtype=np.float32)[:, :, None, None]
    rows = kernel_mask(weight(model, "w3").shape, (0, 1), [2], [])
    reports = build_with_masks(model, tmp_path, {"w2": diagonal, "w3": rows})
    assert reports["thin"].unthinned == ("w2",)
    assert reports["masked"].unthinned == ()
    found = checkpoint_of(tmp_path / "thin")
    assert np.array_equal(found["w2"], weight(model, "w2"))
    assert [tensor.part for tensor in read_manifest(tmp_path / "thin").trained] == [None, (AxisPart(0, (2,)),)]
