"""What a file may ask for: whatever explodes is refused or left untraced, within a bound that is said."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.cli.commands import run
from tests.support import explosive_models
from tests.support.explosive_models import EXPLOSIVE, deep_if_bytes
from tests.support.explosive_run import Runner
from tests.support.models import chain
from tgdonnx import bounds
from tgdonnx.checking import check
from tgdonnx.errors import ModelFileError
from tgdonnx.graphs.evaluation import evaluate
from tgdonnx.layers import open_network
from tgdonnx.lowering.auto_pad import LowerAutoPad
from tgdonnx.scoring import score_layers
from tgdonnx.selection.importance import filter_importance
from tgdonnx.tracing import trace_network
from tgdonnx.tracing.origins import TOO_MANY
from tools import scaling

# The bound that each kind runs into, as the message says it.
REFUSED = {
    "calls-twice-40": f"{bounds.INLINED_NODES:,}",
    "calls-in-a-row": f"at most {bounds.FUNCTION_DEPTH}",
    "nested-if-12": f"more than {bounds.GRAPH_DEPTH} graphs deep",
    "deep-if-30": f"more than {bounds.GRAPH_DEPTH} graphs deep",
    "loop": f"{bounds.LOOP_NODES:,}",
    "nested-loop": f"{bounds.LOOP_NODES:,}",
    "value-infos-1000000": f"{bounds.ENTRIES:,}",
    "initializers-200000": f"{bounds.ENTRIES:,}",
    **dict.fromkeys(
        (
            *("range", "constant-of-shape", "constant-of-shape-square", "expand", "tile", "pad", "one-hot", "resize"),
            *("random", "range-as-pads", "constant-of-shape-as-pads", "expand-as-pads", "tile-as-pads", "pad-as-pads"),
            "one-hot-as-pads",
        ),
        f"{bounds.CONSTANT_ELEMENTS:,}",
    ),
    **dict.fromkeys(
        (
            *("grown-pad", "grown-pad-reflect", "grown-pad-channels", "grown-tile", "grown-tile-channels"),
            *("grown-expand-batch", "grown-resize", "grown-resize-sizes", "grown-resize-channels"),
            *("grown-resize-cubic", "doubled-channels", "doubled-rows", "wide-norm"),
        ),
        f"{bounds.ACTIVATION_ELEMENTS:,}",
    ),
}


def save(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_asks_for_enormous_work_is_refused_and_the_bound_is_said(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as error:
        open_network(save(tmp_path / "m.onnx", EXPLOSIVE[kind]()))
    assert REFUSED[kind] in str(error.value)


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner() as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXPLOSIVE)
def test_every_command_ends_soon_and_within_memory_whatever_the_file_asks_for(
    kind: str, runner: Runner, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    save(tmp_path / "m.onnx", EXPLOSIVE[kind]())
    np.savez(tmp_path / "d.npz", x=rng.standard_normal((2, 2, 6, 5)).astype(np.float32))
    np.save(tmp_path / "im.npy", rng.standard_normal((2, 6, 5)).astype(np.float32))
    commands = (
        ("inspect", "m.onnx"),
        ("score", "m.onnx"),
        ("trace", "m.onnx"),
        ("check", "m.onnx"),
        ("mask", "m.onnx", "-o", "masked.onnx", "--all"),
        ("build", "masked.onnx", "-o", "artifacts"),
        ("sweep", "m.onnx", "--data", "d.npz", "--phi", "0.9"),
        ("apply", "m.onnx", "--data", "im.npy", "--layout", "CHW", "-o", "applied.npy"),
    )
    for command, outcome in zip(commands, runner.run(commands, cwd=tmp_path)):
        assert outcome.status in (0, 1, 2), (command, outcome)
        assert "fault of tgdonnx" not in outcome.stderr, (command, outcome.stderr)


def test_functions_that_call_each_other_twice_over_12_levels_are_inlined_in_time(tmp_path: Path) -> None:
    network = open_network(save(tmp_path / "m.onnx", explosive_models.calls_twice(12)))
    assert sum(node.op_type == "Relu" for node in network.graph) == 2**12
    assert len({node.outputs[0].name for node in network.graph}) == 2**12 + 1


def test_functions_that_call_themselves_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"call themselves: vendor\.p.ng -> vendor\.p.ng -> vendor\.p.ng"):
        open_network(save(tmp_path / "m.onnx", explosive_models.calls_itself()))


def test_a_loop_that_nothing_ends_is_refused(tmp_path: Path) -> None:
    model = explosive_models.loop_forever()
    model.graph.node[-1].input[0] = ""
    model.graph.node[-1].input[1] = ""
    with pytest.raises(ModelFileError, match=f"{bounds.LOOP_NODES:,}"):
        open_network(save(tmp_path / "m.onnx", model))


def test_a_loop_of_some_rounds_is_not_refused(tmp_path: Path) -> None:
    model = explosive_models.loop_forever()
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "trips")
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(1000), "trips"))
    assert open_network(save(tmp_path / "m.onnx", model)).layers


def test_graphs_nested_deeper_than_protobuf_reads_are_said_to_be_that(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(deep_if_bytes(10_000))
    with pytest.raises(ModelFileError, match=f"more than {bounds.GRAPH_DEPTH} graphs deep"):
        open_network(tmp_path / "m.onnx")


def test_constants_are_not_computed_where_they_would_be_larger_than_is_asked_for() -> None:
    node = ir.node("Expand", [ir.Value(name="a"), ir.Value(name="b")])
    node.outputs[0].name = "y"
    inputs = {"a": np.zeros((1, 1), np.float32), "b": np.array([40, 100])}
    assert evaluate(node, inputs, {"": 17}, 3999) is None
    found = evaluate(node, inputs, {"": 17}, 4000)
    assert found is not None
    assert found[0].shape == (40, 100)


def test_what_a_loop_of_constants_makes_is_not_computed(tmp_path: Path) -> None:
    model = explosive_models.loop_forever()
    trips = next(tensor for tensor in model.graph.initializer if tensor.name == "trips")
    trips.CopyFrom(onnx.numpy_helper.from_array(np.array(10**6), "trips"))
    model.graph.node[1].input[2] = "start"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(3, np.float32), "start"))
    network = open_network(save(tmp_path / "m.onnx", model))
    (made,) = (node.outputs[0] for node in network.graph if node.op_type == "Loop")
    assert made not in network.sizes.contents


def test_where_too_many_filters_have_a_part_in_a_map_they_are_all_useful(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = save(tmp_path / "m.onnx", residual(30))
    plain = trace_network(open_network(trunk))
    read = [max(len(origin.producers) for origin in inputs) for inputs in plain.layer_inputs[1:]]
    assert read == list(range(1, 31))
    monkeypatch.setattr(bounds, "PRODUCERS", 100)
    monkeypatch.setattr(bounds, "FEW_PRODUCERS", 4)
    cut = trace_network(open_network(trunk))
    importance = filter_importance(cut, score_layers(cut).layers)
    opaque = [inputs[0].opaque for inputs in cut.layer_inputs]
    first = opaque.index(TOO_MANY)
    assert 4 < first < 15
    assert sum(len(origin.producers) for inputs in cut.layer_inputs for origin in inputs) < 400
    # Nobody may take a filter for unimportant because the list of those who read it is not kept.
    for index in range(len(cut.layers)):
        assert np.isinf(importance[index].values).all()


def residual(blocks: int) -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    nodes, x, tensors = [], "h", {}
    for index in range(blocks):
        tensors[f"w{index}"] = rng.standard_normal((3, 3, 1, 1)).astype(np.float32)
        nodes.append(onnx.helper.make_node("Conv", [x, f"w{index}"], [f"c{index}"], f"conv{index}"))
        out = "y" if index == blocks - 1 else f"s{index}"
        nodes.append(onnx.helper.make_node("Add", [x, f"c{index}"], [out], f"add{index}"))
        x = out
    return explosive_models.conv_model(nodes, tensors)


def irregular(kind: str, path: Path) -> Path:
    """Puts something at ``path`` that is no regular file; returns it, or where it is."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        # Addresses are short, and the file stays when the socket is closed.
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(path.name)
        finally:
            os.chdir(here)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


