"""A volume of 20 GB in a process that may have 1 GiB of address space, in which all it maps or allocates has to fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the limit and sparse files are those of Linux"),
]

# Many small slices: a row that is touched brings the 128 KB around it into the page cache, and where there is no byte on disk
# the kernel fills these with zeros. Of slices of 16 MB that took a minute of system time.
SHAPE = (12520, 632, 632)
LIMIT = 2**30

PROGRAM = """
import json, pathlib, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
from tgdonnx.graphs.tensor_specs import TensorSpec
from tgdonnx.data import DataOptions, open_dataset
image = TensorSpec("x", "float32", (None, 3, None, None))
inputs = [image, TensorSpec("target", "float32", (None, 1, None, None), role="target")]
options = DataOptions(layout="DHW", patch=(380, 8), patches_per_epoch=100, augment=("flips",))
dataset = open_dataset(sys.argv[1], inputs, options)
slices = [
    [[float(below.max()), float(middle.max()), float(above.max()), float(target.max())]
     for (below, middle, above), target in zip(*batch)]
    for epoch in (1, 2) for batch in dataset.batches(8, epoch=epoch)
]
last = next(dataset.batches(1, start=600_000))[0].shape
# Not ru_maxrss, which starts at that of the process that made this one.
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) * 1024
said = dataset.remarks
print(json.dumps({"slices": sum(slices, []), "peak": peak, "remarks": said, "last": last}))
"""


def sparse(path: Path, header: bytes) -> None:
    """Writes a volume of zeros, of which no byte is on disk, with the middle row of slice d holding d + 1: any patch has it."""
    row = np.ones(SHAPE[2], "<f4")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 4 * int(np.prod(SHAPE, dtype=np.int64)))
        for depth in range(SHAPE[0]):
            file.seek(len(header) + 4 * SHAPE[2] * (SHAPE[1] * depth + SHAPE[1] // 2))
            file.write((row * (depth + 1)).tobytes())
    assert path.stat().st_size > 20e9 - 1
    assert path.stat().st_blocks * 512 < 150e6


def header_of(suffix: str, scratch: Path) -> bytes:
    if suffix == ".npy":
        np.lib.format.open_memmap(scratch / "one.npy", "w+", "<f4", (1, 1, 1)).flush()
        with (scratch / "header.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": SHAPE})
        return (scratch / "header.npy").read_bytes()
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape(SHAPE[::-1])
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    header.set_sform(np.eye(4), 1)
    return bytes(header.binaryblock) + bytes(4)


@pytest.mark.parametrize("suffix", [".npy", ".nii"])
def test_a_volume_twenty_times_the_memory_gives_aligned_patches(suffix: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    header = header_of(suffix, tmp_path)
    for name in ("x", "target"):
        sparse(data / f"{name}{suffix}", header)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, data, str(LIMIT)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["peak"] < 1e9
    assert len(found["slices"]) == 200
    for below, middle, above, target in found["slices"]:
        assert middle == target
        assert (below, above) == (max(1, target - 1), min(SHAPE[0], target + 1))
    assert len({target for *_, target in found["slices"]}) > 170, "patches come from all over the volume"
    assert found["last"] == [1, 3, 380, 8], "skipping reads nothing"
    assert any("40.0 GB are too much to look through first" in remark for remark in found["remarks"])
    for name in ("x", "target"):
        (data / f"{name}{suffix}").unlink()
