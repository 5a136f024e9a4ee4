"""No small file that is read whole is opened twice, and no value is read twice to look at it and to scale by it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data import slices
from tests.data.datasets import spec
from tests.support import models
from tests.support.models import Array
from tests.support.training_models import text_model
from tgdonnx.data import DataOptions, Dataset, Source
from tgdonnx.data.file_cache import FileCache
from tgdonnx.data.images import open_image
from tgdonnx.data.lazy_arrays import ArrayGroup, LazyArray, Region, whole
from tgdonnx.data.pictures import Pictures, prepared

RNG = np.random.default_rng(0)

# What the interpreter says of every file that is opened, whoever opens it.
PROGRAM = """
import os, sys
opened = []
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, os.PathLike)) and str(arguments[0]).startswith(sys.argv[1]):
        if os.path.isfile(arguments[0]):
            opened.append(os.fspath(arguments[0]))
sys.addaudithook(hook)
import tgdonnx
data = tgdonnx.RunData(
    os.path.join(sys.argv[1], sys.argv[3]),
    os.path.join(sys.argv[1], sys.argv[4]),
    reading=tgdonnx.DataOptions(scale="percentile"),
)
options = tgdonnx.TrainOptions(epochs=2, batch=2)
report = tgdonnx.finetune(sys.argv[2], data, sys.argv[2] + ".tuned.onnx", tgdonnx.AllLayers(), options)
assert report.train.steps > 0
print("\\n".join(opened))
"""


def pictures(directory: Path, count: int) -> None:
    for name in ("x", "target"):
        (directory / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(RNG.integers(0, 256, (9, 8), np.uint8)).save(directory / name / f"{number}.png")


def archives(directory: Path, count: int) -> None:
    directory.mkdir()
    for number in range(count):
        archive(directory / f"{number}.npz", 1)


def archive(path: Path, count: int) -> None:
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **{name: RNG.normal(size=(count, 1, 9, 8)).astype(np.float32) for name in ("x", "target")})


def series(directory: Path, count: int) -> None:
    for name in ("x", "target"):
        (directory / name).mkdir(parents=True)
        for number in range(count):
            slices.write(directory / name / f"{number}.dcm", float(number))


@pytest.mark.parametrize(
    ("write", "suffix", "peeks"),
    # Of a file that is named itself the first byte is looked at too: a model has other files that must not be overwritten.
    [(pictures, "", 0), (archives, "", 0), (archive, ".npz", 1), (series, "", 0)],
    ids=["pictures", "archives", "an archive", "series"],
)
def test_a_whole_run_opens_every_small_file_once(write: Any, suffix: str, peeks: int, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write(data / f"train{suffix}", 5)
    write(data / f"validation{suffix}", 2)
    model = text_model(
        "g (float[N, 1, H, W] x) => (float[N, 1, H, W] y) { y = Conv<pads = [1, 1, 1, 1]>(x, w) }", w=(1, 1, 3, 3)
    )
    path = models.save(model, tmp_path / "model.onnx")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PROGRAM, data, path, f"train{suffix}", f"validation{suffix}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    files = [str(file) for file in data.rglob("*") if file.is_file()]
    assert Counter(done.stdout.splitlines()) == dict.fromkeys(files, 1 + peeks)


@pytest.mark.parametrize("scale", [255.0, "minmax", "percentile", "standard"])
def test_every_value_is_read_once_to_look_at_it_and_to_scale_by_it(scale: Any) -> None:
    reads: Counter[str] = Counter()

    def counted(name: str, values: Array) -> LazyArray:
        def read(region: Region) -> Array:
            reads[name] += values[region].size
            return values[region]

        return LazyArray(name, values.shape, values.dtype, read)

    groups = tuple(
        ArrayGroup(
            str(number), {name: counted(f"{name}{number}", RNG.normal(size=(2, 1, 4, 5))) for name in ("x", "target")}
        )
        for number in range(3)
    )
    Dataset(Source("here", groups), (spec("x", 1, 4, 5), spec("target", 1, 4, 5)), DataOptions(scale=scale))
    assert reads == {f"{name}{number}": 40 for name in ("x", "target") for number in range(3)}


def test_the_content_is_kept_until_values_are_read_and_gives_the_hash(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first")
    cache = FileCache()
    assert cache.open(path).read() == b"first"
    assert not cache.hashes
    path.write_bytes(b"second")
    assert cache.take(path).read() == b"first", "what the header was of"
    assert cache.hashes == {path: hashlib.sha256(b"first").hexdigest()}
    assert cache.take(path).read() == b"second", "let go"


def test_contents_beyond_the_limit_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tgdonnx.data.file_cache.KEPT_CONTENTS", 10)
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        path.write_bytes(bytes(6))
    cache = FileCache()
    for path in paths:
        with cache.open(path) as file:
            assert file.read(1) == b"\0"
        path.write_bytes(b"new..." if path.name != "c" else bytes(11))
    with cache.take(paths[0]) as file:
        assert file.read() == bytes(6), "kept"
    with cache.take(paths[1]) as file:
        assert file.read() == b"new...", "there was no room for it"
    with cache.take(paths[2]) as file:
        assert file.read() == bytes(11), "larger than what is read at once"
    assert set(cache.hashes) == set(paths[:2])


def test_the_latest_used_arrays_are_kept_up_to_a_limit() -> None:
    cache, loads = FileCache(20), Counter[str]()

    def get(key: str, size: int) -> None:
        def load() -> Array:
            loads[key] += 1
            return np.zeros(size, np.uint8)

        assert cache.get(key, load).size == size

    for key, size in (("a", 8), ("b", 8), ("a", 8), ("c", 8), ("a", 8), ("b", 8), ("d", 30), ("d", 30), ("a", 8)):
        get(key, size)
    assert loads == {"a": 2, "b": 2, "c": 1, "d": 1}


def test_a_picture_is_made_ready_once_and_what_it_is_made_of_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path, 4)
    ready = Pictures(resize=(3, 2), colour="rgb")
    cache = FileCache(9 * 8 + 4 * 3 * 2 * 3)  # one picture, and all that are ready
    arrays = [
        prepared(open_image(path, cache), spec("x", 3, None, None), ready) for path in sorted(tmp_path.glob("x/*.png"))
    ]
    first = [array.read(whole(array.shape)).copy() for array in arrays]
    monkeypatch.setattr(Image, "fromarray", lambda _: pytest.fail("made ready again"))
    for array, before in zip(arrays, first):
        assert np.array_equal(array.read(whole(array.shape)), before)
        assert np.array_equal(array.read((slice(1, 3), slice(0, 2), slice(1, 2))), before[1:3, :, 1:2])
    assert len(arrays) == 4
