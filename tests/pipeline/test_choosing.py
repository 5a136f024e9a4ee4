"""What trains where nobody says what."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Optional

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.support.models import Array, save
from tests.support.training_models import text_model
from tgdonnx.errors import DataError, SelectionError
from tgdonnx.pipeline.choosing import ENOUGH, what_trains

ALIVE = np.array([1, 0, 1, 0, 1, 1], np.float32).reshape(1, 6, 1, 1)
RUN = tgdonnx.TrainOptions(epochs=2, batch=3)


@pytest.mark.parametrize(
    ("dead", "regrows", "adapts", "expected"),
    [
        (0.5, True, True, "regrow"),
        (0.5, True, False, "regrow"),
        (ENOUGH, True, True, "regrow"),
        (ENOUGH / 2, True, True, "adapter"),
        (ENOUGH / 2, True, False, "all"),
        (0.5, False, True, "adapter"),
        (0.5, False, False, "all"),
        (0.0, True, True, "adapter"),
        (0.0, True, False, "all"),
    ],
)
def test_dead_filters_are_reused_if_there_are_enough_and_else_side_paths_are_added(
    dead: float, regrows: bool, adapts: bool, expected: str
) -> None:
    assert what_trains(dead, regrows=regrows, adapts=adapts) == expected


def network(alive: Array = ALIVE) -> onnx.ModelProto:
    """By default the second and fourth map of the first layer are read by kernels that are zero."""
    rng = np.random.default_rng(5)
    return text_model(
        "g (float[N,2,H,W] x) => (float[N,3,h,v] y) { a = Conv(x, w1, b1) r = Relu(a) y = Conv(r, w2) }",
        w1=(6, 2, 3, 3),
        b1=(6,),
        w2=(rng.uniform(0.5, 1.5, (3, 6, 1, 1)) * alive).astype(np.float32),
    )


def pairs(samples: int = 6, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    sizes = {"x": (samples, 2, 6, 6), "target": (samples, 3, 4, 4)}
    return {name: rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}


def finetune(
    model: onnx.ModelProto,
    folder: Path,
    training: tgdonnx.TrainOptions = RUN,
    *,
    validation: Optional[dict[str, Array]] = None,
    told: Optional[list[str]] = None,
    masking: tgdonnx.MaskOptions = tgdonnx.MaskOptions(),  # noqa: B008  # frozen
    results: tgdonnx.Results = tgdonnx.Results(),  # noqa: B008  # frozen
) -> tgdonnx.FinetuneReport:
    return tgdonnx.finetune(
        save(model, folder / "model.onnx"),
        tgdonnx.RunData(pairs(), validation),
        folder / "tuned.onnx",
        training=training,
        masking=masking,
        results=replace(results, artifacts=folder / "run"),
        watch=tgdonnx.Watch(on_remark=(told if told is not None else []).append),
    )


def test_dead_filters_are_reinitialised_and_it_is_said_everywhere_why(tmp_path: Path) -> None:
    told: list[str] = []
    report = finetune(network(), tmp_path, told=told, results=tgdonnx.Results(report=tmp_path / "page.html"))
    assert report.verify.ok
    selection = report.mask.selection
    assert (selection["strategy"], selection["mode"], selection["rebirth"]) == ("phi", "regrow", "clone")
    assert selection["rows"] == {"w1": [1, 3]}
    assert (selection["samples"], selection["change"]) == (6, 0)  # measured on the data, not on random input
    why = (
        f"the filters below phi {selection['phi']:g}, reinitialised (mode regrow): the drop test finds 2 of 9 filters dead, "
        "with 28.6 % of the weights (without them the output changes by 0)"
    )
    assert selection["chosen"] == why
    assert f"nothing is selected, so this trains: {why}" in told
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["selection"]["chosen"] == why
    assert why in (tmp_path / "page.html").read_text("utf-8")
    tuned = onnx.load(tmp_path / "tuned.onnx")
    recorded = next(entry.value for entry in tuned.metadata_props if entry.key == "tgdonnx.provenance.1")
    assert json.loads(recorded)["selection"]["chosen"] == why
    assert tgdonnx.verify(tmp_path / "model.onnx", tmp_path / "tuned.onnx").proof == "recomputed"


def test_without_dead_filters_side_paths_are_added_and_train_ten_times_as_fast(tmp_path: Path) -> None:
    told: list[str] = []
    report = finetune(network(np.ones_like(ALIVE)), tmp_path, told=told)
    assert report.verify.ok
    assert (report.mask.selection["strategy"], report.mask.selection["mode"]) == ("all", "adapter")
    why = (
        "side paths of rank 8 beside all layers (mode adapter): the drop test finds no filter that can be dropped within the "
        "tolerance 0.05"
    )
    assert report.mask.selection["chosen"] == why
    assert f"nothing is selected, so this trains: {why}" in told
    assert json.loads((tmp_path / "run" / "run.json").read_text())["options"]["learning_rate"] == 1e-3


def test_where_no_layer_can_have_a_side_path_all_layers_train(tmp_path: Path) -> None:
    model = text_model("g (float[N,2,H,W] x) => (float[N,3,h,v] y) { y = Conv(x, w) }", w=(3, 2, 3, 3))
    double = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[N,2,H,W] x) => (float[N,3,h,v] y) {
            always = Constant<value = bool {1}>()
            y = If(always) <
                then_branch = yes () => (float[N,3,h,v] p) { p = Conv(x, w) },
                else_branch = no () => (float[N,3,h,v] q) { q = Conv(x, w) }
            >
        }"""
    )
    double.graph.initializer.extend(model.graph.initializer)
    report = finetune(double, tmp_path)
    assert report.verify.ok
    assert (report.mask.selection["strategy"], report.mask.selection["mode"]) == ("all", "paper")
    assert "no layer can have a side path" in report.mask.selection["chosen"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["options"]["learning_rate"] == 1e-4


def test_on_data_that_the_drop_test_cannot_look_at_side_paths_are_added(tmp_path: Path) -> None:
    dark = {**pairs(), "x": np.zeros_like(pairs()["x"])}
    flat = text_model(
        "g (float[N,2,H,W] x) => (float[N,3,h,v] y) { a = Conv(x, w) y = Conv(a, v) }", w=(4, 2, 3, 3), v=(3, 4, 1, 1)
    )
    report = tgdonnx.finetune(save(flat, tmp_path / "model.onnx"), dark, tmp_path / "tuned.onnx", training=RUN)
    assert report.mask.selection["mode"] == "adapter"
    assert "the drop test cannot be done on this data" in report.mask.selection["chosen"]


def test_with_validation_data_it_is_blended_unless_it_is_said_how_far(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "open").mkdir()
    report = finetune(network(), tmp_path / "open", validation=pairs(3, 1), told=told)
    assert report.blend is not None
    assert report.export.blend == report.blend.chosen
    assert any(remark.endswith("; how far it goes is chosen on the validation data") for remark in told)
    (tmp_path / "said").mkdir()
    said = finetune(network(), tmp_path / "said", validation=pairs(3, 1), results=tgdonnx.Results(blend=1.0))
    assert (said.blend, said.export.blend) == (None, 1)


def test_a_learning_rate_that_is_said_stays(tmp_path: Path) -> None:
    finetune(network(np.ones_like(ALIVE)), tmp_path, replace(RUN, learning_rate=1e-4))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["options"]["learning_rate"] == 1e-4


def test_a_tolerance_that_is_said_is_that_of_the_drop_test(tmp_path: Path) -> None:
    loose = tgdonnx.MaskOptions(reinitialization=tgdonnx.Reinitialization(tolerance=1e3))
    report = finetune(network(np.ones_like(ALIVE)), tmp_path, masking=loose)
    assert report.mask.selection["mode"] == "regrow"
    assert report.mask.selection["tolerance"] == 1e3


@pytest.mark.parametrize(
    ("masking", "what"),
    [
        (tgdonnx.MaskOptions("readers"), "mode readers"),
        (tgdonnx.MaskOptions("regrow"), "mode regrow"),
        (tgdonnx.MaskOptions(protect=True), "protection"),
    ],
)
def test_what_needs_a_selection_is_refused_without_one(masking: tgdonnx.MaskOptions, what: str, tmp_path: Path) -> None:
    with pytest.raises(
        SelectionError, match=f"^{what} is asked for, but no filters are selected; select some, such as by `phi`"
    ):
        finetune(network(), tmp_path, masking=masking)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_mode_adapter_alone_is_all_layers_and_no_choice(tmp_path: Path) -> None:
    report = finetune(network(), tmp_path, masking=tgdonnx.MaskOptions("adapter"), validation=pairs(3, 1))
    assert (report.mask.selection["strategy"], report.mask.selection["mode"]) == ("all", "adapter")
    assert "chosen" not in report.mask.selection
    assert report.blend is None


def test_two_noisy_images_need_a_selection(tmp_path: Path) -> None:
    image = np.zeros((8, 8), np.float32)
    with pytest.raises(SelectionError, match="the drop test, which would choose, does not look at two noisy images"):
        tgdonnx.finetune(
            save(network(), tmp_path / "model.onnx"), tgdonnx.Noise2Noise(image, image), tmp_path / "tuned.onnx"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_data_that_does_not_fit_is_told_as_with_a_selection(tmp_path: Path) -> None:
    model, wrong = save(network(), tmp_path / "model.onnx"), {**pairs(), "x": pairs()["x"][:, :1]}
    said = []
    for strategy in (None, tgdonnx.AllLayers()):
        with pytest.raises(DataError) as caught:
            tgdonnx.finetune(model, wrong, tmp_path / "tuned.onnx", strategy)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("frozen", "other", "why"),
    [
        ("A", "Y", "all of them in frozen layers"),
        (
            "Y",
            "A",
            "but none of the 2 filters that are selected can be reinitialised: it is read by 'Y', which is to stay frozen",
        ),
    ],
)
def test_of_frozen_layers_nothing_is_chosen(frozen: str, other: str, why: str, tmp_path: Path) -> None:
    report = finetune(network(), tmp_path, masking=tgdonnx.MaskOptions(freeze=(frozen,)))
    assert report.verify.ok
    assert (report.mask.selection["mode"], report.mask.selection["freeze"]) == ("adapter", [frozen])
    assert [path.layer for path in report.mask.added] == [other]
    chosen = report.mask.selection["chosen"]
    assert chosen.startswith("side paths of rank 8 beside all other layers (mode adapter): the drop test finds 2 of 9")
    assert why in chosen


def test_the_passes_of_the_drop_test_are_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    watch = tgdonnx.Watch(on_drop_test=lambda done, total: told.append((done, total)))
    tgdonnx.finetune(save(network(), tmp_path / "v.onnx"), pairs(), tmp_path / "t.onnx", training=RUN, watch=watch)
    count = told[-1][1]
    assert told == [(done, count) for done in range(1, 1 + count)]
