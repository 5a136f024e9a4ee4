"""Filters that cannot be reinitialised stay frozen, with the reason; and what is refused altogether."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.regrowing.starts import ANY_CHANGE, assert_preserves, assert_within_masks, reinitialized_in
from tests.regrowing.topologies import TOPOLOGIES
from tests.support.models import MODELS, save
from tests.support.training_models import text_model
from tgdonnx.errors import DataError, SelectionError
from tgdonnx.regrowing import Reinitialization
from tgdonnx.selection import AllLayers, Filters, FirstLayers, LastLayers, Phi, Strategy

Build = Callable[[], onnx.ModelProto]


def sigmoid() -> onnx.ModelProto:
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H,W] y) {
            a = Conv(x, w1) ar = LeakyRelu(a)
            b = Conv(ar, w2) bs = Sigmoid(b)
            y = Conv(bs, w3)
        }""",
        w1=(4, 2, 1, 1), w2=(5, 4, 1, 1), w3=(3, 5, 1, 1),
    )  # fmt: skip


def frozen_offset() -> onnx.ModelProto:
    """The bias of both layers is one tensor, which an output shows too: it stays, and with it what the map is without."""
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H,W] y, float[4] z) {
            a = Conv(x, w1, b) ar = LeakyRelu(a)
            c = Conv(ar, w2) cr = LeakyRelu(c)
            y = Conv(cr, w3)
            z = Identity(b)
        }""",
        w1=(4, 2, 1, 1), b=(4,), w2=(5, 4, 1, 1), w3=(3, 5, 1, 1),
    )  # fmt: skip


def shared_reader() -> onnx.ModelProto:
    """One weight reads the maps of a, and those of c."""
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H,W] y) {
            a = Conv(x, w1) ar = LeakyRelu(a)
            b = Conv(ar, w) br = LeakyRelu(b)
            c = Conv(br, w2) cr = LeakyRelu(c)
            d = Conv(cr, w) dr = LeakyRelu(d)
            y = Conv(dr, w3)
        }""",
        w1=(4, 2, 1, 1), w=(5, 4, 1, 1), w2=(4, 5, 1, 1), w3=(3, 5, 1, 1),
    )  # fmt: skip


def shared_scale() -> onnx.ModelProto:
    """Two batch norms with one scale and one offset."""
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H,W] y) {
            a = Conv(x, w1) an = BatchNormalization(a, s, o, m1, v1) ar = LeakyRelu(an)
            b = Conv(ar, w2) bn = BatchNormalization(b, s, o, m2, v2) br = LeakyRelu(bn)
            y = Conv(br, w3)
        }""",
        w1=(4, 2, 1, 1), s=(4,), o=(4,), m1=(4,), v1=(4,), w2=(4, 4, 1, 1), m2=(4,), v2=(4,), w3=(3, 4, 1, 1),
    )  # fmt: skip


def padded() -> onnx.ModelProto:
    """A border that is not 0 around every map."""
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,h,w] y) <int64[8] pads = {0,0,1,0,0,0,0,0}, float one = {1}> {
            a = Conv(x, w1) ap = Pad(a, pads, one)
            b = Conv(ap, w2) br = LeakyRelu(b)
            y = Conv(br, w3)
        }""",
        w1=(4, 2, 1, 1), w2=(5, 4, 1, 1), w3=(3, 5, 1, 1),
    )  # fmt: skip


def untraceable() -> onnx.ModelProto:
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H,W] y) {
            a = Conv(x, w1) k = Trilu(a)
            y = Conv(k, w2)
        }""",
        w1=(4, 2, 1, 1), w2=(3, 4, 1, 1),
    )  # fmt: skip


def gated() -> onnx.ModelProto:
    """Maps of a are read by b, and summed with the input of the model for d."""
    return text_model(
        """g (float[N,4,H,W] x) => (float[N,3,H,W] y) {
            a = Conv(x, w1) ar = LeakyRelu(a)
            b = Conv(ar, w2) br = LeakyRelu(b)
            s = Add(br, x)
            y = Conv(s, w3)
        }""",
        w1=(5, 4, 1, 1), w2=(4, 5, 1, 1), w3=(3, 4, 1, 1),
    )  # fmt: skip


def trunk() -> onnx.ModelProto:
    """Maps of a and of b are summed."""
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H,W] y) {
            a = Conv(x, w1) b = Conv(a, w2)
            s = Add(a, b)
            y = Conv(s, w3)
        }""",
        w1=(4, 2, 1, 1), w2=(4, 4, 1, 1), w3=(3, 4, 1, 1),
    )  # fmt: skip


