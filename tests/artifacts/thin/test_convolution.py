"""The gradients of one Conv, whatever its geometry, against float64."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.artifacts.thin.forms import build_with_masks, held, kernel_mask, piece_gradients
from tests.oracles.numpy_net import NumpyNet
from tests.support.models import Array
from tests.support.trainer import true_gradients
from tests.support.training_models import text_model


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, list[int]]:
    """Attributes of a Conv of one to three spatial axes, and sizes of its input that are large enough."""
    rank = draw(st.sampled_from([1, 2, 2, 3]))

    def sizes(low: int, high: int, count: int = rank) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    kernel, dilations = sizes(1, 4 - rank // 3), sizes(1, 2)
    # Half of the Convs step by 1: those may be turned around.
    strides = sizes(1, 3) if draw(st.booleans()) else [1] * rank
    reach = [(k - 1) * d for k, d in zip(kernel, dilations)]
    # One more than the kernel reaches may be padded: then dX is no Conv.
    pads = [draw(st.integers(0, r + 1)) for r in reach * 2]
    image = [max(1, r + 1 - a - b) + draw(st.integers(0, 4)) for r, a, b in zip(reach, pads, pads[rank:])]
    return {"kernel_shape": kernel, "dilations": dilations, "strides": strides, "pads": pads, "image": image}


@st.composite
def channels(draw: st.DrawFn) -> tuple[int, int, int]:
    """Groups, maps and filters of each: up to twelve filters for one map, and four maps for one filter."""
    return draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 12))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(geometry=geometries(), sizes=channels(), data=st.data())
def test_the_gradients_of_input_filters_and_bias_are_the_true_ones(
    geometry: dict[str, list[int]], sizes: tuple[int, int, int], data: st.DataObject
) -> None:
    group, maps, each = sizes
    filters, image = group * each, geometry["image"]
    rows = sorted(data.draw(st.sets(st.integers(0, filters - 1), min_size=1), label="rows"))
    columns = sorted(data.draw(st.sets(st.integers(0, maps - 1)), label="columns"))
    attributes = ", ".join(f"{name} = {values}" for name, values in geometry.items() if name != "image")
    dims = ", ".join(map(str, image))
    out = ", ".join("abc"[: len(image)])
    # The gradient of w0 is that of what the Conv reads, times x: dX at every place counts, with another weight.
    model = text_model(
        f"""g (float[2, 3, {dims}] x) => (float[2, m, {out}] y) {{
            t = Conv(x, w0)
            y = Conv<{attributes}, group = {group}>(t, w, b)
        }}""",
        **{"w0": (group * maps, 3, *[1] * len(image)), "b": (filters,)},
        w=(filters, maps, *geometry["kernel_shape"]),
    )
    x: Array = np.random.default_rng(1).normal(size=(2, 3, *image)).astype(np.float32)
    y = NumpyNet(model).run({"x": x})["y"]
    target = np.random.default_rng(2).normal(size=y.shape).astype(np.float32)
    masks = {
        "w0": kernel_mask((group * maps, 3), (0, 1), [0], [])[(..., *[None] * len(image))],
        "w": kernel_mask((filters, maps), (0, 1), rows, columns)[(..., *[None] * len(image))],
        "b": kernel_mask((filters,), (0, 0), rows, []),
    }
    with tempfile.TemporaryDirectory() as directory:
        report = build_with_masks(model, Path(directory), masks)["thin"]
        assert not report.unthinned
        _, gradients = piece_gradients(Path(directory) / "thin", {"x": x}, target)
    _, true = true_gradients(model, {"x": x}, target)
    counts = {name: 0 for name in masks}  # noqa: C420  # counted up below
    for tensor, gradient in gradients:
        whole = true[tensor.vendor_name]
        counts[tensor.vendor_name] += gradient.size
        assert np.abs(gradient - held(tensor, whole)).max() <= 1e-5 * np.abs(whole).max(), tensor.name
    assert counts == {name: np.broadcast_to(mask, true[name].shape).sum() for name, mask in masks.items()}
