"""The gate on three networks: new and old task of the gated file, beside the vendor's, full fine-tuning, and the tuned one.

    python samples/gate/run.py                      # all three, in about 15 minutes on 2 idle cores
    python samples/gate/run.py --network pet --steps 20    # a look at whether all works

Networks, data and scores are those of the study of retention (../retention); see the README beside this file.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import click
import numpy as np
import onnxruntime

# The other samples and the tools lie beside this one.
sys.path.insert(1, str(Path(__file__).parents[2] / "tools"))
sys.path.insert(1, str(Path(__file__).parents[1] / "pet"))
sys.path.insert(1, str(Path(__file__).parents[1] / "quickstart"))
sys.path.insert(1, str(Path(__file__).parents[1] / "retention"))

from candidates import FULL, REGROW, Candidate, mask  # behind the paths
from drawings_network import drawings_network
from network import Network, Place
from pages_network import pages_network
from pet_network import pet_network

import tgdonnx
from tgdonnx.errors import DataError

HERE = Path(__file__).parent
REPEATS = 30


@dataclass(frozen=True)
class Plan:
    """How a network is tuned and gated.

    Attributes:
        full: the learning rate of plain full fine-tuning, the best of the study's.
        tuned: what the gated file holds besides the vendor's network; None for the fully fine-tuned one.
        rate: its learning rate.
    """

    full: float
    tuned: Optional[Candidate] = None
    rate: float = 0.0


PLANS: Mapping[str, Plan] = {
    "pet": Plan(3e-5, REGROW, 1e-4),
    "drawings": Plan(3e-4),
    "pages": Plan(3e-5),
}


def train(network: Network, candidate: Candidate, rate: float, seed: int, work: Path) -> Path:
    """Masks, builds and trains; returns the artifacts."""
    work.mkdir()
    data = network.data(seed)
    mask(network, candidate, seed, work / "masked.onnx")
    tgdonnx.build(work / "masked.onnx", work / "run", tgdonnx.BuildOptions(form="thin"))
    options = tgdonnx.TrainOptions(steps=network.steps, batch=network.batch, learning_rate=rate, seed=seed)
    tgdonnx.train(work / "run", tgdonnx.RunData(data, reading=network.reading), options)
    return work / "run"


def opened(model: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """Opens a file as its user does."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def scores(network: Network, model: Path) -> dict[str, float]:
    """Returns the score on the test data of both tasks, image by image."""
    session = opened(model)
    found = {}
    for kind in ("new", "old"):
        place: Place = f"{kind} test"  # type: ignore[assignment]
        outputs = [session.run(None, {network.input_name: x[None]})[0] for x in network.held_out[place].inputs]
        found[kind] = network.quality(np.concatenate(outputs), place).score
    return found


def decisions(network: Network, model: Path) -> dict[str, float]:
    """Returns the shares of test images that go to the right side."""
    session = opened(model)
    found = {}
    for kind, right in (("new", True), ("old", False)):
        inputs = network.held_out[f"{kind} test"].inputs  # type: ignore[index]
        said = [bool(session.run(["gate_is_new"], {network.input_name: x[None]})[0].all()) for x in inputs]
        found[kind] = float(np.mean([each == right for each in said]))
    return found


def slower(network: Network, tuned: Path, gated: Mapping[str, Path]) -> dict[str, float]:
    """Returns the processor time of gated files on a new image by that of the tuned one: interleaved, one thread, medians."""
    sessions = {name: opened(path, 1) for name, path in {"tuned": tuned, **gated}.items()}
    feeds = {network.input_name: network.held_out["new test"].inputs[:1]}
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(REPEATS):
        for name, session in sessions.items():
            begin = time.process_time()
            session.run(None, feeds)
            seconds[name].append(time.process_time() - begin)
    by_tuned = np.array(seconds["tuned"])
    return {name: float(np.median(np.array(seconds[name]) / by_tuned)) for name in gated}


