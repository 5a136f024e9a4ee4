"""The receptive field that is computed from a graph is no smaller than the real one: tiles give what the whole image gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.applying.networks import STEPS, network, whole
from tests.support.models import parse, save
from tgdonnx import ApplyOptions, apply
from tgdonnx.applying.reach import ReceptiveField
from tgdonnx.applying.receptive_field import receptive_field
from tgdonnx.layers import open_network


def require_tiles_give_the_whole(
    names: tuple[str, ...], seed: int, tmp_path: Path, size: tuple[int, int] = (108, 132)
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((1, 2, *size)).astype(np.float32)
    model = network(*names, seed=seed)
    expected = whole(model, tmp_path / "model.onnx", image)
    report = apply(tmp_path / "model.onnx", image, tmp_path / "out.npy", options=ApplyOptions(tile=(60, 84)))
    assert report.whole is None
    assert report.tiles > 1
    found = np.load(tmp_path / "out.npy")
    assert found.shape == expected.shape
    # By a factor that is no power of two, the runtime rounds coordinates, and more so the farther from the corner.
    tolerance = 2e-5 if "stretch" in names else 2e-6
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# The second leaves little of the image to the last tile.
@pytest.mark.parametrize("size", [(108, 132), (62, 86)])
@pytest.mark.parametrize("name", STEPS)
def test_tiles_give_the_whole_image_for_one_operator(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    require_tiles_give_the_whole((name,), 0, tmp_path, size)


@pytest.mark.parametrize("name", STEPS)
def test_tiles_give_the_whole_image_between_convolutions_that_pad(name: str, tmp_path: Path) -> None:
    # Padding around a tile must not come into what is taken from it, however the operators in between shift and crop.
    require_tiles_give_the_whole(("one-sided conv", name, "conv"), 1, tmp_path)


@pytest.mark.parametrize("seed", range(40))
def test_tiles_give_the_whole_image_for_operators_in_any_order(seed: int, tmp_path: Path) -> None:
    # But for the one that wants an even size, wherever it stands.
    names = [name for name in STEPS if name != "shuffle"]
    names = tuple(str(name) for name in np.random.default_rng([seed, 7]).choice(names, 3))
    require_tiles_give_the_whole(names, seed, tmp_path)


def field_of(
    text: str, tmp_path: Path, weights: dict[str, np.ndarray] | None = None, opset: int = 17
) -> ReceptiveField | str:
    model = parse(f'<ir_version: 8, opset_import: ["": {opset}]> g {text}', weights or {})
    opened = open_network(save(model, tmp_path / "field.onnx"))
    return receptive_field(opened, {opened.graph.inputs[0]: {2: 2, 3: 3}}, opened.graph.outputs[0])


CONV = "Conv<pads = [1, 1, 1, 1]>"


def test_the_receptive_field_of_stacked_convolutions_is_no_larger_than_it_is(tmp_path: Path) -> None:
    weights = {"v": np.ones((2, 2, 3, 3), np.float32), "w": np.ones((2, 2, 5, 1), np.float32)}
    found = field_of(
        f"""(float[N, 2, H, W] x) => (float[N, 2, H, W] y) {{
            a = {CONV}(x, v) b = Relu(a) y = Conv<pads = [4, 0, 4, 0], dilations = [2, 1]>(b, w)
        }}""",
        tmp_path,
        weights,
    )
    assert isinstance(found, ReceptiveField)
    assert [(found.reaches[axis].low, found.reaches[axis].high) for axis in (2, 3)] == [(-5, 5), (-1, 1)]
    assert found.steps == {2: 1, 3: 1}


def test_tiles_start_where_the_strides_do_also_where_they_are_undone(tmp_path: Path) -> None:
    found = field_of(
        """(float[N, 2, H, W] x) => (float[N, 2, H, W] y) {
            [first] a = Conv<strides = [2, 1], pads = [0, 0, 0, 0]>(x, w)
            [second] b = MaxPool<kernel_shape = [2, 3], strides = [2, 3]>(a)
            y = ConvTranspose<strides = [4, 3]>(b, u)
        }""",
        tmp_path,
        {"w": np.ones((2, 2, 2, 1), np.float32), "u": np.ones((2, 2, 4, 3), np.float32)},
    )
    assert isinstance(found, ReceptiveField)
    assert found.steps == {2: 4, 3: 3}


REFUSED = {
    "GlobalAveragePool": ("t = GlobalAveragePool(x) y = Add(x, t)", "'t' is GlobalAveragePool"),
    "InstanceNormalization": ("y = InstanceNormalization(x, two, two)", "'y' is InstanceNormalization"),
    "mean over the image": ("t = ReduceMean<axes = [2, 3]>(x) y = Mul(x, t)", "along an axis of space"),
    "softmax over rows": ("y = Softmax<axis = -1>(x)", "along an axis of space"),
    "map of places": ("y = Add(x, place)", "differs from place to place"),
    "auto_pad": ('y = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w)', "auto_pad"),
    "size of another": ("s = Shape(x) y = Resize(x, , , s)", "size"),
    "fixed size": ("y = Resize(x, , , fixed)", "fixed size"),
    "corners": ('y = Resize<coordinate_transformation_mode = "align_corners">(x, , double)', "align_corners"),
    "fixed cut": ("y = Slice(x, zero, ten, axis)", "fixed place"),
    "reshape": ("s = Shape(x) y = Reshape(x, s)", "'y' is Reshape"),
    "rolling": ('y = Pad<mode = "wrap">(x, pads)', "wraps"),
    "padded by size": ("s = Shape(x) y = Pad(x, s)", "size of the image"),
    "resolutions": (
        "t = Resize(x, , double) s = Shape(x) u = Slice(t, zero, large, axis, many) y = Add(x, u)",
        "resolution",
    ),
    "no image": ("y = Identity(place)", "does not depend"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_is_not_local_has_no_receptive_field_and_the_reason_names_the_node(
    name: str, tmp_path: Path
) -> None:
    nodes, reason = REFUSED[name]
    constants = {
        "two": np.ones(2, np.float32),
        "place": np.ones((1, 2, 8, 8), np.float32),
        "w": np.ones((2, 2, 3, 3), np.float32),
        "fixed": np.array([1, 2, 16, 16], np.int64),
        "double": np.array([1, 1, 2, 2], np.float32),
        "zero": np.array([0], np.int64),
        "ten": np.array([10], np.int64),
        "axis": np.array([2], np.int64),
        "large": np.array([2**62], np.int64),
        "many": np.array([2], np.int64),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    }
    constants = {
        key: value
        for key, value in constants.items()
        if f"{key}" in nodes.replace(",", " ").replace(")", " ").split() or f"({key}" in nodes
    }
    # A layer beside it, since a model without one is not opened.
    found = field_of(
        f"(float[N, 2, H, W] x) => (float[a, b, c, d] y, float[N, 2, H, W] z) {{ {nodes} z = {CONV}(x, k) }}",
        tmp_path,
        {**constants, "k": np.ones((2, 2, 3, 3), np.float32)},
    )
    assert isinstance(found, str)
    assert reason in found


def field_behind_a_conv(node: str, tmp_path: Path, opset: int, **weights: np.ndarray) -> ReceptiveField | str:
    text = f"(float[N, 2, H, W] x) => (float[A, B, C, D] y) {{ a = Conv(x, w) {node} }}"
    return field_of(text, tmp_path, {"w": np.ones((2, 2, 3, 3), np.float32), **weights}, opset)


@pytest.mark.parametrize(
    ("node", "opset"),
    [
        ("y = ReduceMean(a)", 17),
        ("y = ReduceMean(a, none)", 18),
        ("y = ReduceMean<noop_with_empty_axes = 0>(a, none)", 18),
        ("y = Softmax<axis = -2>(a)", 11),
    ],
)
def test_what_looks_at_the_whole_image_has_no_receptive_field_however_it_says_so(
    node: str, opset: int, tmp_path: Path
) -> None:
    found = field_behind_a_conv(node, tmp_path, opset, none=np.array([], np.int64))
    assert isinstance(found, str)
    assert "along an axis of space" in found


@pytest.mark.parametrize(
    ("node", "opset", "ends"),
    [
        ("y = ReduceMean<noop_with_empty_axes = 1>(a, none)", 18, (0, 2)),
        ("y = ReduceMean<noop_with_empty_axes = 1>(a)", 18, (0, 2)),
        ("y = ReduceMean(a, last)", 18, None),
        ("y = ReduceSum(a, channels)", 13, (0, 2)),
        ("y = Concat(a, a)", 1, (0, 2)),
        ("y = Pad<paddings = [0, 0, 0, 1, 0, 0, 0, 0]>(a)", 1, (-1, 1)),
        ("c = Cast<to = 6>(a) d = BitwiseNot(c) y = Cast<to = 1>(d)", 18, (0, 2)),
        ("y = Dropout(a)", 17, (0, 2)),
        (
            "t = Transpose<perm = [0, 2, 3, 1]>(a) s = Softmax<axis = -1>(t) y = Transpose<perm = [0, 3, 1, 2]>(s)",
            11,
            (0, 2),
        ),
    ],
)
def test_attributes_and_inputs_of_every_operator_set_are_read(
    node: str, opset: int, ends: tuple[int, int] | None, tmp_path: Path
) -> None:
    arrays = {"none": [], "last": [-1], "channels": [1]}
    stored = {name: np.array(numbers, np.int64) for name, numbers in arrays.items() if name in node}
    found = field_behind_a_conv(node, tmp_path, opset, **stored)
    if ends is None:
        assert isinstance(found, str)
    else:
        assert isinstance(found, ReceptiveField), found
        assert (found.reaches[3].low, found.reaches[3].high) == ends
