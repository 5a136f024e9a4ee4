"""Where filters and kernels are in the weights of every operator, against loops."""

from __future__ import annotations

import numpy as np
import pytest

from tgdonnx.layers.layouts import Array, ConvLayout, ConvTransposeLayout, Layout, MatrixLayout

RNG = np.random.default_rng(12)


def conv(weight: Array, group: int, m: int, c: int) -> Array:
    return weight[m, c]


def conv_transpose(weight: Array, group: int, m: int, c: int) -> Array:
    """ONNX: (C, M / group, *kernel); group g makes maps g * M / group ... from its own C / group input maps."""
    per_group = weight.shape[1]
    g = m // per_group
    return weight[g * (weight.shape[0] // group) + c, m % per_group]


def columns(weight: Array, group: int, m: int, c: int) -> Array:
    return weight[3 * c : 3 * c + 3, m]


def rows(weight: Array, group: int, m: int, c: int) -> Array:
    return weight[m, 3 * c : 3 * c + 3]


CASES = [
    (ConvLayout(3, 1), (5, 4, 3), conv, (5, 4)),
    (ConvLayout(4, 3), (6, 2, 3, 2), conv, (6, 2)),
    (ConvLayout(5, 4), (8, 1, 2, 3, 2), conv, (8, 1)),
    (ConvTransposeLayout((4, 5, 3), 1), (4, 5, 3), conv_transpose, (5, 4)),
    (ConvTransposeLayout((6, 2, 3, 2), 3), (6, 2, 3, 2), conv_transpose, (6, 2)),
    (ConvTransposeLayout((4, 1, 2, 2), 4), (4, 1, 2, 2), conv_transpose, (4, 1)),
    (ConvTransposeLayout((6, 5, 1, 2, 2), 2), (6, 5, 1, 2, 2), conv_transpose, (10, 3)),
    (MatrixLayout(False, 3), (12, 5), columns, (5, 4)),
    (MatrixLayout(True, 3), (5, 12), rows, (5, 4)),
]


@pytest.mark.parametrize(
    ("layout", "shape", "kernel", "counts"), CASES, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_kernels_are_those_of_the_operator(
    layout: Layout, shape: tuple[int, ...], kernel: object, counts: tuple[int, int]
) -> None:
    weight = RNG.standard_normal(shape)
    kernels = layout.kernels(weight)
    assert kernels.shape[:2] == counts
    for m in range(counts[0]):
        for c in range(counts[1]):
            np.testing.assert_array_equal(kernels[m, c], kernel(weight, layout.group, m, c))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("layout", "shape", "kernel", "counts"), CASES, ids=lambda value: getattr(value, "__name__", str(value))
)
@pytest.mark.parametrize("per_kernel", [False, True])
def test_a_mask_goes_back_to_the_elements_of_its_kernels(
    layout: Layout, shape: tuple[int, ...], kernel: object, counts: tuple[int, int], per_kernel: bool
) -> None:
    wanted = RNG.random((counts[0], counts[1] if per_kernel else 1)) < 0.5
    mask = layout.restore(wanted)
    assert mask.ndim == len(shape)
    full = np.broadcast_to(mask, shape)
    for m in range(counts[0]):
        for c in range(counts[1]):
            assert (kernel(full, layout.group, m, c) == wanted[m, c if per_kernel else 0]).all()  # type: ignore[operator]
