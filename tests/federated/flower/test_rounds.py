"""Rounds by Flower's own types, in this process: what federated training is equal to, and what its file says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.federated.flower.local_grid import LocalGrid
from tests.federated.flower.runs import joined, many, run
from tests.federated.sites import artifacts, data, make_site
from tests.finetuning.runs import same_state
from tests.support.checkpoints import BEST, CHECKPOINT
from tgdonnx.artifacts import open_artifacts
from tgdonnx.errors import ArtifactsError, DataError, OutputError
from tgdonnx.federated.plan import read_plan
from tgdonnx.federated.travelling import travelling
from tgdonnx.finetuning import RunData, TrainOptions, train
from tgdonnx.finetuning.session import read_parameters

pytestmark = pytest.mark.federated


@pytest.mark.parametrize("form", ["masked", "thin"])
def test_one_site_is_the_plain_run_bit_for_bit(form: str, tmp_path: Path) -> None:
    server, held_out = artifacts(tmp_path / "server", form=form), data(5, 9)
    plain = Path(shutil.copytree(server, tmp_path / "plain"))
    grid = LocalGrid({7: make_site(tmp_path, server, "north", data(10, 0), validation=held_out)})
    history = run(grid, server, tmp_path / "tuned.onnx", rounds=3, epochs=1)
    report = train(plain, RunData(data(10, 0), held_out), TrainOptions(epochs=3, batch=4, learning_rate=1e-2, seed=5))
    assert same_state(server, plain)
    assert [each.validation for each in history.rounds] == [epoch.validation for epoch in report.epochs]
    assert [each.round for each in history.rounds if each.kept][-1] == report.best.epoch
    assert same_state(server, plain, BEST)
    tgdonnx.export(plain, tmp_path / "alone.onnx")
    bodies = [
        (tmp_path / name).read_bytes().partition(b"tgdonnx.provenance")[0][:-10]
        for name in ("tuned.onnx", "alone.onnx")
    ]
    assert bodies[0] == bodies[1]


def test_a_step_of_every_site_is_a_step_on_all_data(tmp_path: Path) -> None:
    """FedSGD: gradients of means, weighted by samples, are the gradient of the mean over all."""
    sizes = {"north": 3, "south": 7, "west": 2}
    server = artifacts(tmp_path / "server", optimizer="sgd", momentum=0.0)
    plain = Path(shutil.copytree(server, tmp_path / "plain"))
    rate = 3e-5
    run(
        LocalGrid(many(tmp_path, server, sizes)),
        *(server, tmp_path / "tuned.onnx"),
        **{"rounds": 4, "steps": 1, "batch": 16, "learning_rate": rate},
    )
    train(plain, joined(sizes), TrainOptions(steps=4, batch=16, learning_rate=rate))
    start = read_parameters(artifacts(tmp_path / "again", optimizer="sgd"), CHECKPOINT)
    found, expected = read_parameters(server, CHECKPOINT), read_parameters(plain, CHECKPOINT)
    assert max(np.abs(array - start[name]).max() for name, array in expected.items()) > 1e-3, "it has moved"
    for name, array in expected.items():
        assert np.abs(found[name] - array).max() <= 1e-6 * max(1, np.abs(array).max()), name


def test_the_tuned_file_is_proved_and_its_record_names_rounds_and_sites(tmp_path: Path) -> None:
    server = artifacts(tmp_path / "server")
    grid = LocalGrid(many(tmp_path, server, {"north": 4, "south": 6}), gone={99: 3})
    history = run(grid, server, tmp_path / "tuned.onnx", rounds=3, blend=0.75, wait=0.1)
    base, tuned = tmp_path / "server" / "model.onnx", tmp_path / "tuned.onnx"
    report = tgdonnx.verify(base, tuned)
    assert (report.ok, report.proof) == (True, "recomputed")
    assert report.told == (
        "trained in 3 rounds at 2 sites: 'north' (4 samples, 3 of the rounds); 'south' (6 samples, 1 of the rounds): that is "
        "the record's own word",
    )
    record = json.loads(next(e.value for e in onnx.load(tuned).metadata_props if e.key == "tgdonnx.provenance.1"))
    assert (record["format"], record["blend"]) == (5, 0.75)
    assert [[site.site for site in each.sites if site.samples] for each in history.rounds[1:]] == [
        ["north", "south"],
        ["north"],
        ["north"],
    ]
    which = travelling(open_artifacts(server))
    assert (history.travelling_bytes, history.whole_bytes) == (which.bytes, base.stat().st_size)
    assert which.bytes < base.stat().st_size


def test_sites_tell_how_their_own_data_and_the_vendors_task_do(tmp_path: Path) -> None:
    server = artifacts(tmp_path / "server")
    north = make_site(tmp_path, server, "north", data(4, 0), validation=data(3, 8), retain=data(5, 7))
    south = make_site(tmp_path, server, "south", data(6, 1), validation=data(9, 6))
    history = run(LocalGrid({1: north, 2: south}), server, tmp_path / "tuned.onnx", rounds=2, metrics="psnr, rmse")
    for each in history.rounds:
        a, b = each.sites
        assert (a.site, a.validated, a.retained, b.site, b.validated, b.retained) == ("north", 3, 5, "south", 9, 0)
        assert set(a.metrics) == set(a.retain) == set(b.metrics) == {"psnr", "rmse"}
        assert a.validation is not None
        assert b.validation is not None
        assert each.validation == pytest.approx((3 * a.validation + 9 * b.validation) / 12, rel=1e-12)
    falls = [history.rounds[0].sites[0].retain["psnr"] - each.sites[0].retain["psnr"] for each in history.rounds]  # type: ignore[operator]
    assert [each.retain_fall for each in history.rounds] == pytest.approx(falls)


def test_a_round_that_loses_more_of_the_vendors_task_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    server = artifacts(tmp_path / "server")
    site = make_site(tmp_path, server, "north", data(8, 0), retain={"x": data(5, 7)["x"]})
    output = tmp_path / "tuned.onnx"
    history = run(LocalGrid({1: site}), server, output, rounds=2, metrics="rmse", retain_limit=0.0)
    assert [each.kept for each in history.rounds] == [True, False, False]
    assert all((each.retain_fall or 0) > 0 for each in history.rounds[1:])
    assert tgdonnx.verify(tmp_path / "server" / "model.onnx", output).told == (
        "no round of federated training did better than the start: that is the record's own word",
    )


def test_a_directory_that_holds_a_run_and_an_output_that_exists_are_refused_before_a_site_is_asked(
    tmp_path: Path,
) -> None:
    server = artifacts(tmp_path / "server")
    grid = LocalGrid(many(tmp_path, server, {"north": 4}))
    (tmp_path / "there.onnx").write_text("a file")
    with pytest.raises(OutputError, match=r"there\.onnx exists"):
        run(grid, server, tmp_path / "there.onnx")
    run(grid, server, tmp_path / "tuned.onnx", rounds=1)
    asked = dict(grid.asked)
    with pytest.raises(ArtifactsError, match=r"holds a run; build the artifacts again"):
        run(grid, server, tmp_path / "again.onnx")
    assert grid.asked == asked
    with pytest.raises(ArtifactsError, match="the run was started with"):
        train(server, data(4, 0), TrainOptions(batch=4), resume=True)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"artifacts": "a", "epoch": 1}, "unknown field `epoch`"),
        ({}, "missing required field `artifacts`"),
        ({"artifacts": "a", "rounds": 0}, r"`int` >= 1 - at `\$\.rounds`"),
        ({"artifacts": "a", "metrics": "psnr, best"}, "expected metrics of psnr"),
        ({"artifacts": "a", "epochs": 1, "steps": 1}, "expected epochs or steps, got both"),
        ({"artifacts": "a", "sites": 2, "min-sites": 3}, "expected sites >= min-sites, got 2 and 3"),
        ({"artifacts": "a", "blend": 2.0}, r"at `\$\.blend`"),
    ],
)
def test_a_run_configuration_that_says_something_else_is_refused(config: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_plan(config)
