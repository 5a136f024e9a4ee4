"""What a batch costs beside its training: per job, in memory, on workers, and by simulation on many of them.

    python tools/measure_batch.py jobs [--jobs 1000] [--workers N]   a batch of tiny jobs, of one step each
    python tools/measure_batch.py alone [--jobs 20]                  such jobs and `finetune` of the same, in turn
    python tools/measure_batch.py steps [--jobs 1000]                the same steps on one open session, and nothing else
    python tools/measure_batch.py scheduler [--workers 100]          calls that sleep, on workers that are threads
    python tools/measure_batch.py memory [--jobs 1000]               jobs that do nothing, handed out and collected likewise

Prints one JSON object per line. Processor time is of all threads of the process, and of its children where it has some; on a
machine that is shared it is what can be compared, with `taskset -c 0` before, so that no thread waits in a loop. Every kind of
measurement takes a process of its own, for memory is told as its peak.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import shutil
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import tgdonnx
from tgdonnx.batching import distributing
from tgdonnx.batching.running import Runner
from tgdonnx.cluster import Cluster, calling, run_calls
from tgdonnx.finetuning.session import Session

STUDY = (4, 1, 8, 8)
_SLEEP = 0.2


def write_model(path: Path) -> None:
    """Writes a net of three convolutions with 8 filters."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 1, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "w3": (1, 8, 3, 3), "b3": (1,)}
    weights = [numpy_helper.from_array((0.3 * rng.standard_normal(s)).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1] * 4),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["y"], pads=[1] * 4),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1, "H", "W"]) for name in "xy"]
    graph = helper.make_graph(nodes, "tiny", ports[:1], ports[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))


def write_studies(directory: Path, count: int) -> list[tgdonnx.BatchJob]:
    """Writes a model and studies; returns a job of one step for each."""
    write_model(directory / "model.onnx")
    rng = np.random.default_rng(1)
    training = tgdonnx.TrainOptions(steps=1, batch=4)
    jobs = []
    for number in range(count):
        path = directory / f"study{number:05}.npz"
        np.savez(path, x=rng.random(STUDY, np.float32), target=rng.random(STUDY, np.float32))
        jobs.append(tgdonnx.BatchJob(path.stem, directory / "model.onnx", path, tgdonnx.LastLayers(2), training))
    return jobs


def told(began: tuple[float, float], count: int, **more: Any) -> None:
    """Prints what was measured since."""
    wall, processor = time.perf_counter() - began[0], _processor() - began[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    numbers = {
        "wall ms per job": round(1000 * wall / count, 2),
        "processor ms per job": round(1000 * processor / count, 2),
        "peak MiB": round(peak, 1),
    }
    print(json.dumps({**more, "count": count, **numbers}))


def _processor() -> float:
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in found)


def measure_jobs(directory: Path, count: int, workers: Optional[int]) -> None:
    """Does a batch, and does it again; the first jobs, which open everything, are done before."""
    jobs = write_studies(directory, count + 2)
    tgdonnx.batch(jobs[:2], directory / "warm")
    began = time.perf_counter(), _processor()
    report = tgdonnx.batch(jobs[2:], directory / "out", workers=workers)
    assert not report.failed, report.failed[0].error
    training = sum(each.seconds for each in report.jobs) / count
    told(
        began,
        count,
        what="batch",
        workers=workers or "this process",
        **{"training ms per job": round(1000 * training, 2)},
    )
    began = time.perf_counter(), _processor()
    again = tgdonnx.batch(jobs[2:], directory / "out", workers=workers)
    assert all(each.earlier for each in again.jobs)
    told(began, count, what="the same call again")


