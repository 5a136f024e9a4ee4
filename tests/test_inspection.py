"""A model at a glance: shapes of outputs, whatever the file says of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import helper

import tgdonnx
from tests.support import models
from tests.support.training_models import text_model

HEAD = "g (float[N, 3, H, 9] x) => (float[N, m, h, w] y)"


def test_shapes_of_outputs_are_inferred_and_names_of_sizes_shown(tmp_path: Path) -> None:
    model = text_model(f"{HEAD} {{ y = Conv<strides = [1, 2]>(x, v) }}", v=(5, 3, 1, 3))
    path = models.save(model, tmp_path / "model.onnx")
    report = tgdonnx.inspect(path)
    assert (report.inputs, report.outputs) == (("x [N,3,H,9]",), ("y [N,5,h,4]",))


@pytest.mark.parametrize("declared", [None, [None, 7, None, None], [1, 2]])
def test_what_the_file_says_wrongly_or_not_at_all_does_not_matter(
    declared: list[int | None] | None, tmp_path: Path
) -> None:
    model = text_model(f"{HEAD} {{ y = Conv<strides = [1, 2]>(x, v) }}", v=(5, 3, 1, 3))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, declared))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert tgdonnx.inspect(path).outputs == ("y [N,5,?,4]",)


def test_a_transposed_convolution_gives_its_true_size(tmp_path: Path) -> None:
    lines = 'y = ConvTranspose<strides = [1, 2], auto_pad = "SAME_UPPER">(x, v)'
    model = text_model(f"{HEAD} {{ {lines} }}", v=(3, 5, 1, 3))
    assert tgdonnx.inspect(models.save(model, tmp_path / "model.onnx")).outputs == ("y [N,5,h,18]",)


def test_a_computed_kernel_counts_as_weights_that_never_train_and_is_named(tmp_path: Path) -> None:
    model = text_model(
        "g (float[N, 2, 8] x) => (float[N, 3, 8] y) "
        "{ a = Conv(x, v)\n [made] k = Mul(u, s)\n [odd] b = Conv(a, k)\n [late] y = Conv(b, w) }",
        v=(4, 2, 1),
        u=(5, 4, 1),
        s=(5, 4, 1),
        w=(3, 5, 1),
    )
    path, masked = models.save(model, tmp_path / "model.onnx"), tmp_path / "masked.onnx"
    report = tgdonnx.mask(path, masked, tgdonnx.AllLayers())
    assert list(report.frozen) == ["odd"]
    assert "its weight is not stored in the file" in report.frozen["odd"]
    assert report.rho == pytest.approx((8 + 15) / (8 + 20 + 15))
    assert tgdonnx.build(masked, tmp_path / "artifacts").rho == pytest.approx(report.rho)


def test_a_kernel_that_the_input_makes_is_no_weight(tmp_path: Path) -> None:
    model = text_model(
        "g (float[1, 4, 8] x, float[4, 4, 1] k) => (float[1, 3, 8] y) { a = Conv(x, k)\n y = Conv(a, w) }", w=(3, 4, 1)
    )
    report = tgdonnx.mask(models.save(model, tmp_path / "model.onnx"), tmp_path / "masked.onnx", tgdonnx.AllLayers())
    assert report.rho == 1
    assert list(report.frozen) == ["A"]
