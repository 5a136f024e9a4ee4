"""A model and its external data are written as a pair, and nobody else's data is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tgdonnx
from tests.support import models
from tests.support.external_models import external_model
from tgdonnx.errors import OutputError
from tgdonnx.files import model_writing
from tgdonnx.files.model_file import ModelFile, load_model
from tgdonnx.files.model_writing import require_data_writable, write_model
from tgdonnx.masked_model import read_masked, write_vendor
from tgdonnx.verifying.alignment import align


def written(source: Path, output: Path, *, overwrite: bool = False) -> Path:
    file = load_model(source)
    require_data_writable(output, file, overwrite=overwrite)
    write_model(file, output, file.with_external_data)
    return output


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def weights(path: Path) -> dict[str, bytes]:
    """The tensors of a model by name, read by onnx."""
    return {t.name: numpy_helper.to_array(t).tobytes() for t in onnx.load(path).graph.initializer}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return external_model(tmp_path / "vendor")


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    (tmp_path / "ours").mkdir()
    return tmp_path / "ours"


def test_a_copy_has_its_own_data_and_only_the_name_of_it_differs(source: Path, ours: Path) -> None:
    written(source, ours / "t.onnx")
    assert contents(ours).keys() == {"t.onnx", "t.onnx.data"}
    assert contents(ours)["t.onnx.data"] == (source.parent / "w.bin").read_bytes()
    back, vendor = (onnx.load(p, load_external_data=False) for p in (ours / "t.onnx", source))
    for tensor in back.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                assert entry.value == "t.onnx.data"
                entry.value = "w.bin"
    assert back == vendor
    onnx.checker.check_model(str(ours / "t.onnx"))


def scattered(directory: Path) -> Path:
    """A model with tensors in three files, aligned, without lengths, sharing bytes, empty, and one nobody reads whole."""
    directory.mkdir()
    rng = np.random.default_rng(0)
    model = models.chain(0)
    values = {t.name: numpy_helper.to_array(t).astype("<f4").tobytes() for t in model.graph.initializer}
    names = list(values)
    model.graph.initializer.append(helper.make_tensor("none", TensorProto.FLOAT, [0], []))
    model.graph.initializer.append(helper.make_tensor("part", TensorProto.FLOAT, [2], [0, 0]))
    files: dict[str, bytearray] = {name: bytearray(rng.bytes(size)) for name, size in (("a", 9), ("z", 3 * 2**17))}
    places: dict[str, tuple[str, int, bool]] = {}
    for index, name in enumerate(names):
        file = "az"[index % 2]
        offset = 2**17 * (index // 2) + 4096 * index if file == "z" else -(-len(files["a"]) // 4) * 4
        end = offset + len(values[name])
        files[file].extend(bytes(max(0, end - len(files[file]))))
        files[file][offset:end] = values[name]
        places[name] = (file, offset, True)
    last = names[-1]
    (directory / "alone").write_bytes(values[last])
    places[last] = ("alone", 0, False)
    file, offset, _ = places[names[0]]
    places["part"], places["none"] = (file, offset + 4, True), ("z", 5, True)
    for name, content in files.items():
        (directory / name).write_bytes(content + b"behind")
    for tensor in model.graph.initializer:
        length = tensor.ByteSize() and 4 * int(np.prod(tensor.dims))
        for field in ("raw_data", "float_data"):
            tensor.ClearField(field)
        file, offset, told = places[tensor.name]
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=file)
        if told:
            tensor.external_data.add(key="length", value=str(length))
            tensor.external_data.add(key="offset", value=str(offset))
            tensor.external_data.add(key="checksum", value="0" * 40)
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    return directory / "model.onnx"


def test_several_files_become_one_with_the_same_values_alignment_and_sharing(tmp_path: Path, ours: Path) -> None:
    source = scattered(tmp_path / "vendor")
    expected = weights(source)
    assert weights(written(source, ours / "t.onnx")) == expected
    assert contents(ours).keys() == {"t.onnx", "t.onnx.data"}
    before, after = load_model(source), load_model(ours / "t.onnx")
    for old, new in zip(before.outside, after.outside):
        assert (old.offset - new.offset) % 2**16 == 0
        assert new.location == "t.onnx.data"
    needed = sum(t.length for t in before.outside)
    assert needed - 8 <= (ours / "t.onnx.data").stat().st_size <= needed + 2**16 * len(before.outside)
    # Once more is the same but for the name; nothing moves any further.
    again = load_model(written(ours / "t.onnx", ours / "u.onnx"))
    assert [t.offset for t in again.outside] == [t.offset for t in after.outside]
    assert (ours / "u.onnx.data").read_bytes() == (ours / "t.onnx.data").read_bytes()
    assert tgdonnx.verify(source, ours / "t.onnx").violations == (
        f"{ours / 't.onnx'} has no record of what was retrained from {source}; name the masked model with `masked`",
        *(f"the tensor {t.name!r} differs" for t in before.proto.graph.initializer),
    )


def test_a_masked_model_of_scattered_data_gives_the_vendors_bytes_back(tmp_path: Path, ours: Path) -> None:
    source = scattered(tmp_path / "vendor")
    tgdonnx.mask(source, ours / "masked.onnx", tgdonnx.AllLayers())
    masked = read_masked(ours / "masked.onnx")
    assert masked.base.data == source.read_bytes()
    (tmp_path / "back").mkdir()
    back = write_vendor(masked, tmp_path / "back")
    assert back.read_bytes() == source.read_bytes()
    assert weights(back) == weights(source)


def test_data_that_is_there_already_is_only_replaced_with_the_model_that_it_belongs_to(
    source: Path, ours: Path
) -> None:
    (ours / "t.onnx.data").write_bytes(b"somebody else's")
    for overwrite, words in (
        (False, "pass `overwrite=True` if it is that of an earlier"),
        (True, "it is not that of an earlier"),
    ):
        with pytest.raises(OutputError, match=f"t.onnx.data exists, .*{words}"):
            written(source, ours / "t.onnx", overwrite=overwrite)
    assert contents(ours) == {"t.onnx.data": b"somebody else's"}
    (ours / "t.onnx.data").unlink()
    written(source, ours / "t.onnx")
    with pytest.raises(OutputError, match="exists"):
        written(source, ours / "t.onnx")
    before = contents(ours)
    written(source, ours / "t.onnx", overwrite=True)
    assert contents(ours) == before


@pytest.mark.parametrize("linked", [False, True])
def test_data_that_another_model_reads_too_is_not_replaced(linked: bool, source: Path, ours: Path) -> None:
    written(source, ours / "t.onnx")
    other = load_model(ours / "t.onnx")
    if linked:
        (ours / "alias.bin").symlink_to("t.onnx.data")
    (ours / "Other.ONNX").write_bytes(other.with_external_data("alias.bin" if linked else "t.onnx.data"))
    before = contents(ours)
    with pytest.raises(OutputError, match=r"t\.onnx\.data exists, .*Other\.ONNX keeps weights there, too"):
        written(source, ours / "t.onnx", overwrite=True)
    assert contents(ours) == before


def test_data_of_an_earlier_model_goes_with_it_when_the_new_one_needs_none(tmp_path: Path, ours: Path) -> None:
    source = external_model(tmp_path / "vendor")
    tgdonnx.mask(source, ours / "m.onnx", tgdonnx.AllLayers())
    assert contents(ours).keys() == {"m.onnx", "m.onnx.data"}
    inside = models.save(models.chain(0), tmp_path / "inside.onnx")
    tgdonnx.mask(inside, ours / "m.onnx", tgdonnx.AllLayers(), overwrite=True)
    assert contents(ours).keys() == {"m.onnx"}


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("fault", [Killed, OSError])
def test_whenever_the_process_dies_or_the_disk_fails_the_model_that_is_there_reads_data_that_fits(
    fault: type[BaseException], tmp_path: Path, ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = external_model(tmp_path / "old"), external_model(tmp_path / "new")
    data = bytearray((new.parent / "w.bin").read_bytes())
    data[:] = bytes(b ^ 1 for b in data)
    (new.parent / "w.bin").write_bytes(data)
    for path in (old, new):
        model = onnx.load(path, load_external_data=False)
        model.producer_name = path.parent.name
        path.write_bytes(model.SerializeToString())
    states = {"old": weights(old), "new": weights(new)}
    seen, steps = set(), 0
    for dies_at in range(100):
        place = ours / str(dies_at)
        place.mkdir()
        written(old, place / "t.onnx")
        # One step fails; of a process that is dead every later one as well.
        faults = iter([*[None] * dies_at, fault, *([fault] if fault is Killed else [None]) * 100])

        def failing(do: Callable[..., Any], faults: Iterator[Any] = faults) -> Callable[..., Any]:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                now = next(faults)
                if now is not None:
                    raise now
                return do(*args, **kwargs)

            return wrapped

        with monkeypatch.context() as patched:
            # Whoever is dead tidies nothing up.
            for name in ("replace", "link", "fsync", *(("unlink",) if fault is Killed else ())):
                patched.setattr(os, name, failing(getattr(os, name)))
            try:
                written(new, place / "t.onnx", overwrite=True)
                done = True
            except (Killed, OutputError):
                done = False
        located = {
            e.value
            for t in onnx.load(place / "t.onnx", load_external_data=False).graph.initializer
            for e in t.external_data
            if e.key == "location"
        }
        (location,) = located
        model = onnx.load(place / "t.onnx", load_external_data=False)
        content = (place / location).read_bytes()
        found = {}
        for tensor in model.graph.initializer:
            entries = {e.key: e.value for e in tensor.external_data}
            start = int(entries["offset"])
            found[tensor.name] = content[start : start + int(entries["length"])]
        (state,) = [name for name, expected in states.items() if expected == found]
        assert model.producer_name == state, f"step {dies_at}"
        if fault is OSError and not done:
            assert len(contents(place)) <= 3
        seen.add(state)
        steps = dies_at
        if fault in faults and len(list(faults)) == 100:  # it was not its turn
            break
    assert done
    assert state == "new"
    assert seen == {"old", "new"}
    assert steps > 4
    assert contents(place).keys() == {"t.onnx", "t.onnx.data"}


def test_every_byte_of_the_new_file_that_belongs_to_no_tensor_is_looked_at(tmp_path: Path, ours: Path) -> None:
    source = load_model(scattered(tmp_path / "vendor"))
    tuned, data = written(source.path, ours / "t.onnx"), (ours / "t.onnx.data").read_bytes()
    used = np.zeros(len(data), bool)
    for tensor in load_model(tuned).outside:
        used[tensor.offset : tensor.end] = True
    assert align(source, tuned.read_bytes(), tuned, None).violations == ()
    for place in np.random.default_rng(0).choice(np.flatnonzero(~used), 20):
        changed = bytearray(data)
        changed[place] = 1
        (ours / "t.onnx.data").write_bytes(changed)
        (violation,) = align(source, tuned.read_bytes(), tuned, None).violations
        assert "which belong to no tensor, are not zero" in violation
    (ours / "t.onnx.data").write_bytes(data + b"x")
    (violation,) = align(source, tuned.read_bytes(), tuned, None).violations
    assert f"has {len(data) + 1:,} bytes, not {len(data):,}" in violation


def test_where_there_are_no_hard_links_the_data_is_renamed(
    source: Path, ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(source, ours / "t.onnx")

    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    written(source, ours / "t.onnx", overwrite=True)
    assert contents(ours).keys() == {"t.onnx", "t.onnx.data"}
    assert weights(ours / "t.onnx") == weights(source)


def test_large_data_is_copied_in_pieces(source: Path, ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = model_writing.copy_byte_ranges

    def watched(byte_ranges: Any, files: Any, target: Path, size: int) -> None:
        real(byte_ranges, files, target, size)
        sizes.append(size)

    monkeypatch.setattr(model_writing, "copy_byte_ranges", watched)
    with (source.parent / "w.bin").open("r+b") as file:
        file.truncate(2**32)  # sparse; nobody needs what is behind
    written(source, ours / "t.onnx")
    assert sizes == [(ours / "t.onnx.data").stat().st_size]
    assert sizes[0] < 2**16


def test_a_file_that_would_not_come_back_byte_for_byte_is_refused(source: Path, ours: Path) -> None:
    model = onnx.load(source, load_external_data=False)
    data = model.SerializeToString()
    file = ModelFile(source, data, model)
    (tensor, *_) = file.proto.graph.initializer
    # A tensor with its entries in two places: protobuf reads that, and no writer makes it.
    entry = TensorProto(external_data=[tensor.external_data[0]]).SerializeToString()
    body = tensor.SerializeToString()
    odd = body.replace(entry, b"", 1) + entry
    assert len(odd) == len(body)
    source.write_bytes(data.replace(body, odd, 1))
    with pytest.raises(tgdonnx.TgdonnxError, match=r"save it again with onnx\.save"):
        tgdonnx.mask(source, ours / "m.onnx", tgdonnx.AllLayers())
    assert contents(ours) == {}
