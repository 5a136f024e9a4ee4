"""What a record says of the data: it is printed as the record's own word, and names are as many as there are classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

import tgdonnx
from tests.cli.commands import run
from tests.support.forging import Record, body_of, entry, refused, tune_by_hand
from tests.support.models import save
from tests.support.training_models import text_model

PIXELS = "float[N, 2, H, W] x"
BY_IMAGE = f"""g ({PIXELS}) => (float[N, 3] y) {{
    a = Conv<pads = [1, 1, 1, 1]>(x, v, c) m = GlobalAveragePool(a) f = Flatten(m) y = Gemm(f, w, b)
}}"""
BY_PIXEL = f"g ({PIXELS}) => (float[N, 2, H, W] y) {{ a = Conv<pads = [1, 1, 1, 1]>(x, v, c) y = Relu(a) }}"
BY_SHAPE = (
    f"g ({PIXELS}, int64[4] s) => (float[N, C, H, W] y) {{ a = Conv<pads = [1, 1, 1, 1]>(x, v, c) y = Reshape(a, s) }}"
)
MORE = "the record in the tuned file names 3 classes (0, 1, 2), the model has 2"


def classifier() -> onnx.ModelProto:
    return text_model(BY_IMAGE, v=(4, 2, 3, 3), c=(4,), w=(4, 3), b=(3,))


class Tuned:
    """A tuned file whose record says something of the data."""

    def __init__(self, model: onnx.ModelProto, work: Path) -> None:
        self.base, self.path = save(model, work / "model.onnx"), work / "tuned.onnx"
        tgdonnx.mask(self.base, work / "masked.onnx", tgdonnx.AllLayers())
        self.record: Record = tune_by_hand(work / "masked.onnx", self.path)
        self.body = body_of(self.path.read_bytes(), self.record)

    def says(self, **more: Any) -> None:
        options = {"loss": more.pop("loss", "ce"), "output": more.pop("output", "y")}
        format_ = 5 if "federation" in more else 4 if "preparation" in more else 3
        self.path.write_bytes(self.body + entry(1, {**self.record, "format": format_, "options": options, **more}))


@pytest.fixture
def tuned(tmp_path: Path) -> Tuned:
    return Tuned(classifier(), tmp_path)


def test_rounds_and_sites_of_federated_training_are_told_as_the_records_own_word(tuned: Tuned) -> None:
    sites = [{"name": "north", "samples": 1200, "rounds": 3}, {"name": "\x1b[31mx", "samples": 1, "rounds": 2}]
    tuned.says(federation={"rounds": 3, "sites": sites})
    report = tgdonnx.verify(tuned.base, tuned.path)
    assert (report.ok, report.proof) == (True, "recomputed")
    told = (
        "trained in 3 rounds at 2 sites: 'north' (1,200 samples, 3 of the rounds); '\\x1b[31mx' (1 sample, 2 of the rounds): "
        "that is the record's own word"
    )
    assert report.told == (told,)
    assert told in " ".join(run("verify", tuned.base, tuned.path).stdout.split())
    tuned.says(federation={"rounds": 0, "sites": []})
    (nothing,) = tgdonnx.verify(tuned.base, tuned.path).told
    assert nothing.startswith("no round of federated training did better than the start: ")


def test_how_data_is_prepared_and_what_classes_are_called_is_told_as_the_records_own_word(tuned: Tuned) -> None:
    scaling = {"x": {"offset": 1e9, "divisor": 1e-30, "how": "percentiles", "mean": [0.5], "std": [0.25]}}
    preparation = {"scaling": scaling, "resize": [32, 24], "crop": [16, 16], "colour": "rgb"}
    tuned.says(preparation=preparation, classes=["melanoma", "benign", "\x1b[31mx"])
    report = tgdonnx.verify(tuned.base, tuned.path)
    assert (report.ok, report.proof) == (True, "recomputed")
    prepared, called = report.told
    assert prepared == (
        "data is prepared as 'x' less 1e+09, by 1e-30, less [0.5], by [0.25]; pictures of 32x24 ('bilinear'); their middle of "
        "16x16; colours 'rgb': that is the record's own word, by which the file is applied"
    )
    assert called == (
        "classes are called 'melanoma', 'benign', '\\x1b[31mx': that is the record's own word, by which the file is applied"
    )
    said = " ".join(run("verify", tuned.base, tuned.path).stdout.split())
    assert prepared in said
    assert called in said
    assert json.loads(run("verify", tuned.base, tuned.path, "--json").stdout)["told"] == [prepared, called]


def test_a_record_that_says_nothing_of_the_data_is_not_said_to(tuned: Tuned) -> None:
    assert tgdonnx.verify(tuned.base, tuned.path).told == ()
    assert tgdonnx.verify(tuned.base, tuned.base).told == ()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["cat"], r"names 1 class (cat), the model has 3"),
        (["a", "b", "c", "d"], r"names 4 classes (a, b, c, d), the model has 3"),
        (["a", "b", "a"], "two classes are called 'a'"),
        (["a", "", "b"], "a class has no name"),
    ],
)
def test_names_that_are_not_one_for_every_class_are_refused(names: list[str], told: str, tuned: Tuned) -> None:
    tuned.says(classes=names)
    for masked in (None, tuned.base.with_name("masked.onnx")):
        (found,) = refused(tuned.base, tuned.path, masked)
        assert told in found


@pytest.mark.parametrize(
    ("model", "said", "names", "told"),
    [
        (BY_PIXEL, {}, 3, [MORE]),
        (BY_PIXEL, {"output": None}, 3, [MORE]),
        (BY_PIXEL, {"loss": "y: ce"}, 3, [MORE]),
        (BY_PIXEL, {}, 2, []),
        (BY_PIXEL, {"loss": "mse"}, 3, []),  # no labels were compared with it
        (BY_PIXEL, {"loss": "?"}, 3, []),
        (BY_PIXEL, {"output": "z"}, 3, []),
        (BY_PIXEL.replace("N, 2, H, W] y", "N, C, H, W] y"), {}, 3, [MORE]),  # 2 all the same
        (BY_SHAPE, {}, 3, []),
    ],
)
def test_names_are_counted_where_labels_were_compared_and_the_graph_tells_how_many_classes_there_are(
    model: str, said: dict[str, Any], names: int, told: list[str], tmp_path: Path
) -> None:
    tuned = Tuned(text_model(model, v=(2, 2, 3, 3), c=(2,)), tmp_path)
    tuned.says(classes=[str(number) for number in range(names)], **said)
    assert refused(tuned.base, tuned.path) == told
