"""Batches made ahead by a process: the same as without it, its errors told, and never left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.data.datasets import opened, spec
from tests.support.models import Array
from tgdonnx.data import DataOptions, Prefetched, open_training, prefetching
from tgdonnx.data.targets import TargetLimits
from tgdonnx.errors import DataError

IMAGES = (spec("x", 1, None, None), spec("target", 1, None, None))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts the process after the first batch, however quick that was."""
    monkeypatch.setattr(prefetching, "WORKER_PAYS", 0.0)


def files(directory: Path, count: int = 5) -> Path:
    rng = np.random.default_rng(0)
    for number in range(count):
        picture = rng.normal(size=(2, 1, 9, 8)).astype(np.float32)
        np.savez(directory / f"{number}.npz", x=picture, target=2 * picture)
    return directory


def by_process(dataset: Prefetched, size: int, *, epoch: int | None, start: int = 0) -> list[list[Array]]:
    """The batches of a stream, all but the first of which come from the process."""
    found = []
    for batch in dataset.batches(size, epoch=epoch, seed=3, start=start):
        found.append(batch)
        until_ready(dataset)
    assert dataset._worker is not None
    return found


def until_ready(dataset: Prefetched) -> None:
    for _ in range(3000):
        if dataset._worker is None or dataset._worker.is_ready:
            return
        time.sleep(0.01)
    raise AssertionError("the process does not start")


def same(found: list[list[Array]], expected: Iterator[list[Array]]) -> bool:
    wanted = list(expected)
    assert len(found) == len(wanted)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for x, y in zip(found, wanted) for a, b in zip(x, y))


def test_the_process_makes_the_same_batches_stream_after_stream(tmp_path: Path) -> None:
    options = DataOptions(
        patch=(4, 4), patches_per_epoch=22, augment=("flips", "rotations"), scale="standard", validation_split=0.4
    )
    for plain in open_training(files(tmp_path), IMAGES, options, seed=1):
        assert plain is not None
        dataset = Prefetched(plain)
        process = None
        for epoch, start in ((1, 0), (2, 3), (None, 0), (1, 0)):
            found = by_process(dataset, 4, epoch=epoch, start=start)
            assert same(found, plain.batches(4, epoch=epoch, seed=3, start=start))
            assert process in (None, dataset._worker), "one process serves all streams"
            process = dataset._worker
            for batch in found:
                assert all(array.flags.c_contiguous and array.flags.writeable for array in batch)


def test_a_consumer_that_counts_its_batches_keeps_the_process(tmp_path: Path) -> None:
    plain = opened(files(tmp_path), IMAGES)
    dataset = Prefetched(plain)
    by_process(dataset, 2, epoch=1)
    worker = dataset._worker
    for epoch in (2, 3):
        batches = dataset.batches(3, epoch=epoch, seed=3)
        found = [next(batches) for _ in range(4)]  # all there are, and never asked for one more
        del batches
        gc.collect()
        assert dataset._worker is worker
        assert same(found, plain.batches(3, epoch=epoch, seed=3, start=0))


def test_a_stream_left_early_ends_the_process_and_the_next_one_is_right(tmp_path: Path) -> None:
    plain = opened(files(tmp_path), IMAGES)
    dataset = Prefetched(plain)
    by_process(dataset, 2, epoch=1)
    worker = dataset._worker
    assert worker is not None
    for _ in dataset.batches(1, epoch=2):
        break
    assert dataset._worker is None
    del worker
    gc.collect()  # a process that is left, or a pipe, is warned of here, and a warning is an error
    assert same(by_process(dataset, 3, epoch=2), plain.batches(3, epoch=2, seed=3, start=0))


def test_an_error_in_the_process_is_told_in_its_place(tmp_path: Path) -> None:
    for kind in ("x", "target"):
        (tmp_path / kind).mkdir()
        for number in range(5):
            np.save(tmp_path / kind / f"{number}.npy", np.zeros((2, 1, 4, 4), np.float32))
    dataset = Prefetched(opened(tmp_path, IMAGES))
    assert len(by_process(dataset, 2, epoch=None)) == 5
    bad = np.zeros((2, 1, 4, 4), np.float32)
    bad[1, 0, 2, 3] = np.nan
    np.save(tmp_path / "x" / "3.npy", bad)
    batches = dataset.batches(2)
    for _ in range(3):
        next(batches)
    with pytest.raises(DataError, match=r"3\.npy: x\[1, 0, 2, 3\] is nan; remove or repair") as caught:
        next(batches)
    assert len(str(caught.value).splitlines()) == 1