def branched() -> onnx.ModelProto:
    """A branch has layers that read maps of the layer before it, and of its own."""
    return text_model(
        """g (float[N,2,H,W] x, bool c) => (float[N,3,H,W] y) {
            a = Conv(x, w1) ar = LeakyRelu(a)
            b = If(c) <
                then_branch = g1 () => (float[N,4,H,W] t) { u = Conv(ar, w2) v = LeakyRelu(u) t = Conv(v, w3) },
                else_branch = g2 () => (float[N,4,H,W] e) { e = Identity(ar) }
            >
            y = Conv(b, w4)
        }""",
        w1=(4, 2, 1, 1), w2=(5, 4, 1, 1), w3=(4, 5, 1, 1), w4=(3, 4, 1, 1),
    )  # fmt: skip


def unscored_reader() -> onnx.ModelProto:
    """The maps of a are read by b, and by a product that cannot tell them apart."""
    return text_model(
        """g (float[1,2,5,4] x) => (float[1,3,5,4] y, float[1,3] z) {
            a = Conv(x, w1) ar = LeakyRelu(a)
            b = Conv(ar, w2) br = LeakyRelu(b)
            y = Conv(br, w3)
            k = Trilu(ar) f = Flatten(k) z = Gemm(f, w4)
        }""",
        w1=(4, 2, 1, 1), w2=(5, 4, 1, 1), w3=(3, 5, 1, 1), w4=(80, 3),
    )  # fmt: skip


