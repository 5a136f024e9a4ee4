"""Fuzz of the whole command line: honest and hostile files, options and names; prints a summary and what fell.

Run as `python -m tools.fuzz --seed 1 --cases 1500`. Every case runs in a process of its own, with 60 s and 6 GiB.
"""

from __future__ import annotations

import shlex
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
import onnxruntime

from tests.fuzzing.judging import DONE, NO, REFUSED
from tests.fuzzing.running import run_case
from tests.fuzzing.world import make_world


@click.command()
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--cases", type=click.IntRange(1), default=200, show_default=True)
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The number to begin with.")
@click.option("--seconds", type=float, default=60, show_default=True, help="After so long a command hangs.")
@click.option("--keep", type=click.Path(path_type=Path), help="A directory for the files of the last case, to look at.")
@click.option("-v", "--verbose", is_flag=True, help="Print every command line with its status and its first line.")
def main(seed: int, cases: int, first: int, seconds: float, keep: Path | None, verbose: bool) -> None:
    onnxruntime.set_default_logger_severity(3)
    began, counts, kinds = time.monotonic(), Counter(), Counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        world = make_world(Path(scratch) / "world")
        room = keep or Path(scratch) / "room"
        for number in range(first, first + cases):
            case, outcome, found = run_case(seed, number, world, room, seconds)
            counts[{DONE: "done", NO: "no", REFUSED: "sentences"}.get(outcome.status, "other")] += 1
            for fault in found:
                kinds[fault.partition(":")[0]] += 1
            if found or verbose:
                line = shlex.join(word if len(word) < 200 else f"{word[:40]}...{len(word)}" for word in case.arguments)
                print(f"{seed}/{number} [{outcome.status}] tgdonnx {line!a}")
                for fault in found:
                    print(f"    {fault.encode('ascii', 'backslashreplace').decode()}")
                if verbose:
                    print(f"    | {(outcome.stderr.strip() or outcome.stdout.strip())[:600]!a}", flush=True)
    print(
        f"cases {cases}: sentences {counts['sentences']}, done {counts['done']}, answers no {counts['no']}, "
        f"tracebacks {kinds['traceback'] + kinds['fault']}, hangs {kinds['hang']}, crashes {kinds['crash']}, "
        f"leftovers {kinds['leftover']}"
    )
    summed = ("traceback", "fault", "hang", "crash", "leftover")
    others = [f"{kind} {n}" for kind, n in sorted(kinds.items()) if kind not in summed]
    print(f"other faults: {', '.join(others) or 'none'}; {time.monotonic() - began:.0f} s")
    raise SystemExit(1 if kinds else 0)


if __name__ == "__main__":
    main()
