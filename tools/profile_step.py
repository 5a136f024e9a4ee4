"""Where the time of a training step of engine onnxruntime goes, by the runtime's own profiler, and what its kernels take alone.

The nets, the weights and the batch are those of `benchmark.py`. Of the nodes of a step, by operator:

    convolutions     Conv and ConvTranspose, forward and on the way back to the inputs
    products         the gradients of filters: MatMul, and what the runtime made of one
    copies           what brings the factors of products into place: Pad, Slice, Gather, Concat, Transpose, Reshape ...
    others           activations and their derivatives, sums, the loss, the optimizer
    between          the time of a run that is no node's

Then every convolution and every product of the step is run alone, in a model of one node, with inputs of the same shapes: the
sum is a floor for steps of these kernels. Also told is how many thousand million multiplications and additions a second that
is. What other work slows is no news: of the steps, and of the runs of each kernel, the fastest counts.

Needs the extra ``ort``, and rich.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from benchmark import DNCNN, PET_NET, Net, cases, make_artifacts
from guide_tables import markdown, write_table
from onnx import TensorProto, helper
from safetensors.numpy import load_file

from tgdonnx.engines.onnxruntime.models import RATE, STEP
from tgdonnx.runtime import load_onnxruntime, session_options

TABLE = "where a step goes"
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "FusedConv"})
PRODUCTS = frozenset({"MatMul", "FusedMatMul", "Gemm"})
COPIES = frozenset(
    {"Pad", "Slice", "Gather", "Concat", "Transpose", "Reshape", "Expand", "ReorderInput", "ReorderOutput"}
)
TRAINS = ("rho 1.0", "rho 0.5", "rho 0.1")

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Event:
    """One node in one step.

    Attributes:
        node: its name in the graph as the runtime has rewritten it.
        op_type: its operator there.
        milliseconds: it took.
        inputs: the shapes of its inputs.
        output: that of its first output.
    """

    node: str
    op_type: str
    milliseconds: float
    inputs: Shapes
    output: tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """The fastest of some steps.

    Attributes:
        events: its nodes.
        milliseconds: that it took.
        nodes: of the graph as the runtime has rewritten it, by name.
        opsets: what that graph imports.
    """

    events: Sequence[Event]
    milliseconds: float
    nodes: Mapping[str, onnx.NodeProto]
    opsets: Sequence[onnx.OperatorSetIdProto]

    @property
    def heavy(self) -> list[Event]:
        """Its convolutions and products."""
        return [event for event in self.events if event.op_type in CONVOLUTIONS | PRODUCTS]

    def parts(self) -> list[float]:
        """Returns the milliseconds of convolutions, products, copies and other nodes, and those between nodes."""
        kinds = (CONVOLUTIONS, PRODUCTS, COPIES)
        known = [sum(event.milliseconds for event in self.events if event.op_type in kind) for kind in kinds]
        nodes = sum(event.milliseconds for event in self.events)
        return [*known, nodes - sum(known), self.milliseconds - nodes]


def profile(directory: Path, steps: int) -> Profile:
    """Takes training steps under the profiler.

    Args:
        directory: artifacts of engine onnxruntime, with the batch beside them.
        steps: how many.
    """
    options = session_options()
    options.enable_profiling = True
    options.profile_file_prefix = str(directory / "profile")
    options.optimized_model_filepath = str(directory / "optimized.onnx")
    session = load_onnxruntime().InferenceSession(
        str(directory / "step.onnx"), options, providers=["CPUExecutionProvider"]
    )
    images = np.load(directory.parent / "images.npy")
    feeds: dict[str, Any] = {RATE: np.array(1e-6, np.float32), STEP: np.array(1, np.int64)}
    feeds.update(load_file(directory / "state.safetensors"))
    feeds = {value.name: feeds.get(value.name, images) for value in session.get_inputs()}
    for _ in range(steps):
        session.run(None, feeds)
    events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    run = min((event for event in events if event["name"] == "model_run"), key=lambda event: event["dur"])
    inside = [
        _event(event)
        for event in events
        if event["cat"] == "Node"
        and event["name"].endswith("_kernel_time")
        and run["ts"] <= event["ts"] < run["ts"] + run["dur"]
    ]
    optimized = onnx.load(directory / "optimized.onnx")
    return Profile(inside, run["dur"] / 1e3, {node.name: node for node in optimized.graph.node}, optimized.opset_import)


def _event(event: Mapping[str, Any]) -> Event:
    arguments = event["args"]
    inputs, outputs = (
        tuple(tuple(shape) for each in arguments.get(f"{side}_type_shape", ()) for shape in each.values())
        for side in ("input", "output")
    )
    name = event["name"].removesuffix("_kernel_time")
    return Event(name, arguments["op_name"], event["dur"] / 1e3, inputs, outputs[0] if outputs else ())


def alone(profile: Profile, event: Event, runs: int) -> float:
    """Returns the milliseconds that the node of an event takes in a model of its own, in the fastest of some runs."""
    node = onnx.NodeProto()
    node.CopyFrom(profile.nodes[event.node])
    node.input[:] = [f"x{place}" for place in range(len(event.inputs))]
    node.output[:] = ["y"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in zip(node.input, event.inputs)
    ]
    graph = helper.make_graph([node], "alone", inputs, [helper.make_empty_tensor_value_info("y")])
    model = helper.make_model(graph, opset_imports=profile.opsets, ir_version=10)
    session = load_onnxruntime().InferenceSession(
        model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in zip(node.input, event.inputs)}
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        session.run(None, feeds)
        times.append(1e3 * (time.perf_counter() - begin))
    return min(times)


def operations(event: Event) -> int:
    """Returns the multiplications and additions of a convolution with strides 1, or of a product."""
    if event.op_type in CONVOLUTIONS:
        return 2 * prod(event.output) * prod(event.inputs[1][1:])
    return 2 * prod(event.output) * event.inputs[0][-1]


def rows_of(net: Net, steps: int, runs: int) -> list[list[str]]:
    """Returns what is told of a network; what a kernel takes alone is the least that it took in any of its cases."""
    profiles: dict[str, Profile] = {}
    known: dict[tuple[str, Shapes], float] = {}
    for case in cases(net):
        if case.trains in TRAINS:
            with tempfile.TemporaryDirectory() as work:
                make_artifacts(Path(work), replace(case, contenders=("onnxruntime",)))
                found = profiles[case.trains] = profile(Path(work) / "onnxruntime", steps)
            for event in {(event.op_type, event.inputs): event for event in found.heavy}.values():
                kernel = event.op_type, event.inputs
                known[kernel] = min(alone(found, event, runs), known.get(kernel, math.inf))
    return [_row(net, trains, found, known) for trains, found in profiles.items()]


def _row(net: Net, trains: str, found: Profile, known: Mapping[tuple[str, Shapes], float]) -> list[str]:
    floor = sum(known[event.op_type, event.inputs] for event in found.heavy)
    speed = sum(map(operations, found.heavy)) / floor / 1e6
    cells = [f"{part:.0f}" for part in (found.milliseconds, *found.parts(), floor)]
    return [net.name, trains, *cells, f"{floor / found.milliseconds:.2f}", f"{speed:.0f}"]


@click.command()
@click.option("--steps", default=20, help="Steps, of which the fastest counts.")
@click.option("--runs", default=20, help="Runs of every kernel alone, likewise.")
@click.option("--write", is_flag=True, help="Write the table into the guide to numbers.")
def main(steps: int, runs: int, write: bool) -> None:
    """Tells where the time of a step goes."""
    rows = [row for net in (DNCNN, PET_NET) for row in rows_of(net, steps, runs)]
    click.echo(f"onnxruntime {load_onnxruntime().__version__}\n\n{markdown(TABLE, rows)}")
    if write:
        write_table(TABLE, rows)


if __name__ == "__main__":
    main()
