"""Selections compared on small networks: as separate runs do, and nothing done twice."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgdonnx
from tests.comparing.comparisons import IMAGES, OLD, RUN, SELECT, by_name, compare, differing, facts, stored, within
from tests.finetuning.runs import HELD_OUT, data, log_of
from tests.support import models
from tests.support.fake_sessions import FakeSession, hooked, sessions
from tests.support.models import Array
from tests.support.trainer import make_artifacts
from tgdonnx.engines import TrainingSession
from tgdonnx.errors import OutputError
from tgdonnx.finetuning import Progress
from tgdonnx.layers import open_network
from tgdonnx.selection import BySensitivity
from tgdonnx.sensitivity import measured


def test_numbers_are_those_of_separate_runs_bit_for_bit(vendor: Path, tmp_path: Path) -> None:
    report = compare(vendor, tmp_path / "all")
    found = by_name(report)
    assert [entry.name for entry in report.entries] == list(SELECT)
    assert {entry.steps for name, entry in found.items() if name != "none"} == {6} == {report.steps}
    separate = {
        "phi:0.3": (tgdonnx.Phi(0.3), {}, {}),
        "last:2": (tgdonnx.LastLayers(2), {}, {}),
        "all+l2sp": (tgdonnx.AllLayers(), {"l2_sp": 0.1}, {}),
        "phi:0.3+agree": (tgdonnx.Phi(0.3), {}, {"agree": IMAGES}),
    }
    for name, (strategy, building, besides) in separate.items():
        folder = tmp_path / name.replace(":", "_")
        folder.mkdir()
        directory = make_artifacts(models.dncnn(0), folder, strategy, form="thin", **building)
        equal = replace(RUN, epochs=None, steps=6, validate_every=3)  # with images an epoch is longer than 3 steps
        expected = tgdonnx.train(directory, tgdonnx.RunData(data(), HELD_OUT, OLD, **besides), equal)
        entry, log = found[name], log_of(Path(found[name].directory, "artifacts"))
        assert tuple(line["loss"] for line in log if line["event"] == "step") == expected.loss
        validated = [epoch for epoch in expected.epochs if epoch.validation is not None]
        assert [(p.step, p.loss, p.new, p.old) for p in entry.curve] == [
            (e.step, e.validation, e.metrics["rmse"], e.retain["rmse"]) for e in validated
        ]
        assert [point.step for point in entry.curve] == [0, 3, 6]
        assert entry.best.step == expected.best.step
        tgdonnx.export(directory, folder / "tuned.onnx")
        assert stored(folder / "tuned.onnx") == stored(Path(entry.directory, "tuned.onnx"))
        assert entry.changed == differing(vendor, folder / "tuned.onnx") > 0
        assert tgdonnx.verify(vendor, Path(entry.directory, "tuned.onnx")).ok
    assert found["none"].curve == found["phi:0.3"].curve[:1]
    assert found["none"].changed == 0
    assert (report.new, report.old, report.labelled) == ("rmse", "rmse", False)


def test_epochs_give_the_losses_of_a_plain_run_of_so_many_epochs(vendor: Path, tmp_path: Path) -> None:
    options = replace(RUN, schedule="cosine", warmup=2)
    report = compare(vendor, tmp_path / "all", ("phi:0.3",), options, agree=None, l2_sp=0.0)
    (tmp_path / "plain").mkdir()
    plain = make_artifacts(models.dncnn(0), tmp_path / "plain", tgdonnx.Phi(0.3), form="thin")
    expected = tgdonnx.train(plain, tgdonnx.RunData(data(), validation=HELD_OUT, retain=OLD), options)
    log = log_of(Path(report.entries[0].directory, "artifacts"))
    assert tuple(line["loss"] for line in log if line["event"] == "step") == expected.loss


def test_the_limit_stops_no_run_and_under_another_one_only_what_was_not_kept_is_run_again(
    vendor: Path, tmp_path: Path
) -> None:
    select = ("none", "phi:0.3", "all")
    options = replace(RUN, epochs=4)
    plain: dict[str, Any] = {"agree": None, "l2_sp": 0.0}
    free = compare(vendor, tmp_path / "all", select, options, **plain)
    falls = [point.fall for point in by_name(free)["all"].curve[1:]]
    assert all(fall is not None and fall > 0 for fall in falls)
    limit = min(fall for fall in falls if fall is not None) * 0.99
    steps: list[int] = []
    remarks: list[str] = []
    held = compare(
        vendor,
        tmp_path / "all",
        select,
        replace(options, retain_limit=limit),
        on_progress=lambda progress: steps.append(progress.step),
        on_remark=remarks.append,
        **plain,
    )
    assert by_name(held)["all"].best.step == 0
    again = [text for text in remarks if "is run again" in text]
    assert len(steps) == 12 * len(again) > 0
    assert [entry.curve for entry in held.entries] == [entry.curve for entry in free.entries]
    for entry in held.entries:
        assert entry.best.fall is not None
        assert entry.best.fall <= limit
    tuned = Path(by_name(held)["all"].directory, "tuned.onnx")
    assert differing(vendor, tuned) == 0, "the best within the limit is the start"
    fresh = compare(vendor, tmp_path / "fresh", select, replace(options, retain_limit=limit), **plain)
    assert facts(fresh) == facts(held)
    assert (fresh.recommended, fresh.reason) == (held.recommended, held.reason)


def test_the_recommended_model_is_written_by_the_command_that_is_said(vendor: Path, tmp_path: Path) -> None:
    report = compare(vendor, tmp_path / "all", ("phi:0.3", "all"), agree=None, l2_sp=0.0)
    best = min(report.entries, key=lambda entry: entry.best.loss)
    assert report.recommended == best.name
    assert report.call == f"tgdonnx.export('{best.directory}/artifacts', output='tuned.onnx')"
    tgdonnx.export(Path(best.directory, "artifacts"), tmp_path / "tuned.onnx")
    assert stored(tmp_path / "tuned.onnx") == stored(Path(best.directory, "tuned.onnx"))
    record = json.loads((tmp_path / "all" / "comparison.json").read_text())
    assert record["report"]["recommended"] == best.name


def test_selections_that_are_the_same_by_other_names_are_trained_once(vendor: Path, tmp_path: Path) -> None:
    plain: dict[str, Any] = {"agree": None, "l2_sp": 0.0, "masking": within(1e-6)}
    remarks: list[str] = []
    steps: list[Progress] = []
    report = compare(
        vendor,
        tmp_path / "all",
        ("percentile:20", "last:1", "tgd", "last:2", "percentile:20.01", "tgd-readers"),
        on_remark=remarks.append,
        on_progress=steps.append,
        **plain,
    )
    assert [entry.name for entry in report.entries] == ["percentile:20", "last:1", "last:2", "tgd-readers"]
    assert len(steps) == 4 * report.steps
    for name in ("tgd", "percentile:20.01"):
        note = f"{name} selects the same as percentile:20, so it is not trained again"
        assert note in report.notes
        assert note in remarks
        assert not (tmp_path / "all" / name.replace(":", "-")).exists()


def test_the_same_filters_with_other_regularisers_or_other_starts_are_not_the_same(
    vendor: Path, tmp_path: Path
) -> None:
    names = ("percentile:20", "percentile:20+l2sp", "percentile:20+agree", "percentile-regrow:20")
    report = compare(vendor, tmp_path / "all", names, masking=within(10.0))
    assert [entry.name for entry in report.entries] == list(names)


def test_of_the_same_the_one_stays_that_is_trained(vendor: Path, tmp_path: Path) -> None:
    plain: dict[str, Any] = {"agree": None, "l2_sp": 0.0, "masking": within(1e-6)}
    first = compare(vendor, tmp_path / "all", ("tgd",), **plain)
    steps: list[Progress] = []
    report = compare(vendor, tmp_path / "all", ("percentile:20", "tgd"), on_progress=steps.append, **plain)
    assert (facts(report), steps) == (facts(first), [])
    assert "percentile:20 selects the same as tgd, so it is not trained again" in report.notes


def test_layers_are_frozen_in_all_selections_that_are_compared(vendor: Path, tmp_path: Path) -> None:
    plain: dict[str, Any] = {"agree": None, "l2_sp": 0.0}
    freeze = tgdonnx.MaskOptions(freeze=("conv2",))
    report = compare(vendor, tmp_path / "all", ("last:3", "adapter:1"), masking=freeze, **plain)
    assert [entry.selection["freeze"] for entry in report.entries] == [["conv2"], ["conv2"]]
    before = stored(vendor)["w2"]
    assert all(stored(Path(entry.directory, "tuned.onnx"))["w2"] == before for entry in report.entries)
    with pytest.raises(OutputError, match=r"holds a comparison with freeze = \['conv2'\], not None"):
        compare(vendor, tmp_path / "all", ("last:3",), **plain)


def test_side_paths_are_compared_by_what_they_add(vendor: Path, tmp_path: Path) -> None:
    report = compare(vendor, tmp_path / "all", ("none", "adapter:1", "adapter"), l2_sp=0.0, agree=None)
    found = by_name(report)
    for name, rank in (("adapter:1", 1), ("adapter", tgdonnx.Adapter().rank)):
        adapter = tgdonnx.Adapter(rank, RUN.seed)
        options = tgdonnx.MaskOptions("adapter", adapter=adapter)
        mask = tgdonnx.mask(vendor, tmp_path / f"{rank}.onnx", tgdonnx.AllLayers(), options)
        assert found[name].changed == sum(path.weights for path in mask.added)
        assert found[name].selection == {**mask.selection, "regularisers": []}
        assert tgdonnx.verify(vendor, Path(found[name].directory, "tuned.onnx")).ok
        assert found[name].curve[0] == found["none"].curve[0]


def test_a_run_that_diverges_is_reported_and_the_others_count(vendor: Path, tmp_path: Path) -> None:
    def diverging(real: TrainingSession, directory: Path) -> FakeSession:
        def poisoned(batch: list[Array]) -> list[Array]:
            return [*batch[:-1], np.full_like(batch[-1], np.nan)] if "all" in directory.parts[-2] else batch

        return FakeSession(real, batch=poisoned)

    with sessions(diverging):
        report = compare(vendor, tmp_path / "c", ("all", "phi:0.3"), agree=None, l2_sp=0.0)
    found = by_name(report)
    assert "training diverged" in found["all"].problem
    assert found["all"].steps == 0
    assert found["phi:0.3"].steps == 6
    assert any(note.startswith("all: training diverged") for note in report.notes)
    assert report.recommended != "all"


def test_no_more_than_one_run_is_open_at_a_time(vendor: Path, tmp_path: Path) -> None:
    opened: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def make(real: TrainingSession, _: Path) -> FakeSession:
        alive.append(sum(reference() is not None for reference in opened))
        fake = FakeSession(real)
        opened.append(weakref.ref(fake))
        return fake

    plain: dict[str, Any] = {"agree": None, "l2_sp": 0.0}
    select = ("last:1", "last:2", "first:1", "all")
    with sessions(make):
        compare(vendor, tmp_path / "all", select, replace(RUN, epochs=None, steps=1), **plain)
    assert len(opened) >= 8
    assert max(alive) <= 1


def test_a_model_in_memory_is_written_beside_the_selections_and_goes_on_as_such(tmp_path: Path) -> None:
    model = models.dncnn(0)
    first = compare(model, tmp_path / "all", ("none", "last:2"), agree=None, l2_sp=0.0)
    assert first.model == str(tmp_path / "all" / "vendor.onnx")
    assert tgdonnx.verify(first.model, Path(by_name(first)["last:2"].directory, "tuned.onnx")).ok
    with hooked(batch=lambda _: pytest.fail("a step was done")):
        again = compare(model.SerializeToString(), tmp_path / "all", ("none", "last:2"), agree=None, l2_sp=0.0)
    assert facts(again) == facts(first)


def test_selections_by_the_gradient_are_measured_on_the_data_and_have_a_control_of_equal_size(
    vendor: Path, tmp_path: Path
) -> None:
    select = ("steepest:0.3", "fisher:0.3", "random:0.3")
    report = compare(vendor, tmp_path / "all", select, agree=None, l2_sp=0.0, retain=None)
    found = by_name(report)
    assert [entry.selection["strategy"] for entry in report.entries] == ["steepest", "fisher", "random"]
    for name, strategy in (("steepest:0.3", tgdonnx.SteepestFilters(0.3)), ("fisher:0.3", tgdonnx.FisherFilters(0.3))):
        alone = measured(strategy, open_network(vendor), tgdonnx.RunData(data()), training=RUN)
        assert isinstance(alone, BySensitivity)
        assert found[name].selection["filters"] == alone.filters
    assert found["random:0.3"].selection["draw"] == RUN.seed == 5
    rhos = [entry.rho for entry in report.entries]
    assert max(rhos) - min(rhos) < 0.1  # the largest filter has 7 % of the weights
    assert all(tgdonnx.verify(vendor, Path(entry.directory, "tuned.onnx")).ok for entry in report.entries)


def test_what_is_said_of_the_data_is_said_once_for_all_selections(vendor: Path, tmp_path: Path) -> None:
    remarks: list[str] = []
    compare(
        vendor,
        tmp_path / "all",
        ("phi:0.3", "last:2"),
        replace(RUN, epochs=1),
        validation=data(),
        agree=None,
        l2_sp=0.0,
        on_remark=remarks.append,
    )
    assert sum("trained on, too" in remark for remark in remarks) == 1
