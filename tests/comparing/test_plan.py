"""What is compared, and what is refused before anything is done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tgdonnx
from tests.comparing.comparisons import OLD, RUN, SELECT, compare, within
from tests.support import models
from tgdonnx.errors import DataError, SelectionError, TgdonnxError


def test_what_the_names_of_selections_say_is_not_taken_from_elsewhere(vendor: Path, tmp_path: Path) -> None:
    for masking in (tgdonnx.MaskOptions("readers"), tgdonnx.MaskOptions(adapter=tgdonnx.Adapter(2))):
        with pytest.raises(SelectionError, match="name selections that have them, such as tgd-readers"):
            compare(vendor, tmp_path / "none", ("all",), masking=masking)


def test_the_default_takes_what_fits_the_model_and_the_regularisers_that_are_given(tmp_path: Path) -> None:
    vendor = models.save(models.dncnn(0), tmp_path / "vendor.onnx")
    report = compare(vendor, tmp_path / "all", None, replace(RUN, epochs=None, steps=1), masking=within(0.1))
    names = [entry.name for entry in report.entries]
    assert names[0] == "none"
    assert {"tgd", "tgd-readers", "last:3", "first:2", "all", "tgd-readers+l2sp", "tgd-readers+agree"} <= set(names)


@pytest.mark.parametrize(
    ("select", "options", "more", "kind", "message"),
    [
        (("last:9",), {}, {"agree": None, "l2_sp": 0.0}, SelectionError, "last:9: expected last between 1 and 4"),
        (
            ("all+agree",),
            {},
            {"agree": None, "l2_sp": 0.0},
            SelectionError,
            r"a selection with \+agree needs `agree`",
        ),
        (("all+l2sp",), {}, {"l2_sp": 0.0}, SelectionError, r"a selection with \+l2sp needs `l2_sp`"),
        (("all",), {}, {}, SelectionError, r"`l2_sp` is for selections with \+l2sp"),
        (("all",), {}, {"l2_sp": 0.0}, SelectionError, r"`agree` is for selections with \+agree"),
        (SELECT, {}, {"validation": None}, DataError, "pass validation data, or split some off"),
        (SELECT, {"patience": 2}, {}, DataError, "compared at equal steps, which patience would end"),
        (SELECT, {"best": "psnr"}, {}, DataError, "compared by the validation loss, not by psnr"),
        (SELECT, {"epochs": None, "max_time": 9.0}, {}, DataError, "which max_time would end"),
        (SELECT, {"retain_limit": 1.0}, {"retain": None}, DataError, "needs data of the vendor's own task"),
        (SELECT, {}, {"retain": {"z": OLD["x"], "w": OLD["x"]}}, DataError, "'x'"),
        (SELECT, {}, {"agree": {"z": OLD["x"], "w": OLD["x"]}}, DataError, "'x'"),
    ],
)
def test_refusals_leave_nothing(
    select: Any, options: Any, more: Any, kind: type[TgdonnxError], message: str, vendor: Path, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        compare(vendor, tmp_path / "out", select, replace(RUN, **options), **more)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vendor.onnx"]


def test_event_files_and_two_noisy_images_are_not_compared(vendor: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="event files are for single runs"):
        compare(vendor, tmp_path / "c", ("all",), tensorboard=tmp_path / "board")
    pair = tgdonnx.RunData(tgdonnx.Noise2Noise(OLD["x"], OLD["x"]))
    with pytest.raises(DataError, match=r"two noisy images are for `tgdonnx\.train` and `tgdonnx\.finetune`"):
        tgdonnx.compare(vendor, pair, tmp_path / "c", ("all",))
    assert [path.name for path in tmp_path.iterdir()] == ["vendor.onnx"]
