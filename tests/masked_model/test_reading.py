"""Masked models that are none: what breaks the format is refused by its name, and what may be changed by hand is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from tests.support import models
from tests.support.models import Builder, save
from tgdonnx.errors import MaskedModelError, ModelFileError
from tgdonnx.layers import open_network
from tgdonnx.masked_model import SUFFIX, MaskedModel, masked_bytes, read_masked
from tgdonnx.masking import MaskOptions, mask
from tgdonnx.selection import Phi, PlanMode, plan_masks, select
from tgdonnx.tracing import trace_network


def masked(model: onnx.ModelProto, directory: Path, *, mode: PlanMode = "paper") -> tuple[Path, Path]:
    """The vendor's file and the masked one."""
    vendor, output = save(model, directory / "model.onnx"), directory / "masked.onnx"
    mask(vendor, output, Phi(0.3), MaskOptions(mode=mode))
    return vendor, output


def tampered(directory: Path, change: Callable[[onnx.ModelProto], None], builder: Builder = models.chain) -> Path:
    _, output = masked(builder(0), directory, mode="readers")
    model = onnx.load(output, load_external_data=False)
    change(model)
    return save(model, directory / "tampered.onnx")


def set_mask(name: str, array: Any) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name + SUFFIX)
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(array), tensor.name))

    return change


def set_metadata(key: str, value: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        next(entry for entry in model.metadata_props if entry.key == key).value = value

    return change


def test_masks_may_be_changed_by_hand(tmp_path: Path) -> None:
    wanted = np.zeros((6, 1, 1, 1), np.float32)
    wanted[3] = 1
    found = read_masked(tampered(tmp_path, set_mask("w2", wanted)))
    np.testing.assert_array_equal(found.masks["w2"], wanted)
    assert found.base.data == (tmp_path / "model.onnx").read_bytes()


def half(index: tuple[int, ...]) -> Any:
    array = np.zeros((6, 8, 1, 1), np.float32)
    array[index] = 0.5
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_mask("w2", half((4, 1, 0, 0))), "'w2.retrain_mask' holds 0.5; expected 0 or 1"),
        (set_mask("b1", np.full(8, np.nan, np.float32)), "'b1.retrain_mask' holds nan; expected 0 or 1"),
        (set_mask("b1", np.full(8, -1, np.float32)), "'b1.retrain_mask' holds -1.0; expected 0 or 1"),
        (
            set_mask("w2", np.ones((5, 1, 1, 1), np.float32)),
            "'w2.retrain_mask' has shape [5, 1, 1, 1], which does not broadcast against [6, 8, 1, 1]",
        ),
        (
            set_mask("w2", np.ones((1, 6, 1, 1, 1), np.float32)),
            "'w2.retrain_mask' has shape [1, 6, 1, 1, 1], which does not broadcast against [6, 8, 1, 1]",
        ),
        (
            set_mask("w2", np.ones(8, np.float32)),
            "'w2.retrain_mask' has shape [8], which does not broadcast against [6, 8, 1, 1]",
        ),
        (
            lambda model: model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "ghost" + SUFFIX)),
            "'ghost.retrain_mask' belongs to no tensor: there is no 'ghost' in ",
        ),
        (
            set_metadata("tgdonnx.format", "4"),
            "has masks of format 4; this version reads formats 1 to 3: update tgdonnx",
        ),
        (set_metadata("tgdonnx.base_sha256", "0" * 64), "without its masks is not the file that was masked; mask it again"),
        (lambda model: model.metadata_props.pop(), "has no retrain masks; make them with `tgdonnx.mask`"),
    ],
)  # fmt: skip
def test_a_masked_model_that_breaks_the_format_is_refused(
    change: Callable[[onnx.ModelProto], None], message: str, tmp_path: Path
) -> None:
    path = tampered(tmp_path, change)
    with pytest.raises(MaskedModelError, match=re.escape(message)):
        read_masked(path)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.bool_, np.float16])
def test_a_mask_of_another_type_is_refused(dtype: type, tmp_path: Path) -> None:
    path = tampered(tmp_path, set_mask("b1", np.ones(8, dtype)))
    with pytest.raises(MaskedModelError, match=r"b1\.retrain_mask"):
        read_masked(path)


@pytest.mark.parametrize("value", ["", "no json", "[1, 2]", "null"])
def test_a_damaged_selection_is_refused(value: str, tmp_path: Path) -> None:
    path = tampered(tmp_path, set_metadata("tgdonnx.selection", value))
    with pytest.raises(MaskedModelError):
        read_masked(path)


@pytest.mark.parametrize("damage", ["too little data", "data elsewhere", "unknown type"])
def test_a_mask_that_cannot_be_read_is_refused(damage: str, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "b1" + SUFFIX)
        if damage == "too little data":
            tensor.raw_data = tensor.raw_data[:-4]
        elif damage == "unknown type":
            tensor.data_type = 999
        else:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="/etc/hostname")

    path = tampered(tmp_path, change)
    with pytest.raises((MaskedModelError, ModelFileError), match=r"b1\.retrain_mask"):
        read_masked(path)


def test_any_change_to_the_vendor_s_bytes_is_noticed(tmp_path: Path) -> None:
    vendor, output = masked(models.ir_3(), tmp_path)
    data = output.read_bytes()
    size = len(vendor.read_bytes())
    refused = 0
    for place in range(30, size - 30, 41):
        changed = bytearray(data)
        changed[place] ^= 1
        (tmp_path / "changed.onnx").write_bytes(changed)
        with pytest.raises((MaskedModelError, ModelFileError)):
            read_masked(tmp_path / "changed.onnx")
        refused += 1
    assert refused > 50


def test_a_file_without_masks_is_told_how_to_get_them(tmp_path: Path) -> None:
    path = save(models.chain(), tmp_path / "model.onnx")
    with pytest.raises(MaskedModelError, match=r"model\.onnx has no retrain masks; make them with `tgdonnx\.mask`$"):
        read_masked(path)


def test_masked_bytes_do_not_depend_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    texts = []
    for path in (tmp_path / "one.onnx", tmp_path / "a" / "two.onnx"):
        network = open_network(save(models.gated(), path))
        provenance = trace_network(network)
        masks = plan_masks(provenance, select(provenance, Phi(0.3)), "paper")
        texts.append(masked_bytes(network, masks, {"strategy": "phi"}))
    assert texts[0] == texts[1]
    (tmp_path / "read.onnx").write_bytes(texts[0])
    assert isinstance(read_masked(tmp_path / "read.onnx"), MaskedModel)
