"""A run whose process is killed again and again: ``python -m tests.finetuning.killed_run DIRECTORY OPTIONS KILLS SEED``.

Every process is forked from this one before the runtime has started a thread, so that many can be killed in a short time.
Prints as JSON how many were killed, how many steps the directory held at each kill, and the exit status of the last one.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.finetuning.runs import HELD_OUT, data
from tgdonnx.finetuning import RunData, TrainOptions, Watch, train
from tgdonnx.runtime import load_training_api


def attempt(directory: Path, options: TrainOptions) -> None:
    resume = (directory / "run.json").exists()
    train(
        directory,
        RunData(data(), validation=HELD_OUT),
        options,
        resume=resume,
        watch=Watch(on_progress=lambda _: time.sleep(0.004)),
    )


def steps_in(directory: Path) -> int:
    log = directory / "log.jsonl"
    return log.read_text().count('"event": "step"') if log.exists() else 0


def wait_for_a_step(directory: Path) -> None:
    """Waits until the log is longer than after it was cut back on resume."""
    before, give_up = steps_in(directory), time.monotonic() + 20
    while steps_in(directory) <= before and time.monotonic() < give_up:
        time.sleep(0.002)


def main(directory: Path, options: TrainOptions, kills: int, seed: int) -> None:
    load_training_api()
    chance, done, steps, status = random.Random(seed), 0, [], None
    while status is None:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                attempt(directory, options)
                code = 0
            finally:
                os._exit(code)
        if done < kills:
            # Some are killed while they start, most while they train.
            if chance.random() < 0.75:
                wait_for_a_step(directory)
            time.sleep(chance.uniform(0.0, 0.08))
            os.kill(child, signal.SIGKILL)
            _, how = os.waitpid(child, 0)
            if os.WIFSIGNALED(how):
                done += 1
                steps.append(steps_in(directory))
            else:
                status = os.WEXITSTATUS(how)
        else:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.stdout.write(json.dumps({"killed": done, "steps": steps, "status": status}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), TrainOptions(**json.loads(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4]))
