"""How long `tgdonnx.kse.score_maps` takes and how much memory, against the bare matrix products of the kernels.

Every case runs in a process of its own, so that its peak memory is its own. The contract, on two cores: all of VGG-16
within 3 s and 1 GB; a 1x1 layer of 2048 x 2048 within 3 s and 500 MB.

    python tools/benchmark_kse.py
    python tools/benchmark_kse.py --case vgg16 --repeat 5
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgdonnx import kse

Weight = NDArray[Any]

VGG16 = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]


@dataclass(frozen=True)
class Case:
    """Layers of weight shape (out_channels, in_channels / group, *kernel), filled with `offset` + `scale` * normal noise."""

    shapes: list[tuple[int, ...]]
    group: int = 1
    offset: float = 0.0
    scale: float = 1.0
    dtype: str = "float32"


CASES = {
    "vgg16": Case([(n, c, 3, 3) for c, n in zip(VGG16, VGG16[1:])]),
    "1x1 2048x2048": Case([(2048, 2048, 1, 1)]),
    "fully connected 4096x4096": Case([(4096, 4096)]),
    "3x3 2048x256": Case([(2048, 256, 3, 3)]),
    "3x3 8x8192, few filters": Case([(8, 8192, 3, 3)]),
    "3x3 2048 in 32 groups": Case([(2048, 64, 3, 3)], group=32),
    "3x3 2048 depthwise": Case([(2048, 1, 3, 3)], group=2048),
    "7x7x7 512x64": Case([(512, 64, 7, 7, 7)]),
    "3x3 512x64, all equal": Case([(512, 64, 3, 3)], offset=1.0, scale=0.0),
    "3x3 512x64, near duplicates": Case([(512, 64, 3, 3)], offset=1.0, scale=1e-9, dtype="float64"),
}


def multiply(weight: Weight, group: int) -> None:
    """The products of all pairs of kernels of every map, in the tiles of kse and nothing else."""
    filters = weight.shape[0] // group
    by_map = weight.reshape(group, filters, weight.shape[1], -1).swapaxes(1, 2)
    for kernels in by_map.reshape(-1, 1, filters, by_map.shape[-1]):
        compact = kernels.astype(np.float64)
        kse._matrix_product(compact, compact.swapaxes(1, 2))


def best_seconds(work: Callable[[Weight], object], weights: list[Weight], repeat: int) -> float:
    """The least wall time of `repeat` runs over all weights."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        for weight in weights:
            work(weight)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def run(name: str, repeat: int) -> None:
    """Measures one case and prints its row of the table."""
    case, rng = CASES[name], np.random.default_rng(0)
    weights = [(case.offset + case.scale * rng.standard_normal(s)).astype(case.dtype) for s in case.shapes]

    seconds = best_seconds(lambda weight: kse.score_maps(weight, group=case.group), weights, repeat)
    row = f"{name:<30}{seconds:>10.3f}{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:>10.0f}"
    if weights[0][0, 0].size > 1:  # kernels of one weight need no product
        product = best_seconds(lambda weight: multiply(weight, case.group), weights, repeat)
        row += f"{product:>12.3f}{seconds / product:>10.1f}"
    print(row, flush=True)


def main() -> None:
    """Runs the cases that were asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append", help="only this case; may be repeated")
    parser.add_argument("--repeat", type=int, default=3, help="report the best of this many runs (default 3)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        run(options.case[0], options.repeat)
        return
    print(f"{'case':<30}{'seconds':>10}{'peak MB':>10}{'product s':>12}{'multiple':>10}", flush=True)
    for name in options.case or CASES:
        command = [sys.executable, __file__, "--here", "--case", name, "--repeat", str(options.repeat)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