def dead_integers() -> onnx.ModelProto:
    """Filter 1 of the first layer is as good as 0, and so is its scale."""
    scale = np.array([0.01, 1e-9, 0.01, 0.01], np.float32)
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H,W] y) {
            w1 = DequantizeLinear<axis = 0>(q, scale)
            a = Conv(x, w1) ar = LeakyRelu(a)
            y = Conv(ar, w2)
        }""",
        q=np.random.default_rng(1).integers(-99, 99, (4, 2, 1, 1)).astype(np.int8), scale=scale, w2=(3, 4, 1, 1),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("build", "filters", "weight", "reason"),
    [
        (
            dead_integers,
            {"q": [1, 2]},
            "q",
            r"\(such as 1\): its integers reach up to 1.27e-07, too little for initial values",
        ),
        (sigmoid, {"w1": [1], "w2": [0, 3]}, "w2", r"2 filters \(such as 0\): without it, 'Y' reads 0.5 there, not 0"),
        (
            frozen_offset,
            {"w1": [1], "w2": [0]},
            "w1",
            r"1 filters \(such as 1\): without it, 'C' reads .* there, not 0",
        ),
        (padded, {"w1": [1], "w2": [0]}, "w1", "'B' reads 1 there, not 0"),
        (unscored_reader, {"w1": [1], "w2": [0]}, "w1", r"node 'K' \(Trilu\) cannot be traced"),
        (gated, {"w1": [1], "w2": [0]}, "w2", "an input of the model has a part in the map that 'Y' reads"),
        (
            trunk,
            {"w1": [0, 2], "w2": [0, 1]},
            "w1",
            r"\(such as 2\): other filters, which stay .* the map that 'Y' reads",
        ),
        (
            trunk,
            {"w1": [0, 2], "w2": [0, 1]},
            "w2",
            r"\(such as 1\): other filters, which stay .* the map that 'Y' reads",
        ),
    ],
)
def test_what_cannot_be_reinitialized_stays_frozen_with_the_reason(
    build: Build, filters: dict[str, list[int]], weight: str, reason: str, tmp_path: Path
) -> None:
    case = reinitialized_in(build(), tmp_path, Filters(filters))
    notes = {mask.parameter.name: mask.note for mask in case.regrown.masks}
    assert re.search(reason, notes[weight])
    refused = re.findall(r"such as (\d+)", notes[weight])
    assert refused
    assert not set(map(int, refused)) & set(case.reinitialized.get(weight, []))
    assert_preserves(case)
    assert_within_masks(case)


@pytest.mark.parametrize(
    ("build", "strategy", "reason"),
    [
        (
            sigmoid,
            Filters({"w2": [0]}),
            "none of the 1 filters that are selected can be reinitialised: without it, 'Y' reads 0.5",
        ),
        (
            shared_reader,
            Filters({"w1": [1], "w2": [0]}),
            "it is read by 'B', whose weight 'w' is read by several nodes",
        ),
        (shared_reader, Filters({"w": [0]}), "'w' is read by several nodes"),
        (shared_scale, Filters({"w1": [1, 2], "w2": [1]}), "its 's' is read by several nodes"),
        (lambda: MODELS["shared_weights"](0), Phi(0.3), "nodes"),
        (lambda: MODELS["shared_through_identity"](0), Phi(0.3), "nodes"),
        (untraceable, Filters({"w1": [0]}), r"node 'K' \(Trilu\) cannot be traced"),
        (branched, Filters({"w1": [1]}), "inside a branch, a loop or a function|passes through 'B'"),
        (branched, Filters({"w2": [1]}), "inside a branch, a loop or a function"),
        (trunk, Filters({"w3": [0]}), "it reaches the output 'y'"),
        (trunk, LastLayers(1), "a selection of whole layers names none: select by phi, by percentile, or list filters"),
        (trunk, FirstLayers(1), "whole layers"),
        (trunk, AllLayers(), "whole layers"),
    ],
)
def test_where_nothing_can_be_reinitialized_that_is_refused(
    build: Build, strategy: Strategy, reason: str, tmp_path: Path
) -> None:
    path = save(build(), tmp_path / "model.onnx")
    with pytest.raises(SelectionError, match=reason):
        tgdonnx.mask(
            path,
            tmp_path / "masked.onnx",
            strategy,
            tgdonnx.MaskOptions(mode="regrow", reinitialization=Reinitialization(tolerance=ANY_CHANGE)),
        )
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def chain() -> onnx.ModelProto:
    return TOPOLOGIES["batch norms"].build()


@pytest.mark.parametrize(
    ("reinitialization", "options", "error", "reason"),
    [
        (
            Reinitialization(tolerance=0.001),
            {},
            SelectionError,
            r"without the 2 filters the output 'y' changes by .*, and 0.001 is",
        ),
        (Reinitialization("calibrated"), {}, SelectionError, "needs a few unlabelled images"),
        (
            Reinitialization("she"),
            {},
            SelectionError,
            "unknown kind of reinitialisation 'she'; expected one of clone, he, calibrated",
        ),
        (Reinitialization(tolerance=-1), {}, SelectionError, "expected a tolerance >= 0, got -1"),
        (Reinitialization(tolerance=float("nan")), {}, SelectionError, "expected a tolerance >= 0, got nan"),
        (Reinitialization(seed=-1), {}, SelectionError, "expected a seed >= 0, got -1"),
        (
            Reinitialization(tolerance=ANY_CHANGE),
            {"protect": True},
            SelectionError,
            "cannot be protected in mode regrow",
        ),
        (Reinitialization(calibrate={"z": np.zeros((1, 2, 5, 5))}), {}, DataError, "x"),
        (Reinitialization(calibrate={"x": np.full((1, 2, 5, 5), np.nan, np.float32)}), {}, DataError, "is nan"),
    ],
)
def test_wrong_options_and_too_large_a_change_write_nothing(
    reinitialization: Reinitialization, options: dict[str, bool], error: type[Exception], reason: str, tmp_path: Path
) -> None:
    path = save(chain(), tmp_path / "model.onnx")
    with pytest.raises(error, match=reason):
        tgdonnx.mask(
            path,
            tmp_path / "masked.onnx",
            Filters({"w1": [1], "w2": [0]}),
            tgdonnx.MaskOptions(mode="regrow", reinitialization=reinitialization, **options),
        )
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_random_input_on_which_the_output_does_not_vary_asks_for_images(tmp_path: Path) -> None:
    model = text_model(
        "g (float[N,2,H,W] x) => (float[N,3,H,W] y) { a = Conv(x, w1) r = Relu(a) b = Conv(r, w2) y = Mul(b, zero) }",
        w1=(4, 2, 1, 1), w2=(3, 4, 1, 1), zero=np.zeros(1, np.float32),
    )  # fmt: skip
    with pytest.raises(
        DataError, match=r"on random input, no change can be measured: .*; name images with `calibrate`"
    ):
        reinitialized_in(model, tmp_path, Filters({"w1": [1]}))