def test_files_that_are_gone_when_the_process_opens_them_are_told(tmp_path: Path) -> None:
    dataset = Prefetched(opened(files(tmp_path), IMAGES))
    batches = dataset.batches(1)
    next(batches)
    (tmp_path / "3.npz").unlink()
    next(batches)
    until_ready(dataset)
    with pytest.raises(DataError, match=r"files of .* have changed since it was opened"):
        next(batches)


def test_a_process_that_is_killed_is_told(tmp_path: Path) -> None:
    dataset = Prefetched(opened(files(tmp_path), IMAGES))
    by_process(dataset, 2, epoch=1)
    worker = dataset._worker
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
    with pytest.raises(DataError, match="the process that reads the data has died"):
        list(dataset.batches(1, epoch=1))
    assert len(list(dataset.batches(2, epoch=1))) == 5, "and another takes its place"


def test_a_targets_range_is_known_to_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tgdonnx.data import content

    monkeypatch.setattr(content, "EXAMINED_BYTES", 0)
    picture = np.zeros((6, 1, 4, 4), np.float32)
    picture[4] = 3
    np.savez(tmp_path / "data.npz", x=picture, target=picture)
    plain = opened(tmp_path / "data.npz", IMAGES)
    plain.require_target(TargetLimits("target", 0, 1, "bce"))
    dataset = Prefetched(plain)
    batches = dataset.batches(1)
    next(batches)
    next(batches)
    until_ready(dataset)
    with pytest.raises(DataError, match="the loss bce needs targets in 0 to 1, found 3 "):
        list(batches)


PROGRAM = """
import sys, time
from tgdonnx.graphs.tensor_specs import TensorSpec
from tgdonnx.data import Prefetched, open_dataset, prefetching as module
module.WORKER_PAYS = 0.0
specs = [TensorSpec(n, "float32", (None, 1, None, None)) for n in ("x", "target")]
dataset = Prefetched(open_dataset(sys.argv[1], specs))
for _ in dataset.batches(1, epoch=1):
    while dataset._worker is not None and not dataset._worker.is_ready:
        time.sleep(0.01)
print(dataset._worker.pid, flush=True)
if sys.argv[2] == "killed":
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="asks for processes as POSIX does")
@pytest.mark.parametrize("way", ["ended", "killed"])
def test_the_process_ends_with_the_one_that_started_it(way: str, tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, files(tmp_path), way],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    assert program.stdout is not None
    worker = int(program.stdout.readline())
    if way == "killed":
        program.kill()
    assert program.communicate()[1] == ""
    for _ in range(500):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{worker}/stat").exists() and Path(f"/proc/{worker}/stat").read_text().split()[2] == "Z":
            return  # it has ended; whoever adopted it has not looked yet
        time.sleep(0.02)
    raise AssertionError("it is still there")


_PICKLE = """
import importlib.util, os, signal, sys, sysconfig
with open({marker!r}, "w") as file:
    file.write(str([signal.getsignal(number) == signal.SIG_IGN for number in (signal.SIGINT, signal.SIGTERM)]))
spec = importlib.util.spec_from_file_location("pickle", os.path.join(sysconfig.get_path("stdlib"), "pickle.py"))
sys.modules["pickle"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["pickle"])
"""


def test_ctrl_c_does_not_reach_the_process_while_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first module that it imports tells how signals are dealt with then.
    marker, stub = tmp_path / "marker", tmp_path / "stub"
    stub.mkdir()
    (stub / "pickle.py").write_text(_PICKLE.format(marker=str(marker)))
    monkeypatch.setenv("PYTHONPATH", str(stub))
    (tmp_path / "data").mkdir()
    dataset = Prefetched(opened(files(tmp_path / "data"), IMAGES))
    expected = list(opened(tmp_path / "data", IMAGES).batches(2, epoch=1, seed=3))
    assert same(by_process(dataset, 2, epoch=1), iter(expected))
    assert marker.read_text() == "[True, True]"
