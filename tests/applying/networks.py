"""Networks of one image for the tests of tiles, as ONNX text, and what ONNX Runtime gives for a whole image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from tests.support.models import parse, save
from tests.support.sessions import open_session

Array = NDArray[np.float32]

# Each takes two maps, `a`, to maps `b`; `w` stands for a weight of the given shape. Positive and negative weights, so that
# nothing is lost in a Relu.
STEPS: dict[str, tuple[str, tuple[int, ...] | None]] = {
    "conv": ("b = Conv<pads = [1, 2, 1, 2]>(a, w)", (2, 2, 3, 5)),
    "valid conv": ("b = Conv(a, w)", (2, 2, 3, 2)),
    "one-sided conv": ("b = Conv<pads = [2, 0, 0, 1]>(a, w)", (2, 2, 3, 2)),
    "dilated conv": ("b = Conv<pads = [3, 2, 3, 2], dilations = [3, 2]>(a, w)", (2, 2, 3, 3)),
    "strided conv": ("b = Conv<pads = [1, 1, 1, 1], strides = [2, 3]>(a, w)", (2, 2, 3, 3)),
    "same conv": ('b = Conv<auto_pad = "SAME_UPPER">(a, w)', (2, 2, 4, 3)),
    "same lower conv": ('b = Conv<auto_pad = "SAME_LOWER">(a, w)', (2, 2, 4, 3)),
    "grouped conv": ("b = Conv<pads = [1, 1, 1, 1], group = 2>(a, w)", (2, 1, 3, 3)),
    "max pool": ("b = MaxPool<kernel_shape = [3, 2], strides = [2, 2], pads = [1, 0, 1, 0]>(a)", None),
    "ceil pool": ("b = MaxPool<kernel_shape = [2, 3], strides = [2, 2], ceil_mode = 1>(a)", None),
    "average pool": ("b = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a)", None),
    "transposed": ("b = ConvTranspose<strides = [2, 2]>(a, w)", (2, 2, 2, 2)),
    "cropped transposed": ("b = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>(a, w)", (2, 2, 4, 3)),
    "much cropped": (
        "b = ConvTranspose<strides = [2, 3], pads = [1, 2, 1, 0], output_padding = [1, 0]>(a, w)",
        (2, 2, 2, 3),
    ),
    "cropped behind": ("b = ConvTranspose<strides = [2, 3], pads = [0, 0, 2, 3]>(a, w)", (2, 2, 2, 3)),
    "dilated transposed": ("b = ConvTranspose<dilations = [2, 1], pads = [2, 1, 2, 1]>(a, w)", (2, 2, 3, 3)),
    "nearest": (
        'b = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric">(a, , two)',
        None,
    ),
    "nearest half": ('b = Resize<mode = "nearest", nearest_mode = "ceil">(a, , two)', None),
    "linear": ('b = Resize<mode = "linear">(a, , two)', None),
    "linear pytorch": (
        'b = Resize<mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel">(a, , two)',
        None,
    ),
    "cubic": ('b = Resize<mode = "cubic">(a, , two)', None),
    "shrink": ('b = Resize<mode = "linear">(a, , half)', None),
    "stretch": ('b = Resize<mode = "linear", coordinate_transformation_mode = "asymmetric">(a, , odd)', None),
    "zero pad": ("b = Pad(a, pads)", None),
    "reflect": ('b = Pad<mode = "reflect">(a, pads)', None),
    "edge": ('b = Pad<mode = "edge">(a, pads)', None),
    "negative pad": ("b = Pad(a, crop)", None),
    "slice": ("b = Slice(a, starts, ends, axes)", None),
    "every second": ("b = Slice(a, starts, large, axes, every)", None),
    "shuffle": (
        "t = SpaceToDepth<blocksize = 2>(a) b = DepthToSpace<blocksize = 2>(t)",
        None,
    ),
    "softmax": ("b = Softmax<axis = 1>(a)", None),
    "mean of maps": ("t = ReduceMean<axes = [1]>(a) b = Sub(a, t)", None),
    "turned": (
        "t = Transpose<perm = [0, 2, 3, 1]>(a) u = Add(t, last) v = LeakyRelu(u) b = Transpose<perm = [0, 3, 1, 2]>(v)",
        None,
    ),
    "branches": (
        "t = Conv<pads = [2, 0, 2, 0]>(a, w) u = Relu(a) v = Add(t, u) y, z = Split<axis = 1>(v) b = Concat<axis = 1>(z, y)",
        (2, 2, 5, 1),
    ),
    "half a u-net": (
        "t = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a) u = Conv<pads = [1, 1, 1, 1]>(t, w) "
        'b = Resize<mode = "nearest">(u, , two)',
        (2, 2, 3, 3),
    ),
}

_CONSTANTS: dict[str, Array] = {
    "two": np.array([1, 1, 2, 2], np.float32),
    "half": np.array([1, 1, 0.5, 0.5], np.float32),
    "odd": np.array([1, 1, 1.5, 3], np.float32),
    "pads": np.array([0, 0, 3, 1, 0, 0, 2, 4], np.int64),
    "crop": np.array([0, 0, -3, -1, 0, 0, -2, -4], np.int64),
    "starts": np.array([3, 1], np.int64),
    "ends": np.array([-2, 2**62], np.int64),
    "large": np.array([2**31 - 1, 2**62], np.int64),
    "axes": np.array([2, 3], np.int64),
    "every": np.array([2, 2], np.int64),
    "last": np.array([0.5, -0.25], np.float32),
}


def network(*names: str, seed: int = 0) -> onnx.ModelProto:
    """The named steps one after the other, on an image of two channels."""
    rng = np.random.default_rng(seed)
    text, weights, value = "", {}, "image"
    for index, name in enumerate(names):
        step, shape = STEPS[name]
        for local in ("t", "u", "v", "y", "z", "w", "a", "b"):
            new = {"a": value, "b": f"map{index}"}.get(local, f"{local}{index}")
            step = _rename(step, local, new)
        if shape is not None:
            weights[f"w{index}"] = rng.standard_normal(shape).astype(np.float32)
        text, value = f"{text}\n{step}", f"map{index}"
    weights["last_w"] = rng.standard_normal((3, 2, 1, 1)).astype(np.float32)
    constants = {name: array for name, array in _CONSTANTS.items() if name in text}
    return parse(
        '<ir_version: 8, opset_import: ["": 13]> steps (float[N, 2, H, W] image) => (float[N, 3, h, w] result) {'
        f"{text}\nresult = Conv({value}, last_w) }}",
        {**weights, **constants},
    )


def _rename(step: str, old: str, new: str) -> str:
    out, word = "", ""
    for letter in f"{step} ":
        if letter.isalnum() or letter == "_":
            word += letter
        else:
            out, word = out + (new if word == old else word) + letter, ""
    return out


def whole(model: onnx.ModelProto, path: Path, image: Array) -> Array:
    """What ONNX Runtime gives for the whole image."""
    session = open_session(str(save(model, path)))
    (found,) = session.run(None, {session.get_inputs()[0].name: image})
    result: Array = found
    return result
