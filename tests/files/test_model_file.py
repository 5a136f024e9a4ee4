"""Loading what is no model, and writing so that nothing is ever half written."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.support import models
from tests.support.models import save
from tgdonnx.errors import ModelFileError, OutputError
from tgdonnx.files.model_file import (
    ModelFile,
    load_model,
    replacing,
    require_external_data,
    require_writable,
    write_bytes,
)

# Loading.


def test_a_model_is_loaded_with_its_bytes_and_their_hash(tmp_path: Path) -> None:
    model = models.chain()
    path = save(model, tmp_path / "model.onnx")
    file = load_model(str(path))
    assert (file.path, file.data, file.proto) == (path, path.read_bytes(), model)
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert file.external_files == ()


UNPARSABLE = "{{path}} is no ONNX model, or it is truncated ({} bytes do not parse); get the file again"


def empty_graph() -> bytes:
    model = onnx.ModelProto(ir_version=8)
    model.graph.name = "nothing"
    model.opset_import.add(version=17)
    return model.SerializeToString()


def no_graph() -> bytes:
    model = onnx.ModelProto(ir_version=8)
    model.opset_import.add(version=17)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "{path} is no ONNX model: it has no IR version"),
        (b"hello, world\n" * 20, UNPARSABLE.format(260)),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), UNPARSABLE.format(108)),
        (b"PK\x03\x04" + bytes(60), "{path} is no ONNX model"),
        (no_graph(), "{path} is no ONNX model: it has no graph"),
        (empty_graph(), "{path} has an empty graph: expected at least one node"),
    ],
    ids=["empty", "text", "png", "zip", "no graph", "empty graph"],
)
def test_what_is_no_model_is_refused_by_name(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=re.escape(message.format(path=path))):
        load_model(path)


def test_a_file_that_is_not_there_or_is_a_directory_is_refused_by_name(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "model.onnx", "No such file or directory"),
        (tmp_path, "it is a directory; expected a file"),
    ):
        with pytest.raises(ModelFileError, match=f"^{re.escape(str(path))} cannot be read: {reason}$"):
            load_model(path)


def test_a_name_with_a_typo_is_told_the_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"No such file or directory; did you mean 'model\.onnx'\?$"):
        load_model(tmp_path / "modle.onnx")
    with pytest.raises(ModelFileError, match=rf"; {re.escape(str(tmp_path / 'a'))} is missing$"):
        load_model(tmp_path / "a" / "b" / "model.onnx")


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    data = models.three_d().SerializeToString()
    path = tmp_path / "model.onnx"
    accepted = []
    for length in sorted({*range(100), *range(100, len(data), 29), *range(len(data) - 100, len(data))}):
        path.write_bytes(data[:length])
        try:
            load_model(path)
        except ModelFileError:
            continue
        accepted.append(length)
    assert accepted == []


# Writing.


def test_a_file_appears_when_the_block_ends_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def write_half(path: Path, error: BaseException) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(b"half of the ne")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_a_failing_block_leaves_the_old_file_and_no_other(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with pytest.raises(error):
        write_half(path, error())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_system_is_an_output_error_and_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match=f"^{re.escape(str(path))} cannot be written: No space left on device$"):
        write_half(path, OSError(28, "No space left on device"))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"out\.bin cannot be written: No such file"), replacing(tmp_path / "out.bin"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_writing_where_no_directory_is_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"out\.bin cannot be written: No such file or directory"):
        write_bytes(tmp_path / "missing" / "out.bin", b"new")
    with pytest.raises(OutputError, match="cannot be written: Is a directory"):
        write_bytes(tmp_path, b"new")


def test_bytes_are_written_whole_over_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    for data in (b"a long file", b"short", b""):
        write_bytes(path, data)
        assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_is_free_may_be_written(tmp_path: Path) -> None:
    path = tmp_path / "out.onnx"
    assert require_writable(str(path)) == path
    assert not path.exists()


def test_an_existing_file_may_only_be_written_on_request(tmp_path: Path) -> None:
    path = tmp_path / "out.onnx"
    path.write_bytes(b"old")
    with pytest.raises(
        OutputError, match=r"out\.onnx exists; pass `overwrite=True` to replace it, or choose another name$"
    ):
        require_writable(path)
    assert require_writable(path, overwrite=True) == path
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_missing_directory_is_refused(overwrite: bool, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the directory .*missing does not exist; create it or choose another$"):
        require_writable(tmp_path / "missing" / "out.onnx", overwrite=overwrite)


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"the directory .*file does not exist"):
        require_writable(tmp_path / "file" / "out.onnx")


def test_a_directory_that_is_not_writable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Asked of the system and not tried, because the tests may run as root.
    monkeypatch.setattr(os, "access", lambda path, mode: not (Path(path) == tmp_path and mode & os.W_OK))
    with pytest.raises(OutputError, match=r"is not writable; change its permissions or choose another$"):
        require_writable(tmp_path / "out.onnx")


# External data.


def with_external_data(directory: Path, *locations: str) -> ModelFile:
    """The chain with its first weights in external files."""
    model = models.chain()
    tensors = [tensor for tensor in model.graph.initializer if len(tensor.dims) > 1]
    for tensor, location in zip(tensors, locations):
        data, offset = tensor.raw_data, 64
        target = directory / location
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(bytes(offset) + data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", len(data))):
            tensor.external_data.add(key=key, value=str(value))
    return load_model(save(model, directory / "model.onnx"))


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    directory = tmp_path / "vendor"
    directory.mkdir()
    return directory


def test_external_files_are_named_and_read_beside_the_model(
    vendor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = with_external_data(vendor, "b.bin", "a.bin")
    assert file.external_files == ("a.bin", "b.bin")
    monkeypatch.chdir(tmp_path)  # not where the data is
    expected = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in models.chain().graph.initializer}
    for name, value in file.to_ir().graph.initializers.items():
        assert value.const_value is not None
        np.testing.assert_array_equal(value.const_value.numpy(), expected[name])


def test_external_data_in_a_constant_node_is_found(vendor: Path) -> None:
    file = with_external_data(vendor, "a.bin")
    model = onnx.ModelProto()
    model.CopyFrom(file.proto)
    nodes = [onnx.helper.make_node("Constant", [], [t.name], value=t) for t in model.graph.initializer]
    nodes += model.graph.node
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    assert load_model(save(model, vendor / "constants.onnx")).external_files == ("a.bin",)


def test_missing_external_data_is_refused_by_name(vendor: Path) -> None:
    file = with_external_data(vendor, "a.bin", "b.bin")
    assert require_external_data(file) == {name: (vendor / name).resolve() for name in ("a.bin", "b.bin")}
    (vendor / "b.bin").unlink()
    message = f"{file.path} keeps weights in 'b.bin', which is not in {vendor}; put it beside the model"
    with pytest.raises(ModelFileError, match=f"^{re.escape(message)}$"):
        require_external_data(file)