def measure_alone(directory: Path, count: int) -> None:
    """Does jobs as a batch does them, and by `finetune`, in turn: the processor time of this thread."""
    jobs, spent = write_studies(directory, count + 2), {"job of a batch": 0.0, "finetune": 0.0}
    (directory / "work").mkdir()
    runner = Runner(directory, directory / "work")
    for number, job in enumerate(jobs):
        for what in spent:
            began = time.thread_time()
            if what == "finetune":
                tuned = directory / f"{job.name}.onnx"
                tgdonnx.finetune(job.model, job.data, tuned, tgdonnx.LastLayers(2), job.training)
            else:
                assert runner.run(job).state == "done"
            spent[what] += (time.thread_time() - began) * (number >= 2)  # the first ones open what stays open
    for what, seconds in spent.items():
        print(json.dumps({"what": what, "count": count, "thread ms per job": round(1000 * seconds / count, 1)}))


def measure_steps(directory: Path, count: int) -> None:
    """Does as many steps on one session."""
    write_model(directory / "model.onnx")
    tgdonnx.mask(directory / "model.onnx", directory / "masked.onnx", tgdonnx.LastLayers(2))
    tgdonnx.build(directory / "masked.onnx", directory / "artifacts", tgdonnx.BuildOptions(form="thin"))
    session = Session(directory / "artifacts")
    rng = np.random.default_rng(1)
    batches = [[rng.random(STUDY, np.float32), rng.random(STUDY, np.float32)] for _ in range(count)]
    session.step([batches[0]], 1e-4)
    began = time.perf_counter(), _processor()
    for batch in batches:
        session.step([batch], 1e-4)
    told(began, count, what="steps alone")


def sleep(seconds: float) -> float:
    """What a simulated job does."""
    time.sleep(seconds)
    return seconds


def measure_scheduler(workers: int, seconds: float) -> None:
    """Makes calls that sleep on workers that are threads of this process: what the scheduler takes is what is left."""
    distributed: Any = importlib.import_module("distributed")
    cluster = distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=False, dashboard_address=None, worker_dashboard_address=None
    )
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(workers)
        calling._one_at_a_time = nullcontext()  # type: ignore[assignment]  # these workers are one process
        there = Cluster(client, "threads", local=True)
        list(run_calls(there, sleep, [0.0] * workers))
        count = 3 * workers
        began = time.perf_counter(), _processor()
        done = list(run_calls(there, sleep, [seconds] * count))
        assert len(done) == count
        busy = count * seconds / workers / (time.perf_counter() - began[0])
        told(began, count, what="calls that sleep", workers=workers, seconds=seconds, busy=round(busy, 3))


def pretend(portion: Any) -> tuple[tgdonnx.JobResult, ...]:
    """What a worker does with jobs that do nothing."""
    time.sleep(0.001 * len(portion.jobs))
    metrics = {"validation loss": 0.5, "validation psnr": 30.0}
    return tuple(
        tgdonnx.JobResult(job.name, "done", metrics=metrics, before=metrics, steps=1, seconds=0.001)
        for job in portion.jobs
    )


def measure_memory(count: int, workers: int) -> None:
    """Hands out jobs and collects results as a batch does: what is kept of them is what grows."""
    distributed: Any = importlib.import_module("distributed")
    cluster = distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=False, dashboard_address=None, worker_dashboard_address=None
    )
    distributing._do = pretend
    job = tgdonnx.BatchJob("", "model.onnx", "study.npz", tgdonnx.LastLayers(2))
    jobs = [replace(job, name=f"study{number:06}") for number in range(count)]
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(workers)
        there = Cluster(client, "threads", local=True)
        began = time.perf_counter(), _processor()
        results = list(distributing.run_on_cluster(there, Path("out"), jobs, lambda: None))
        assert len(results) == count
        told(began, count, what="jobs that do nothing", workers=workers)


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["jobs", "alone", "steps", "scheduler", "memory"])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--seconds", type=float, default=_SLEEP, help="of a call that sleeps")
    asked = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="measure-batch-"))
    try:
        if asked.what == "jobs":
            measure_jobs(directory, asked.jobs, asked.workers)
        elif asked.what == "alone":
            measure_alone(directory, asked.jobs)
        elif asked.what == "steps":
            measure_steps(directory, asked.jobs)
        elif asked.what == "memory":
            measure_memory(asked.jobs, asked.workers or 2)
        else:
            measure_scheduler(asked.workers or 100, asked.seconds)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
