"""What a job and a batch write down is what the guide on formats says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgdonnx
from tests.batching.studies import jobs_in, save_study
from tests.support.environments import ROOT


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A batch of a job with all results, and of one that fails."""
    directory = tmp_path_factory.mktemp("written")
    np.save(directory / "whole.npy", np.zeros((1, 3, 9, 8), np.float32))
    results = tgdonnx.JobResults(apply=directory / "whole.npy", card="card.json")
    jobs = jobs_in(directory, 2, results=results)
    save_study(directory / "p2.npz", 2, channels=5)
    tgdonnx.batch(jobs, directory / "out")
    return directory / "out"


def record(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def keys(value: Any, but: tuple[str, ...]) -> set[str]:
    """All keys of JSON, but those below ``but``, which are names of somebody's."""
    if isinstance(value, list):
        return set().union(*(keys(each, but) for each in value))
    if not isinstance(value, dict):
        return set()
    below = [keys(each, but) for name, each in value.items() if name not in but]
    return set(value).union(*below)


def test_the_guide_names_every_field_and_no_other(written: Path) -> None:
    guide = (ROOT / "tgdonnx" / "guides" / "formats.md").read_text("utf-8")
    section = guide.partition("## job.json and batch.json")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([a-z0-9_]+)`", section))
    job, every = record(written / "p1/job.json"), record(written / "batch.json")
    roles = ("inputs", "options", "metrics", "before")
    found = keys(job, roles) | keys(every, roles) | keys([*job["inputs"].values()], ())
    assert found <= named
    values = {*("running", "done", "failed", "stopped", "open"), *("model", "data", "validation", "loss"), "proof"}
    assert named - found <= values


def test_a_job_that_is_done_lists_what_it_wrote_and_one_that_failed_nothing(written: Path) -> None:
    done, failed = record(written / "p1/job.json"), record(written / "p2/job.json")
    assert [each["name"] for each in done["written"]] == ["tuned.onnx", "tuned.applied.npy", "card.json"]
    assert (done["format"], done["state"], done["result"]["state"]) == (1, "done", "done")
    assert (failed["state"], failed["written"], failed["result"]["output"]) == ("failed", [], None)
    assert failed["result"]["error"]
    assert record(written / "batch.json")["jobs"] == [done["result"], failed["result"]]
    assert json.loads(done["options"]["training.steps"]) == 3
    assert set(done["inputs"]) == {"model", "data", "apply"}
