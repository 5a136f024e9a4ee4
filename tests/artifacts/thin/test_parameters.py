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
from tests import models
from tests.artifacts.test_gradients import SELECTIONS, filters, weight
from tests.artifacts.thin.forms import build_both, checkpoint_of, train
from tests.artifacts.thin.test_same_results import batch_for
from tests.models import Array
from tests.trainer import make_artifacts
from tests.training_models import text_model
from tgdonnx.artifacts import read_manifest
from tgdonnx.artifacts.manifest import AxisPart
from tgdonnx.artifacts.thin import split_parameters

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


@pytest.mark.parametrize("name", GRAPHS)
def test_the_network_is_the_same_whatever_the_parameters_become(name: str) -> None:
    text, trained, row_by_row = GRAPHS[name]
    constants: dict[str, Array] = {
        "c": np.random.default_rng(1).uniform(1, 2, (4, 1, 2, 1)).astype(np.float32),
        "d": np.array([[[1.5], [-2]]], np.float32),
        "t2": np.random.default_rng(2).uniform(1, 2, (1, 4, 1, 1)).astype(np.float32),
        "column": np.array([-1, 1, 1, 1]),
        "halves": np.array([8, 3]),
        "back": np.array([4, 3, 2, 1]),
        "blanks": np.array([0, -1, 2]),
        "turned": np.array([4, 2]),
    }
    words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
    tensors = {word: array for word, array in constants.items() if word in words}
    tensors.update({key: np.random.default_rng(3).uniform(1, 2, SHAPES[key]).astype(np.float32) for key in trained})
    (read,) = words & set(INPUTS)
    result = "a, b" if read == "x2" else "a, b, e, f"
    proto = text_model(f"g (float[{INPUTS[read]}] {read}) => (float[{result}] y) {{\n{text}\n}}", **tensors)
    model = ir.from_proto(proto)
    masks = {}
    for key, rows in trained.items():
        axis = int(np.argmax([size == 4 for size in SHAPES[key]]))
        mask = np.zeros([4 if i == axis else 1 for i in range(len(SHAPES[key]))], np.float32)
        mask.reshape(-1)[list(rows)] = 1
        masks[key] = mask
    thin = split_parameters(model, masks, tuple(trained), {})
    assert set(thin) == {key for key in trained if not masks[key].all()}
    # As after some training.
    new = {}
    for key, (parameter,) in thin.items():
        value = model.graph.initializers[parameter.name]
        assert value.const_value is not None
        values = value.const_value.numpy() + 0.5
        value.const_value = ir.tensor(values, name=parameter.name)
        new[key] = tensors[key].copy()
        ((axis, rows),) = parameter.part
        assert rows == tuple(trained[key])
        np.moveaxis(new[key], axis, 0)[list(rows)] += 0.5
    for key in set(trained) - set(thin):
        new[key] = tensors[key] + 0.25
        model.graph.initializers[key].const_value = ir.tensor(new[key], name=key)
    for tensor in proto.graph.initializer:
        if tensor.name in new:
            tensor.CopyFrom(numpy_helper.from_array(new[tensor.name], tensor.name))
    split = ir.to_proto(model)
    onnx.checker.check_model(split, full_check=True)
    shape = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    x = {proto.graph.input[0].name: np.random.default_rng(5).normal(size=shape).astype(np.float32)}
    (expected,), (found,) = (ReferenceEvaluator(each).run(None, x) for each in (proto, split))
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()
    assert sum(".retrained" in node.output[0] for node in split.graph.node) == row_by_row


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
        build_both(wide, tmp_path / name, chosen, optimizer=optimizer)
        train(tmp_path / name / "thin", batch_for(wide), 1, 1e-3)
        sizes[name] = (tmp_path / name / "thin" / "checkpoint").stat().st_size
    rho = 6 / 60
    assert sizes["some"] <= (1 + 2 * rho) / 3 * sizes["all"]


def test_tensors_with_masks_per_kernel_stay_whole_and_are_named(tmp_path: Path) -> None:
    model = models.chain(0)
    reports = build_both(model, tmp_path, tgdonnx.Phi(0.35), mode="readers")
    masks = {
        tensor.name[: -len(".retrain_mask")]: numpy_helper.to_array(tensor)
        for tensor in onnx.load(tmp_path / "masked.onnx").graph.initializer
        if tensor.name.endswith(".retrain_mask")
    }
    per_kernel = {name for name, mask in masks.items() if mask.ndim > 1 and mask.shape[1] > 1 and mask.any()}
    assert per_kernel
    assert set(reports["thin"].unthinned) == per_kernel
    assert reports["masked"].unthinned == ()
    found = checkpoint_of(tmp_path / "thin")
    assert all(np.array_equal(found[name], weight(model, name)) for name in per_kernel)
