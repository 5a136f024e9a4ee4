"""External data: what a model may say of it, and where it may lead."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import tgdonnx
from tests.support import models
from tests.support.external_models import external_model
from tgdonnx.errors import ModelFileError
from tgdonnx.files.model_file import load_model, require_external_data
from tgdonnx.layers import open_network

Entries = dict[str, str]


def retold(path: Path, change: Callable[[Entries], None]) -> Path:
    """Changes what a model says of the external data of its tensor w2."""
    model = onnx.load(path, load_external_data=False)
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == "w2"]
    entries = {entry.key: entry.value for entry in tensor.external_data}
    change(entries)
    del tensor.external_data[:]
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def refused(path: Path, words: str) -> None:
    """Every command that opens a model refuses it in one line that names tensor or file, and writes nothing."""
    there = sorted(path.parent.rglob("*"))
    for action in (
        lambda: tgdonnx.mask(path, path.with_name("out.onnx"), tgdonnx.AllLayers()),
        lambda: tgdonnx.score(path),
        lambda: tgdonnx.verify(path, path),
        lambda: open_network(path),
    ):
        with pytest.raises(ModelFileError, match=words) as caught:
            action()
        assert "\n" not in str(caught.value)
    assert sorted(path.parent.rglob("*")) == there


@pytest.mark.parametrize(
    "location",
    [
        "../w.bin",
        "a/../../w.bin",
        "a/../w.bin",
        "..",
        "/etc/hostname",
        "..\\w.bin",
        "C:\\w.bin",
        "C:w.bin",
        "a\\b",
        "w\0.bin",
    ],
)
def test_a_location_that_leads_out_of_the_directory_is_refused_by_name(location: str, tmp_path: Path) -> None:
    path = retold(external_model(tmp_path / "m"), lambda entries: entries.update(location=location))
    (tmp_path / "w.bin").write_bytes((tmp_path / "m" / "w.bin").read_bytes())
    refused(
        path, f"^the tensor 'w2' of .*model.onnx keeps weights in {re.escape(repr(location))}, .*outside of its own"
    )


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("value", ["-1", "1e3", "0x10", "x", "", " 4", "4.0", "1" * 30, "\u0663"])
def test_numbers_that_are_none_are_refused(key: str, value: str, tmp_path: Path) -> None:
    path = retold(external_model(tmp_path), lambda entries: entries.update({key: value}))
    refused(path, f"external data of 'w2' has the {key} {re.escape(repr(value))}; expected a number of bytes")


def test_a_location_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    path = external_model(tmp_path)
    for change in (lambda entries: entries.pop("location"), lambda entries: entries.update(location="")):
        refused(retold(path, change), "external data of 'w2' has no location")


@pytest.mark.parametrize(("key", "value"), [("offset", "1000000"), ("offset", "9" * 19)])
def test_a_tensor_beyond_the_end_of_its_file_is_refused(key: str, value: str, tmp_path: Path) -> None:
    path = retold(external_model(tmp_path), lambda entries: entries.update({key: value}))
    refused(
        path, r"^the tensor 'w2' of .* ends at byte [\d,]+ of 'w\.bin', which has [\d,]+ bytes; get the file again$"
    )


def test_a_length_that_is_not_that_of_the_shape_is_refused(tmp_path: Path) -> None:
    path = retold(external_model(tmp_path), lambda entries: entries.update(length="8"))
    refused(path, r"^the tensor 'w2' of .* has 8 bytes in 'w\.bin'; expected [\d,]+ for FLOAT \[")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero


@pytest.mark.parametrize(("make", "kind"), [(Path.mkdir, "a directory"), (pipe, "a pipe"), (device, "a device")])
def test_what_is_no_regular_file_is_refused_and_never_opened(
    make: Callable[[Path], None], kind: str, tmp_path: Path
) -> None:
    path = external_model(tmp_path)
    (tmp_path / "w.bin").unlink()
    try:
        make(tmp_path / "w.bin")
    except PermissionError:
        pytest.skip("only root may make devices")
    refused(path, f"keeps weights in 'w.bin', which is {kind}; expected a file")


@pytest.mark.parametrize("which", ["file", "directory", "device"])
def test_links_that_lead_out_of_the_directory_of_the_model_are_not_followed(which: str, tmp_path: Path) -> None:
    path = external_model(tmp_path / "m", location="deep/w.bin")
    secret = tmp_path / "secret"
    secret.mkdir()
    (path.parent / "deep" / "w.bin").rename(secret / "w.bin")
    if which == "directory":
        (path.parent / "deep").rmdir()
        (path.parent / "deep").symlink_to(secret)
    else:
        (path.parent / "deep" / "w.bin").symlink_to(secret / "w.bin" if which == "file" else "/dev/zero")
    refused(
        path, r"keeps weights in 'deep/w\.bin', which leads to /.*, outside of its own directory; if you trust it, copy"
    )


def test_a_dangling_link_is_missing_data(tmp_path: Path) -> None:
    path = external_model(tmp_path)
    (tmp_path / "w.bin").unlink()
    (tmp_path / "w.bin").symlink_to(tmp_path / "nowhere")
    refused(path, r"keeps weights in 'w\.bin', which is not in .*; put it beside the model")


def test_links_inside_of_the_directory_and_to_it_are_followed(tmp_path: Path) -> None:
    path = external_model(tmp_path / "m")
    expected = tgdonnx.score(path)
    (path.parent / "w.bin").rename(path.parent / "real.bin")
    (path.parent / "w.bin").symlink_to("real.bin")
    (tmp_path / "other").symlink_to(tmp_path / "m")
    for place in (path, tmp_path / "other" / "model.onnx"):
        found = tgdonnx.score(place)
        assert [layer.kse.tolist() for layer in found.layers] == [layer.kse.tolist() for layer in expected.layers]


def test_a_model_of_a_cache_of_links_is_read_and_masked(tmp_path: Path) -> None:
    # As Hugging Face keeps them: snapshots/<revision>/model.onnx -> ../../blobs/<hash>, and its data likewise.
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    path = external_model(tmp_path / "download", location="model.onnx_data")
    expected = tgdonnx.score(path)
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for name, blob in (("model.onnx", "0a1b"), ("model.onnx_data", "2c3d")):
        (path.parent / name).rename(blobs / blob)
        (snapshot / name).symlink_to(Path("../../blobs") / blob)
    found = tgdonnx.score(snapshot / "model.onnx")
    assert [layer.kse.tolist() for layer in found.layers] == [layer.kse.tolist() for layer in expected.layers]
    tgdonnx.mask(snapshot / "model.onnx", tmp_path / "masked.onnx", tgdonnx.AllLayers())
    whole = {t.name: t.raw_data for t in onnx.load(tmp_path / "masked.onnx").graph.initializer}
    assert all(whole[t.name] == t.raw_data for t in models.chain(0).graph.initializer)
    # Next to the blobs there is nothing else that it may reach.
    (tmp_path / "secret").write_bytes((blobs / "2c3d").read_bytes())
    (blobs / "2c3d").unlink()
    (blobs / "2c3d").symlink_to(tmp_path / "secret")
    refused(snapshot / "model.onnx", "outside of its own directory")


def test_a_model_that_is_a_link_without_its_data_is_told_where_the_data_is(tmp_path: Path) -> None:
    path = external_model(tmp_path / "m")
    (tmp_path / "link.onnx").symlink_to(path)
    with pytest.raises(ModelFileError, match=f"the model is a link: name {re.escape(str(path))} itself"):
        require_external_data(load_model(tmp_path / "link.onnx"))


def test_data_with_several_hard_links_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = external_model(tmp_path / "m")
    os.link(path.parent / "w.bin", tmp_path / "other")
    refused(
        path, "has 2 hard links, so it may be any file of this disk; copy the model and its data to another directory"
    )


def test_types_and_sizes_that_no_external_tensor_has_are_refused_before_anything_is_sized_by_them(
    tmp_path: Path,
) -> None:
    path = external_model(tmp_path)
    for kind, dims, words in (
        (TensorProto.STRING, [2], "cannot be"),
        (77, [2], "data type 77|type 77"),
        (TensorProto.FLOAT, [-3], "negative size"),
        (TensorProto.FLOAT, [2**40, 2**40], "has .* bytes in|ends at byte"),
    ):
        model = onnx.load(path, load_external_data=False)
        model.graph.initializer[0].data_type = kind
        model.graph.initializer[0].dims[:] = dims
        (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ModelFileError, match=words):
            require_external_data(load_model(tmp_path / "other.onnx"))


def test_values_are_the_same_as_those_of_the_model_with_its_data_inside(tmp_path: Path) -> None:
    network = open_network(external_model(tmp_path))
    for tensor in models.chain(0).graph.initializer:
        np.testing.assert_array_equal(
            network.stored_parameters[tensor.name].numpy(), onnx.numpy_helper.to_array(tensor)
        )
