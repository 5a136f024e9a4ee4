"""Convolutions, pooling and resampling."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from tests.pytorch.interpreter import FLOAT, Node, operator

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_CONV_TRANSPOSE = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
_MAX_POOL = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}


def _margins(pads: list[int]) -> list[int]:
    """ONNX's pads, all beginnings and then all ends, as PyTorch wants them: pairs, of the last axis first."""
    rank = len(pads) // 2
    return [pads[place] for axis in reversed(range(rank)) for place in (axis, axis + rank)]


def _window(node: Node, x: Tensor, kernel: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and pads; those of auto_pad are worked out."""
    rank = len(kernel)
    strides, dilations = node.integers("strides") or [1] * rank, node.integers("dilations") or [1] * rank
    auto = node.text("auto_pad", "NOTSET")
    pads = node.integers("pads") or [0] * 2 * rank
    if auto == "VALID":
        pads = [0] * 2 * rank
    if auto.startswith("SAME"):
        for axis in range(rank):
            size = x.shape[2 + axis]
            reach = (math.ceil(size / strides[axis]) - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1
            total = max(reach - size, 0)
            small, large = total // 2, total - total // 2
            pads[axis], pads[axis + rank] = (small, large) if auto == "SAME_UPPER" else (large, small)
    return strides, dilations, pads


@operator("Conv")
def _conv(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    strides, dilations, pads = _window(node, x, list(w.shape[2:]))
    padded = functional.pad(x, _margins(pads))
    return _CONV[w.ndim - 2](padded, w, b, strides, 0, dilations, node.get("group", 1))


@operator("ConvTranspose")
def _conv_transpose(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    rank = w.ndim - 2
    strides, dilations = node.integers("strides") or [1] * rank, node.integers("dilations") or [1] * rank
    more, pads = node.integers("output_padding") or [0] * rank, node.integers("pads") or [0] * 2 * rank
    full = _CONV_TRANSPOSE[rank](x, w, None, strides, 0, 0, node.get("group", 1), dilations)
    auto, wanted = node.text("auto_pad", "NOTSET"), node.integers("output_shape")
    if wanted is None and auto.startswith("SAME"):
        wanted = [size * stride for size, stride in zip(x.shape[2:], strides)]
    if wanted is not None:
        for axis, size in enumerate(wanted[-rank:]):
            total = full.shape[2 + axis] + more[axis] - size
            half = total // 2
            pads[axis], pads[axis + rank] = (total - half, half) if auto == "SAME_LOWER" else (half, total - half)
            if auto == "SAME_UPPER":
                pads[axis], pads[axis + rank] = half, total - half
            elif auto == "NOTSET":
                pads[axis], pads[axis + rank] = total - half, half
    # Cutting pads off and adding the output padding are one step: both move the same end.
    cut = [-pads[axis] for axis in range(rank)] + [more[axis] - pads[axis + rank] for axis in range(rank)]
    y = functional.pad(full, _margins(cut))
    return y if b is None else y + b.reshape(-1, *[1] * rank)


def _places(node: Node, x: Tensor, kernel: list[int]) -> tuple[list[int], list[int], list[int], list[int]]:
    """The window, and by how much the ends have to be padded beyond that, where sizes are rounded up."""
    strides, dilations, pads = _window(node, x, kernel)
    rank, beyond = len(kernel), []
    for axis in range(rank):
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        size = x.shape[2 + axis] + pads[axis] + pads[axis + rank]
        count = (size - extent) // strides[axis] + 1
        if node.get("ceil_mode", 0):
            count = math.ceil((size - extent) / strides[axis]) + 1
            if (count - 1) * strides[axis] >= x.shape[2 + axis] + pads[axis]:
                count -= 1  # a window may not begin behind the input
        beyond.append(max((count - 1) * strides[axis] + extent - size, 0))
    return strides, dilations, pads, [0] * rank + beyond


@operator("MaxPool")
def _max_pool(node: Node, x: Tensor) -> tuple[Tensor, Tensor]:
    kernel = node.integers("kernel_shape") or []
    strides, dilations, pads, beyond = _places(node, x, kernel)
    margins = _margins([pad + more for pad, more in zip(pads, beyond)])
    padded = functional.pad(x, margins, value=-math.inf)
    y, flat = _MAX_POOL[len(kernel)](padded, kernel, strides, 0, dilations, return_indices=True)
    # Counted in each plane as it was padded; ONNX counts through the whole input.
    planes = torch.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * len(kernel))
    places, factor = planes * math.prod(x.shape[2:]), 1
    for axis in reversed(range(len(kernel))):
        places = places + (flat % padded.shape[2 + axis] - pads[axis]) * factor
        flat, factor = flat // padded.shape[2 + axis], factor * x.shape[2 + axis]
    return y, places


@operator("AveragePool")
def _average_pool(node: Node, x: Tensor) -> Tensor:
    kernel = node.integers("kernel_shape") or []
    strides, dilations, pads, beyond = _places(node, x, kernel)
    filters = torch.ones(x.shape[1], 1, *kernel, dtype=x.dtype)

    def sums(values: Tensor) -> Tensor:
        padded = functional.pad(values, _margins(beyond))
        return _CONV[len(kernel)](padded, filters, None, strides, 0, dilations, x.shape[1])

    inside = functional.pad(x, _margins(pads))
    counted = (
        torch.ones_like(inside)
        if node.get("count_include_pad", 0)
        else functional.pad(torch.ones_like(x), _margins(pads))
    )
    return sums(inside) / sums(counted)


@operator("GlobalAveragePool")
def _global_average(node: Node, x: Tensor) -> Tensor:
    return x.mean(list(range(2, x.ndim)), keepdim=True)


@operator("GlobalMaxPool")
def _global_max(node: Node, x: Tensor) -> Tensor:
    return x.amax(list(range(2, x.ndim)), keepdim=True)


@operator("DepthToSpace")
def _depth_to_space(node: Node, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    size = node.get("blocksize")
    if node.text("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(x, size)
    apart = x.reshape(n, size, size, c // size**2, h, w)
    return apart.permute(0, 3, 4, 1, 5, 2).reshape(n, c // size**2, h * size, w * size)


@operator("SpaceToDepth")
def _space_to_depth(node: Node, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    size = node.get("blocksize")
    apart = x.reshape(n, c, h // size, size, w // size, size)
    return apart.permute(0, 3, 5, 1, 2, 4).reshape(n, c * size**2, h // size, w // size)


@operator("GridSample")
def _grid_sample(node: Node, x: Tensor, grid: Tensor) -> Tensor:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(node.text("mode", "linear"), node.text("mode", "linear"))
    return functional.grid_sample(
        x, grid, mode, node.text("padding_mode", "zeros"), align_corners=bool(node.get("align_corners", 0))
    )


@operator("Resize", "Upsample")
def _resize(node: Node, x: Tensor, *given: Tensor | None) -> Tensor:
    """Axis by axis, as a product with the matrix of the weights."""
    if node.proto.op_type == "Upsample" or node.opset < 11:
        scales, sizes = (given[0] if given else None), None
        if scales is None:
            scales = torch.tensor(node.get("scales"))
        rule = "asymmetric"
    else:
        scales, sizes = (*given[1:], None, None)[:2]
        rule = node.text("coordinate_transformation_mode", "half_pixel")
    axes = node.integers("axes") or list(range(x.ndim))
    assert not node.get("antialias", 0)
    assert node.text("keep_aspect_ratio_policy", "stretch") == "stretch"
    for place, axis in enumerate(axes):
        old = x.shape[axis]
        if sizes is not None and sizes.numel():
            new, scale = int(sizes[place]), int(sizes[place]) / old
        else:
            scale = float(scales[place])
            new = math.floor(old * scale)
        if new == old and scale == 1:
            continue
        x = torch.movedim(torch.movedim(x, axis, -1) @ _weights(node, old, new, scale, rule).T, -1, axis)
    return x


def _weights(node: Node, old: int, new: int, scale: float, rule: str) -> Tensor:
    """A matrix: what each of the new elements takes of each of the old ones."""
    weights = torch.zeros(new, old, dtype=FLOAT.get())
    mode = node.text("mode", "nearest")
    for place in range(new):
        if rule == "align_corners":
            at = 0.0 if new == 1 else place * (old - 1) / (new - 1)
        elif rule == "asymmetric":
            at = place / scale
        elif rule == "pytorch_half_pixel" and new == 1:
            at = 0.0
        else:
            assert rule in ("half_pixel", "pytorch_half_pixel"), rule
            at = (place + 0.5) / scale - 0.5
        if mode == "nearest":
            ways = {
                "round_prefer_floor": math.ceil(at - 0.5),
                "round_prefer_ceil": math.floor(at + 0.5),
                "floor": math.floor(at),
                "ceil": math.ceil(at),
            }
            way = "floor" if node.opset < 11 else node.text("nearest_mode", "round_prefer_floor")
            weights[place, min(max(ways[way], 0), old - 1)] = 1
        elif mode in ("linear", "bilinear"):
            at = min(max(at, 0), old - 1)
            low = min(math.floor(at), old - 1)
            weights[place, low] += 1 - (at - low)
            weights[place, min(low + 1, old - 1)] += at - low
        else:
            assert mode == "cubic", mode
            low, a = math.floor(at), node.get("cubic_coeff_a", -0.75)
            taken = [_cubic(abs(at - (low + offset)), a) for offset in (-1, 0, 1, 2)]
            for offset, weight in zip((-1, 0, 1, 2), taken):
                inside = 0 <= low + offset < old
                if inside or not node.get("exclude_outside", 0):
                    weights[place, min(max(low + offset, 0), old - 1)] += weight
            if node.get("exclude_outside", 0):
                weights[place] /= weights[place].sum()
    return weights


def _cubic(distance: float, a: float) -> float:
    if distance <= 1:
        return ((a + 2) * distance - (a + 3)) * distance * distance + 1
    return a * (((distance - 5) * distance + 8) * distance - 4) if distance < 2 else 0.0