def study(network: Network, plan: Plan, seed: int, work: Path) -> dict[str, Any]:
    """Tunes, gates and judges a network."""
    full = work / "full.onnx"
    tgdonnx.export(train(network, FULL, plan.full, seed, work / "all"), full)
    tuned, blend = full, 1.0
    if plan.tuned is not None:
        artifacts = train(network, plan.tuned, plan.rate, seed, work / "tuned")
        if network.name == "pet":  # the targets of the study are the middle slice of what the network gives
            blend = chosen_blend(network, artifacts, work)
        else:
            held = network.held_out["new validation"]
            validation = {network.input_name: held.inputs, "target": held.targets}
            blend = tgdonnx.blend(artifacts, validation).chosen
        tuned = work / "tuned.onnx"
        tgdonnx.export(artifacts, tuned, blend=blend)
    name = network.input_name
    data = tgdonnx.GateData(
        {name: network.gate_inputs()},
        {name: network.held_out["new validation"].inputs},
        {name: network.held_out["old validation"].inputs},
    )
    both, dial = work / "both.onnx", work / "dial.onnx"
    judged = {"vendor": scores(network, network.model), "full": scores(network, full), "tuned": scores(network, tuned)}
    try:
        report = tgdonnx.gate(network.model, tuned, both, data=data, detector_outputs=True)
    except DataError as error:  # which is a result: the detector does not tell new from old
        return {"seed": seed, "steps": network.steps, "blend": blend, "scores": judged, "refused": str(error)}
    tgdonnx.gate(network.model, tuned, dial, input_name="g")
    assert tgdonnx.verify(network.model, both).ok
    assert tgdonnx.verify(network.model, dial).ok
    shares = report.separation
    assert shares is not None
    return {
        "seed": seed,
        "steps": network.steps,
        "form": report.form,
        "blend": blend,
        "layer": report.layer,
        "images": report.images,
        "separation": {
            "new": report.separation.new,
            "held_out": report.separation.held_out,
            "retain": report.separation.retain,
        },
        "decisions": decisions(network, both),
        "scores": {**judged, "gated": scores(network, both)},
        "time": slower(network, tuned, {"detector": both, "input": dial}),
        "bytes": {"vendor": network.model.stat().st_size, "gated": both.stat().st_size},
    }


def chosen_blend(network: Network, artifacts: Path, work: Path) -> float:
    """Returns the blend with the lowest loss on new validation data, from 0.5 on."""
    losses = {}
    held = network.held_out["new validation"]
    for blend in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        tgdonnx.export(artifacts, work / "candidate.onnx", blend=blend, overwrite=True)
        session = opened(work / "candidate.onnx")
        outputs = [session.run(None, {network.input_name: x[None]})[0] for x in held.inputs]
        losses[blend] = network.quality(np.concatenate(outputs), "new validation").loss
    return min(losses, key=losses.__getitem__)


def table(found: Sequence[tuple[Network, dict[str, Any]]]) -> str:
    """Returns what was found as Markdown."""
    lines = [
        "| network, score | | vendor's | full fine-tuning | tuned | gated |",
        "|---|---|---|---|---|---|",
    ]
    for network, one in found:
        for kind in ("new", "old"):
            named = (one["scores"].get(each) for each in ("vendor", "full", "tuned", "gated"))
            row = ["refused" if each is None else f"{each[kind]:.2f}" for each in named]
            lines.append(f"| {network.title}, {network.unit} | {kind} | {' | '.join(row)} |")
    lines += [
        "",
        "| network | form | in front of | fitted on | new, left out | held-out new | old | test: new, old | time by the tuned: "
        "detector, input | bytes by the vendor's |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for network, one in found:
        if "refused" in one:
            continue
        shares, test, times, sizes = one["separation"], one["decisions"], one["time"], one["bytes"]
        cells = [network.name, f"{one['form']}, blend {one['blend']:g}", one["layer"], str(one["images"])]
        cells += [f"{shares[kind]:.0%}" for kind in ("new", "held_out", "retain")]
        cells += [f"{test['new']:.0%}, {test['old']:.0%}", f"{times['detector']:.3f}, {times['input']:.3f}"]
        lines.append(f"| {' | '.join(cells)} | {sizes['gated'] / sizes['vendor']:.2f} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--network", "names", multiple=True, type=click.Choice(list(PLANS)), help="Only this; repeatable.")
@click.option("--steps", type=int, help="Fewer steps than the study's, for a look.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), default=HERE / "out" / "cache", help="Where made data goes.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=HERE / "results", help="Directory of the results."
)
def main(names: tuple[str, ...], steps: Optional[int], seed: int, cache: Path, output: Path) -> None:
    """Tunes, gates and judges; writes tables.md, and a JSON file for every network."""
    output.mkdir(parents=True, exist_ok=True)
    made = {
        "pet": lambda: pet_network(cache / "pet.npz", 2),
        "drawings": lambda: drawings_network(cache / "waifu2x-vgg7.onnx"),
        "pages": pages_network,
    }
    found = []
    for name in names or PLANS:
        network: Network = made[name]()
        network = replace(network, steps=steps or network.steps)
        with tempfile.TemporaryDirectory(prefix="gate-") as folder:
            one = study(network, PLANS[name], seed, Path(folder))
        (output / f"{name}.json").write_text(json.dumps(one, indent=1) + "\n", "utf-8")
        found.append((network, one))
    (output / "tables.md").write_text(table(found), "utf-8")
    click.echo(table(found))


if __name__ == "__main__":
    main()
