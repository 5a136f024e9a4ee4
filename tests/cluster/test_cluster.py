"""Calls on workers: in order of their ends, failures beside results, deaths replaced, and nothing left behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import pytest

from tests.cluster import calls
from tests.support.clusters import cluster_of_threads
from tgdonnx.cluster import Cluster, open_cluster, opening, parse_workers, run_calls
from tgdonnx.errors import ClusterError, DataError, RuntimeMissingError, TgdonnxError
from tgdonnx.runtime import session_options
from tgdonnx.runtime.options import limit_threads


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers in this process, with three threads each."""
    with cluster_of_threads(tmp_path_factory.mktemp("dask"), threads=3) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _unlimited() -> Iterator[None]:
    yield
    limit_threads(0)


def test_every_call_comes_to_its_result_or_its_error(inside: Cluster) -> None:
    notes: list[Any] = []
    done = {each.index: each for each in run_calls(inside, calls.squared, range(5), on_note=lambda *n: notes.append(n))}
    assert {index: each.value for index, each in done.items()} == {0: 0, 1: 1, 2: 4, 3: None, 4: 16}
    assert {index for index, each in done.items() if each.error is not None} == {3}
    error = done[3].error
    assert isinstance(error, DataError)
    assert (str(error), error.remedy) == ("no threes; take a two", "take a two")
    assert sorted(notes) == [(number, ("at", number)) for number in range(5)]


def test_arguments_are_taken_as_workers_become_free(inside: Cluster) -> None:
    taken: list[int] = []

    def arguments() -> Iterator[int]:
        for number in (0, 1, 2, 4, 5, 6):
            taken.append(number)
            yield number

    for count, _ in enumerate(run_calls(inside, calls.squared, arguments()), start=1):
        assert len(taken) <= count - 1 + inside.size
    assert len(taken) == 6


def test_no_arguments_are_no_calls(inside: Cluster) -> None:
    assert [*run_calls(inside, calls.squared, [])] == []


def test_sessions_of_a_call_have_the_threads_of_its_worker(inside: Cluster) -> None:
    assert [each.value for each in run_calls(inside, calls.threads_of_sessions, [0])] == [3]
    limit_threads(0)
    assert session_options().intra_op_num_threads == 0  # as many as there are cores


def test_what_is_under_way_is_cancelled_when_the_iterator_is_left(inside: Cluster, tmp_path: Path) -> None:
    def check() -> None:
        if (tmp_path / "began").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        [*run_calls(inside, calls.until_cancelled, [tmp_path], check=check)]
    assert (tmp_path / "cancelled").exists()
    assert [each.value for each in run_calls(inside, calls.squared, [5])] == [25]  # the workers are free again


def test_an_argument_that_cannot_be_sent_is_said(inside: Cluster) -> None:
    with pytest.raises(ClusterError, match=r"^a call cannot be sent to a worker: "):
        [*run_calls(inside, calls.squared, [(i for i in range(3))])]  # type: ignore[list-item]


def test_numbers_addresses_and_files_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text('{"address": "tcp://10.0.0.1:8786", "workers": {}}')
    assert parse_workers(" 4 ") == 4
    assert parse_workers("tcp://10.0.0.1:8786") == "tcp://10.0.0.1:8786"
    assert parse_workers("tls://host:8786") == "tls://host:8786"
    assert parse_workers(str(file)) == str(file)


@pytest.mark.parametrize("text", ["", "many", "1.5", "http://host:8786", "tcp://", "nowhere.json", "1 2"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ClusterError, match="expected a number of worker processes, the address of a scheduler"):
        parse_workers(text)


@pytest.mark.parametrize("content", [b"", b"\x08\x08\xff", b"[]", b'{"id": 1}', b'{"address": null}'])
def test_a_file_that_names_no_scheduler_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ClusterError, match="expected a number of worker processes, the address of a scheduler"):
        parse_workers(str(tmp_path / "model.onnx"))


@pytest.mark.parametrize("count", ["0", "-1", "-0"])
def test_less_than_one_worker_is_refused(count: str) -> None:
    with pytest.raises(ClusterError, match=rf"^expected at least 1 worker, got {int(count)}$"):
        parse_workers(count)
    with pytest.raises(ClusterError, match="expected at least 1 worker"), open_cluster(int(count)):
        raise AssertionError("unreachable")


def test_an_address_at_which_nothing_answers_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "ANSWERS_WITHIN", 0.2)
    with (
        pytest.raises(ClusterError, match=r"^no Dask scheduler answers at tcp://127\.0\.0\.1:9 within 0\.2 s"),
        open_cluster("tcp://127.0.0.1:9"),
    ):
        raise AssertionError("unreachable")


def test_a_scheduler_without_workers_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "JOINS_WITHIN", 0.2)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0", protocol="tcp") as empty,
        pytest.raises(
            ClusterError, match=r"has no worker, and none joined within 0\.2 s; start some \(dask worker tcp"
        ),
        open_cluster(empty.scheduler_address),
    ):
        raise AssertionError("unreachable")


def test_without_dask_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RuntimeMissingError, match=r"pip install 'tgdonnx\[cluster\]'$"), open_cluster(1):
        raise AssertionError("unreachable")


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_processes_share_the_cores_are_replaced_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(opening, "_cores", lambda: 5)
    (tmp_path / "once").mkdir()
    (tmp_path / "always").mkdir()
    with open_cluster(2) as cluster:
        pids = {each.value for each in run_calls(cluster, calls.process, [0.3, 0.3])}
        assert len(pids) == 2
        assert [each.value for each in run_calls(cluster, calls.threads_of_sessions, [0])] == [2]
        done = {each.index: each for each in run_calls(cluster, calls.deadly, [(tmp_path / "once", 1), (tmp_path, 0)])}
        assert done[0].value == 1  # the second time it went well
        assert done[1].error is None
        (killed,) = run_calls(cluster, calls.deadly, [(tmp_path / "always", 99)])
        assert str(killed.error) == "every worker that ran it died, 3 in turn; look for a lack of memory"
        assert isinstance(killed.error, TgdonnxError)
        assert len([*(tmp_path / "always").iterdir()]) == opening.DEATHS
        cluster.client.wait_for_workers(2, timeout=120)
        pids |= {each.value for each in run_calls(cluster, calls.process, [0.3, 0.3])}
    assert not any(alive(pid) for pid in pids if pid is not None)
    assert {path.name for path in tmp_path.iterdir()} <= {"once", "always"}