KINDS = {"pipe": "a named pipe", "socket": "a socket", "device": "a device", "directory": "a directory"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_is_no_regular_file_is_refused_without_opening_it(kind: str, tmp_path: Path) -> None:
    path = irregular(kind, tmp_path / "m.onnx")
    for command in (("inspect",), ("check",), ("mask", "--all", "-o", tmp_path / "masked.onnx")):
        result = run(command[0], path, *command[1:])
        assert result.exit_code == 2
        assert KINDS[kind] in result.stderr


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".h5", ".nii", ".nii.gz", ".png", ".dcm"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_data_that_is_no_regular_file_is_refused_without_opening_it(kind: str, suffix: str, tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", chain())
    path = irregular(kind, tmp_path / f"data{suffix}")
    for command in (
        ("sweep", model, "--data", path),
        ("apply", model, "--data", path, "-o", tmp_path / "applied.npy"),
    ):
        result = run(*command)
        assert result.exit_code == 2
        assert str(path) in result.stderr.replace("\n", "")


@pytest.mark.parametrize("suffix", [".toml", ".yaml"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_that_is_no_regular_file_is_refused_without_opening_it(
    kind: str, suffix: str, tmp_path: Path
) -> None:
    path = irregular(kind, tmp_path / f"options{suffix}")
    result = run("finetune", tmp_path / "m.onnx", "--config", path)
    assert result.exit_code == 2
    assert KINDS[kind] in result.stderr.replace("\n", " ")


def test_a_sparse_file_larger_than_a_model_can_be_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(40 * 2**30)
    with pytest.raises(ModelFileError, match=f"{bounds.MODEL_BYTES:,}"):
        open_network(path)


def test_check_of_a_model_of_many_nodes_looks_at_each_and_opens_no_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "m.onnx", residual(30))
    assert "TGD105" not in {finding.code for finding in check(path).findings}
    monkeypatch.setattr(bounds, "TRIED_NODES", 60)
    report = check(path)
    told = [finding.message for finding in report.findings if finding.code == "TGD105"]
    assert len(told) == 1
    assert "61 nodes; up to 60" in told[0]
    assert report.trainable


def test_lowering_one_node_does_not_go_through_the_graph(tmp_path: Path) -> None:
    model = open_network(save(tmp_path / "m.onnx", residual(3))).model
    nodes = [node for node in model.graph if node.op_type == "Conv"]
    assert LowerAutoPad(nodes[1:2]).chosen(model) == nodes[1:2]
    assert LowerAutoPad(nodes[::-1]).chosen(model) == nodes, "in the order of the graph"
    model.graph.remove(nodes[3])
    assert LowerAutoPad(nodes[3:]).chosen(model) == []


@pytest.mark.slow
def test_time_and_memory_of_commands_grow_linearly_with_the_nodes(tmp_path: Path) -> None:
    """Sixteen times the nodes take at most 32 times as long: the square would take 256 times."""
    sizes = (300, 4800)
    for nodes in sizes:
        scaling.prepare("chain", nodes, tmp_path / str(nodes))
    idle = scaling.measure(scaling.COMMANDS["nothing"], tmp_path / str(sizes[0]), 300)
    for command in ("inspect", "check", "trace", "mask"):
        seconds, mebibytes = [], []
        for nodes in sizes:
            directory = tmp_path / str(nodes)
            usage = scaling.measure(scaling.COMMANDS[command], directory, 900)
            assert usage.status in (0, 1), (directory / "log.txt").read_text()[-500:]
            seconds.append(max(0.2, usage.seconds - idle.seconds))
            mebibytes.append(max(10.0, usage.mebibytes - idle.mebibytes))
        assert seconds[1] < 32 * seconds[0], (command, seconds)
        assert mebibytes[1] < 32 * mebibytes[0], (command, mebibytes)
