"""A regrown masked model that was touched is refused with a sentence, or still gives the vendor's file and what was set."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from tests.masked_model.regrown import ByHand, outputs, tampered, variant
from tests.oracles.independent import tensors_of
from tests.support.models import random_feeds
from tgdonnx.errors import MaskedModelError, ModelFileError
from tgdonnx.masked_model import read_masked

Change = Callable[[onnx.ModelProto], Any]


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> ByHand:
    return variant("dncnn", tmp_path_factory.mktemp("once"))[1]


@pytest.fixture
def copy(once: ByHand, tmp_path: Path) -> Path:
    return Path(shutil.copy(once.masked, tmp_path / "masked.onnx"))


def tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(entry for entry in model.graph.initializer if entry.name == name)


def edit(name: str, change: Callable[[Any], Any]) -> Change:
    """Replaces the values of a tensor."""

    def apply(model: onnx.ModelProto) -> None:
        found = tensor(model, name)
        found.CopyFrom(numpy_helper.from_array(np.asarray(change(numpy_helper.to_array(found).copy())), name))

    return apply


def add(place: tuple[int, ...], amount: float = 1.0) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array[place] += amount
        return array

    return change


def metadata(key: str, value: str | None) -> Change:
    def apply(model: onnx.ModelProto) -> None:
        kept = {entry.key: entry.value for entry in model.metadata_props if entry.key != key}
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, {**kept, **({} if value is None else {key: value})})

    return apply


def without(name: str) -> Change:
    return lambda model: model.graph.initializer.remove(tensor(model, name))


def duplicated(name: str) -> Change:
    return lambda model: model.graph.initializer.append(tensor(model, name))


def external(model: onnx.ModelProto) -> None:
    found = tensor(model, "w2.vendor_values")
    found.ClearField("raw_data")
    found.data_location = TensorProto.EXTERNAL
    found.external_data.add(key="location", value="/etc/hostname")


def cut_off(model: onnx.ModelProto) -> None:
    found = tensor(model, "w2.vendor_values")
    found.raw_data = found.raw_data[:-4]


ANOTHER = "without its masks is not the file that was masked; mask it again"
TAMPERED: dict[str, tuple[Change, str]] = {
    "a value of a tensor without any other values": (edit("bn2_var", add((4,))), ANOTHER),
    "a value of the vendor's": (edit("w2.vendor_values", add((1, 1, 1, 1))), ANOTHER),
    "a value of the vendor's where nothing may change": (edit("bn2_mean.vendor_values", add((1,))), ANOTHER),
    "the vendor's values gone": (without("w2.vendor_values"), ANOTHER),
    "the vendor's statistics gone": (without("bn3_var.vendor_values"), ANOTHER),
    "the vendor's values of another type": (
        edit("w2.vendor_values", lambda array: array.astype(np.float16)),
        "'w2.vendor_values' has type float16 and shape [10, 8, 3, 3]; expected float32 and [10, 8, 3, 3], as the vendor's",
    ),
    "the vendor's values of another shape": (
        edit("w2.vendor_values", lambda array: array[:, :7]),
        "'w2.vendor_values' has type float32 and shape [10, 7, 3, 3]; expected float32 and [10, 8, 3, 3], as the vendor's",
    ),
    "fewer of the vendor's values than there should be": (cut_off, "'w2.vendor_values' in "),
    "the vendor's values elsewhere": (external, "'w2.vendor_values' in "),
    "the vendor's values twice": (
        duplicated("w2.vendor_values"),
        "has 'w2.vendor_values' twice; mask the vendor's file",
    ),
    "a mask twice": (duplicated("w2.retrain_mask"), "has 'w2.retrain_mask' twice; mask the vendor's file again"),
    "the vendor's values of nothing": (
        lambda model: model.graph.initializer.append(
            numpy_helper.from_array(np.ones(3, np.float32), "w9.vendor_values")
        ),
        "'w9.vendor_values' belongs to no tensor: there is no 'w9' in ",
    ),
    "a mask of what was set, gone": (
        without("bn2_mean.set_mask"),
        "2 values of 'bn2_mean' are not the vendor's, though no mask lets them change, the first at [0]; mask the vendor's",
    ),
    "a retrain mask gone": (
        without("w2.retrain_mask"),
        "values of 'w2' are not the vendor's, though no mask lets them",
    ),
    "a retrain mask of zeros": (
        edit("w2.retrain_mask", lambda array: 0 * array),
        "values of 'w2' are not the vendor's",
    ),
    "a mask of halves": (edit("bn2_mean.set_mask", lambda array: array / 2), "'bn2_mean.set_mask' holds 0.5; expected"),
    "a mask of another type": (
        edit("bn2_mean.set_mask", lambda array: array.astype(np.int64)),
        "'bn2_mean.set_mask' in ",
    ),
    "a mask of another shape": (
        edit("bn2_mean.set_mask", lambda array: array[:9]),
        "'bn2_mean.set_mask' has shape [9], which does not broadcast against [10]",
    ),
    "a mask of nothing": (
        lambda model: model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "w9.set_mask")),
        "'w9.set_mask' belongs to no tensor: there is no 'w9' in ",
    ),
    "something set that trains": (
        edit("w4.set_mask", np.ones_like),
        "'w4.retrain_mask' and 'w4.set_mask' are both 1 at [0, ",
    ),
    "the hash of the vendor's file": (metadata("tgdonnx.base_sha256", "0" * 64), ANOTHER),
    "the hash of the vendor's values": (
        metadata("tgdonnx.vendor_values_sha256", "0" * 64),
        "are not those that were put there; mask the vendor's file again",
    ),
    "no hash of the vendor's values": (
        metadata("tgdonnx.vendor_values_sha256", None),
        "are not those that were put there",
    ),
    "called format 1": (metadata("tgdonnx.format", "1"), ANOTHER),
    "called format 4": (
        metadata("tgdonnx.format", "4"),
        "has masks of format 4; this version reads formats 1 to 3: update tgdonnx",
    ),
    "a record that is none": (metadata("tgdonnx.selection", "[]"), "'tgdonnx.selection' in "),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_file_that_was_touched_is_refused_with_a_sentence(case: str, copy: Path) -> None:
    change, message = TAMPERED[case]
    read_masked(copy)
    tampered(copy, change)
    with pytest.raises((MaskedModelError, ModelFileError), match=re.escape(message)):
        read_masked(copy)


def test_a_value_where_no_mask_is_1_is_named_with_its_place(once: ByHand, copy: Path) -> None:
    frozen = ~(once.trains("w2") | once.is_set("w2"))
    assert frozen.any()
    place = tuple(int(i) for i in np.argwhere(frozen)[-1])
    tampered(copy, edit("w2", add(place, 1e-6)))
    expected = (
        f"1 values of 'w2' are not the vendor's, though no mask lets them change, the first at {list(place)}; mask"
    )
    with pytest.raises(MaskedModelError, match=re.escape(expected)):
        read_masked(copy)


def test_values_within_the_masks_may_be_changed_by_hand(once: ByHand, copy: Path) -> None:
    place = tuple(int(i) for i in np.argwhere(once.trains("w2"))[0])
    tampered(copy, edit("w2", add(place)))
    tampered(copy, edit("bn2_mean", add((0,))))
    found = read_masked(copy)
    assert found.base.data == once.vendor.read_bytes()
    assert found.network.stored_parameters["w2"].numpy()[place] == once.values["w2"][place] + 1
    assert outputs(copy, random_feeds(onnx.load(once.vendor))) != outputs(
        once.masked, random_feeds(onnx.load(once.vendor))
    )


def test_whatever_bit_flips_the_vendors_file_comes_back_or_nothing(once: ByHand, copy: Path) -> None:
    data, chance = once.masked.read_bytes(), random.Random(5)
    vendor = onnx.load(once.vendor)
    old = {name: numpy_helper.to_array(entry) for name, entry in tensors_of(vendor).items()}
    changed = {name: once.trains(name) | once.is_set(name) for name in old}
    refused = read = 0
    for place in chance.sample(range(len(data)), 250):
        flipped = bytearray(data)
        flipped[place] ^= 1 << chance.randrange(8)
        copy.write_bytes(flipped)
        try:
            found = read_masked(copy)
        except (MaskedModelError, ModelFileError):
            refused += 1
            continue
        read += 1
        assert found.base.data == once.vendor.read_bytes()
        for name, may in changed.items():
            new = found.network.stored_parameters[name].numpy()
            assert (new[~may] == old[name][~may]).all(), f"byte {place} changed {name!r} where nothing may"
    assert refused > 100
    assert read > 20, "values within the masks"
