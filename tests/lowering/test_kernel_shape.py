"""Every Conv and ConvTranspose of the models that train states the size of its filters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

import tgdonnx
from tests.support.training_models import text_model
from tgdonnx.lowering.kernel_shape import StateKernelShape

NET = """net (float[N,2,H,W] x) => (float[N,3,P,Q] y) {
    a = Conv(x, w)
    n = BatchNormalization(a, scale, offset, mean, var)
    r = LRN<size = 3>(n)
    s = Conv<auto_pad = "SAME_UPPER">(r, v)
    t = Transpose<perm = [1, 0, 2, 3]>(u)
    y = ConvTranspose<strides = [2, 2]>(s, t)
}"""
SHAPES = {
    "w": (4, 2, 3, 1),
    "v": (5, 4, 1, 3),
    "u": (3, 5, 2, 4),
    **dict.fromkeys(("scale", "offset", "mean", "var"), (4,)),
}


def convolutions(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    yield from (node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose"))


@pytest.mark.parametrize("form", ["masked", "thin"])
def test_no_model_of_a_build_leaves_it_out_and_the_export_is_the_vendors(form: str, tmp_path: Path) -> None:
    vendor = text_model(NET, **SHAPES)
    assert not any(each.name == "kernel_shape" for node in convolutions(vendor) for each in node.attribute)
    onnx.save(vendor, tmp_path / "vendor.onnx")
    tgdonnx.mask(tmp_path / "vendor.onnx", tmp_path / "masked.onnx", tgdonnx.Percentile(40))
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "built", tgdonnx.BuildOptions(form=form))  # type: ignore[arg-type]
    for name in ("step", "gradients", "eval"):
        model = onnx.load(tmp_path / "built" / f"{name}.onnx")
        found = {
            node.name: [list(each.ints) for each in node.attribute if each.name == "kernel_shape"]
            for node in convolutions(model)
        }
        assert {"A", "S", "Y"} <= found.keys()
        assert (len(found) > 3) == (name != "eval")
        assert [name for name, kernel in found.items() if len(kernel) != 1 or len(kernel[0]) != 2] == []
        onnx.checker.check_model(model, full_check=True)
    tgdonnx.export(tmp_path / "built", tmp_path / "tuned.onnx")
    exported = onnx.load(tmp_path / "tuned.onnx").graph
    assert exported.SerializeToString(deterministic=True) == vendor.graph.SerializeToString(deterministic=True)


def test_it_is_that_of_the_weight_and_is_left_out_where_the_weight_has_no_shape() -> None:
    text = """net (float[N,2,H,W] x, int64[4] sizes) => (float[N,4,P,Q] y, float[N,M,P,Q] z) {
        y = Conv(x, w)
        v = Reshape(u, sizes)
        z = Conv(x, v)
    }"""
    model = ir.from_proto(text_model(text, w=(4, 2, 3, 1), u=(4, 2, 3, 1)))
    assert StateKernelShape()(model).modified
    known, _, unknown = model.graph
    assert list(known.attributes["kernel_shape"].as_ints()) == [3, 1]
    assert "kernel_shape" not in unknown.attributes
    assert not StateKernelShape()(model).modified
