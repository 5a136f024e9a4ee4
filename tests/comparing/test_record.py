"""A directory keeps its comparison: nothing is done twice, and nothing is lost."""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tgdonnx
from tests.comparing.comparisons import OLD, RUN, SELECT, compare, facts, stored
from tests.finetuning.runs import HELD_OUT, data
from tests.support.fake_sessions import hooked
from tgdonnx.errors import ArtifactsError, OutputError, StoppedError, TgdonnxError
from tgdonnx.finetuning import Progress


def test_called_again_it_does_no_step_and_says_the_same_and_selections_may_be_added(
    vendor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compare(vendor, tmp_path / "all")
    with monkeypatch.context() as patch:
        patch.setattr("tgdonnx.comparing.preparing.build", lambda *_a, **_k: pytest.fail("something was built"))
        with hooked(batch=lambda _: pytest.fail("a step was done")):
            again = compare(vendor, tmp_path / "all")
    assert facts(again) == facts(first)
    assert [entry.seconds for entry in again.entries] == [entry.seconds for entry in first.entries]
    steps: list[Progress] = []
    more = compare(vendor, tmp_path / "all", (*SELECT, "first:1"), on_progress=steps.append)
    assert facts(more)[:-1] == facts(first)
    assert len(steps) == 6


def test_interrupted_it_goes_on_where_it_was(vendor: Path, tmp_path: Path) -> None:
    expected = compare(vendor, tmp_path / "whole")
    seen: list[int] = []

    def cut(progress: Progress) -> None:
        seen.append(progress.step)
        if len(seen) == 6 + 4:  # in the second run
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError, match=r"of last:2; .*the same command goes on"):
        compare(vendor, tmp_path / "cut", on_progress=cut, stop_on=(signal.SIGTERM,))
    found = compare(vendor, tmp_path / "cut", on_progress=lambda progress: seen.append(progress.step))
    assert seen == [*range(1, 7)] * 4
    assert facts(found) == facts(expected)
    for entry in expected.entries:
        if entry.directory:
            relative = Path(entry.directory).relative_to(tmp_path / "whole") / "tuned.onnx"
            assert stored(tmp_path / "whole" / relative) == stored(tmp_path / "cut" / relative)


def test_what_earlier_calls_came_to_stays_in_the_record_whatever_a_later_one_asks_for(
    vendor: Path, tmp_path: Path
) -> None:
    place, options = tmp_path / "all", replace(RUN, epochs=None, steps=2)
    plain: dict[str, Any] = {"agree": None, "l2_sp": 0.0}

    def recorded() -> dict[str, list[Any]]:
        content = json.loads((place / "comparison.json").read_text())
        return {"asked": content["report"]["entries"], "others": content["others"]}

    both = compare(vendor, place, tgdonnx.Trials(("last:1", "last:2"), seeds=2), options, **plain)
    runs = recorded()["asked"]
    assert [(run["name"], run["seed"]) for run in runs] == [("last:1", 5), ("last:2", 5), ("last:1", 6), ("last:2", 6)]
    one = compare(vendor, place, ("last:2",), options, **plain)
    assert recorded() == {"asked": [runs[1]], "others": [runs[0], runs[2], runs[3]]}
    assert one.spreads == ()
    kept = "last:1 (seed 5), last:1 (seed 6), last:2 (seed 6)"
    assert one.notes[0].endswith(f"keeps what earlier calls came to that this one did not ask for: {kept}")

    def stop(progress: Progress) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        compare(vendor, place, ("all",), options, **plain, on_progress=stop)
    assert recorded() == {"asked": [runs[1]], "others": [runs[0], runs[2], runs[3]]}
    with hooked(batch=lambda _: pytest.fail("a step was done")):
        again = compare(vendor, place, tgdonnx.Trials(("last:1", "last:2"), seeds=2), options, **plain)
    assert facts(again) == facts(both)
    assert again.notes == both.notes
    assert recorded() == {"asked": runs, "others": []}


def test_a_directory_of_something_else_or_of_another_budget_is_refused(vendor: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    plain: dict[str, Any] = {"agree": None, "l2_sp": 0.0}
    with pytest.raises(OutputError, match="holds other files than a comparison"):
        compare(vendor, other, ("all",), **plain)
    assert [path.name for path in other.iterdir()] == ["mine.txt"]
    short = replace(RUN, epochs=1)
    compare(vendor, tmp_path / "c", ("all",), short, **plain)
    with pytest.raises(OutputError, match=r"with learning_rate = 0\.01, not 0\.02; .* equal budget"):
        compare(vendor, tmp_path / "c", ("all",), replace(short, learning_rate=0.02), **plain)
    with pytest.raises(OutputError, match="with loss = mse, not l1"):
        compare(vendor, tmp_path / "c", ("all",), short, loss="l1", **plain)
    with pytest.raises(TgdonnxError, match="holds a comparison with data = in memory"):
        tgdonnx.compare(
            vendor, tgdonnx.RunData(data(10, seed=1), validation=HELD_OUT, retain=OLD), tmp_path / "c", ("all",), short
        )
    compare(vendor, tmp_path / "c", ("all+l2sp",), short, agree=None, l2_sp=0.1)
    with pytest.raises(OutputError, match=r"was built with l2_sp = 0\.1, not 0\.2"):
        compare(vendor, tmp_path / "c", ("all+l2sp",), short, agree=None, l2_sp=0.2)


def test_a_selection_is_not_written_where_a_link_leads(vendor: Path, tmp_path: Path) -> None:
    plain: dict[str, Any] = {"agree": None, "l2_sp": 0.0}
    compare(vendor, tmp_path / "all", ("last:1",), **plain)
    (tmp_path / "mine").mkdir()
    (tmp_path / "all" / "last-2").symlink_to(tmp_path / "mine")
    before = (tmp_path / "all" / "comparison.json").read_bytes()
    with pytest.raises(OutputError, match=r"last-2 is a link to .*mine; expected a directory of its own"):
        compare(vendor, tmp_path / "all", ("last:1", "last:2"), **plain)
    assert [*(tmp_path / "mine").iterdir()] == []
    assert (tmp_path / "all" / "comparison.json").read_bytes() == before


def test_what_a_killed_build_left_is_replaced(vendor: Path, tmp_path: Path) -> None:
    plain: dict[str, Any] = {"agree": None, "l2_sp": 0.0}
    first = compare(vendor, tmp_path / "c", ("all", "phi:0.3"), **plain)
    shutil.rmtree(tmp_path / "c" / "all" / "artifacts")
    assert facts(compare(vendor, tmp_path / "c", ("all", "phi:0.3"), **plain)) == facts(first)


def test_a_comparison_under_way_is_left_alone_by_another_process(vendor: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    plain = {"agree": None, "l2_sp": 0.0}

    def second(_: object) -> None:
        if not seen:
            with concurrent.futures.ThreadPoolExecutor() as pool:
                problem = pool.submit(lambda: compare(vendor, tmp_path / "c", ["last:2"], **plain)).exception()
            assert isinstance(problem, ArtifactsError)
            seen.append(str(problem))

    report = compare(vendor, tmp_path / "c", ["last:2"], **plain, on_progress=second)
    assert "is in use by process" in seen[0]
    assert report.entries[0].steps == report.steps


def test_ctrl_c_twice_says_what_is_kept_and_the_same_call_goes_on(vendor: Path, tmp_path: Path) -> None:
    plain = {"agree": None, "l2_sp": 0.0}

    def twice(state: Progress) -> None:
        if state.step == 4:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(
        StoppedError, match=r"stopped at once; .*c keeps what was done: the same command goes on"
    ) as caught:
        compare(vendor, tmp_path / "c", ["last:2"], **plain, stop_on=[signal.SIGINT], on_progress=twice)
    assert caught.value.signal == signal.SIGINT
    expected = compare(vendor, tmp_path / "whole", ["last:2"], **plain)
    assert facts(compare(vendor, tmp_path / "c", ["last:2"], **plain)) == facts(expected)
