"""The study of selections: paper, readers, regrow and its like on three networks, with the new task against the old.

    python samples/regrow/run.py --quick                       # one network, few steps, one seed
    python samples/regrow/run.py                               # all that is not there yet
    python samples/regrow/run.py --network pet --candidate all # part of it

What is done is stored run by run and not done again. See the README beside this file.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import click

# The other samples and the tools lie beside this one. Both samples have a module `vendor`: the quick start's is meant, so it
# comes first.
sys.path.insert(1, str(Path(__file__).parents[2] / "tools"))
sys.path.insert(1, str(Path(__file__).parents[1] / "pet"))
sys.path.insert(1, str(Path(__file__).parents[1] / "quickstart"))

from candidates import ABLATIONS, CANDIDATES, REPRESENTATIVES, Candidate  # behind the paths
from drawings_network import drawings_network
from following import follow
from network import Network
from pages_network import pages_network
from pareto import draw
from pet_network import pet_network
from score_tables import rates_table, table
from summary import best_look

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
CHOOSING_SEED = 100
QUICK_STEPS, QUICK_RATE = 60, 3e-4


class Study:
    """Runs and their results, as files: one JSON document for each (network, candidate, seed)."""

    def __init__(self, runs: Path, steps: Optional[int] = None) -> None:
        self.runs = runs
        self.steps = steps

    def run(self, network: Network, candidate: Candidate, seed: int, rate: float, label: str = "") -> dict[str, Any]:
        """Returns the outcome of a run, from its file if it is done."""
        name = label or candidate.name
        path = self.runs / network.name / f"{name}-{seed}.json"
        steps = self.steps or network.steps
        if path.is_file():
            outcome: dict[str, Any] = json.loads(path.read_text("utf-8"))
            if (outcome["rate"], outcome["steps"]) != (rate, steps):
                raise click.ClickException(
                    f"{path} is of {outcome['steps']} steps at {outcome['rate']:g}, not {steps} at {rate:g}; delete it"
                )
            return outcome
        with tempfile.TemporaryDirectory(prefix="regrow-") as folder:
            outcome = follow(network, candidate, seed, rate, steps, Path(folder)).as_dict()
        outcome = {**outcome, "steps": steps}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(outcome, indent=1) + "\n", "utf-8")
        partial.replace(path)
        last = outcome["curve"][-1]
        click.echo(
            f"{network.name} {name} {seed}: new {last['new validation']['score']:.2f}, "
            f"old {last['old validation']['score']:.2f}, {outcome['seconds']:.0f} s {outcome['problem']}",
            err=True,
        )
        return outcome


def choose(study: Study, network: Network) -> tuple[float, float, dict[str, list[dict[str, Any]]]]:
    """Chooses the learning rate, then phi for `readers`, by the lowest loss on validation data of the new task.

    Both are then those of every candidate. The rate is the one of the lowest mean over `REPRESENTATIVES`: a large one suits
    what starts from initial values, a small one what is tuned whole. The seed is none of the study's.

    Returns:
        The rate, phi, and what was tried, for the record.
    """
    tried, means = {}, {}
    for rate in network.rates:
        labels = {f"{each.name} at rate {rate:g}": replace(each, phi=network.phis[0]) for each in REPRESENTATIVES}
        outcomes = {label: study.run(network, each, CHOOSING_SEED, rate, label) for label, each in labels.items()}
        tried |= {label: [outcome] for label, outcome in outcomes.items()}
        means[rate] = sum(map(_validation_loss, outcomes.values())) / len(outcomes)
    rate = min(means, key=means.__getitem__)
    phi = network.phis[0]
    if len(network.phis) > 1:
        readers = [Candidate(f"readers at phi {phi:g}", "readers", phi=phi) for phi in network.phis]
        by_phi = {phi: study.run(network, each, CHOOSING_SEED, rate) for phi, each in zip(network.phis, readers)}
        phi = min(by_phi, key=lambda phi: _validation_loss(by_phi[phi]))
        tried |= {f"readers at phi {phi:g}": [outcome] for phi, outcome in by_phi.items()}
    return rate, phi, tried


def _validation_loss(outcome: dict[str, Any]) -> float:
    return float(best_look(outcome["curve"])["new validation"]["loss"])


def write(output: Path, found: dict[str, dict[str, Any]], networks: Sequence[Network]) -> str:
    """Writes results.json, tables.md and a figure for every network; returns the tables."""
    parts = []
    for network in networks:
        result = found[network.name]
        parts.append(
            f"## {network.title}\n\nScores: {network.unit}; mean ± standard deviation over seeds, test data.\n"
        )
        parts.append(table(result["runs"]) + "\n")
        if result["ablations"]:
            parts.append("Ablations:\n\n" + table(result["ablations"]) + "\n")
        if result["tried"]:
            chosen = f"rate {result['rate']:g}, phi {result['phi']:g}"
            parts.append(f"Chosen beforehand, on validation data: {chosen}.\n\n" + rates_table(result["tried"]) + "\n")
        curves = {name: [outcome["curve"] for outcome in seeds] for name, seeds in result["runs"].items()}
        draw(network.title, network.unit, curves, output / f"{network.name}.png")
        if result["ablations"]:
            default = {name: curves[name] for name in ("regrow", "readers") if name in curves}
            others = {name: [o["curve"] for o in seeds] for name, seeds in result["ablations"].items()}
            draw(
                f"{network.title}, ablations", network.unit, default | others, output / f"{network.name}-ablations.png"
            )
    tables = "\n".join(parts)
    (output / "results.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (output / "tables.md").write_text(tables, "utf-8")
    return tables


NETWORKS: dict[str, Callable[[Path, int], Network]] = {
    "drawings": lambda cache, _workers: drawings_network(cache / "waifu2x-vgg7.onnx"),
    "pages": lambda _cache, _workers: pages_network(),
    "pet": lambda cache, workers: pet_network(cache / "pet.npz", workers),
}


@click.command()
@click.option(
    "--quick", is_flag=True, help="One network, few steps, one seed: a look at whether all works, in minutes."
)
@click.option("--network", "names", multiple=True, type=click.Choice(list(NETWORKS)), help="Only this; repeatable.")
@click.option("--candidate", "wanted", multiple=True, help="Only this, ablations included; repeatable.")
@click.option("--ablations/--no-ablations", default=True, show_default=True, help="Whether ablations are run, too.")
@click.option("--workers", type=int, default=2, show_default=True, help="Processes that simulate PET scans.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Directory of the results.")
@click.option("--cache", type=click.Path(path_type=Path), default=HERE / "out" / "cache", help="Where made data goes.")
def main(
    quick: bool,
    names: tuple[str, ...],
    wanted: tuple[str, ...],
    ablations: bool,
    workers: int,
    output: Optional[Path],
    cache: Path,
) -> None:
    """Runs what is not done yet, and writes tables and figures of all that is asked for."""
    output = output or (HERE / "out" / "quick" if quick else HERE / "results")
    study = Study(output / "runs", QUICK_STEPS if quick else None)
    known = {each.name for each in CANDIDATES} | {each.name for some in ABLATIONS.values() for each in some}
    for name in wanted:
        if name not in known:
            raise click.BadParameter(f"no candidate {name!r}; there are {', '.join(sorted(known))}")
    networks, found = [], {}
    for name in names or (["drawings"] if quick else NETWORKS):
        network = NETWORKS[name](cache, workers)
        rate, phi, tried = (QUICK_RATE, network.phis[-1], {}) if quick else choose(study, network)
        network = replace(network, phi=phi)
        runs: dict[str, list[dict[str, Any]]] = {}
        others: dict[str, list[dict[str, Any]]] = {}
        further = ABLATIONS.get(name, ()) if ablations and not quick else ()
        # Seed by seed: what there is after a while is a whole table.
        for candidates, into in ((CANDIDATES, runs), (further, others)):
            for seed in SEEDS[:1] if quick else SEEDS:
                for candidate in candidates:
                    if (not wanted or candidate.name in wanted) and (seed == SEEDS[0] or not candidate.once):
                        into.setdefault(candidate.name, []).append(study.run(network, candidate, seed, rate))
        networks.append(network)
        found[name] = {"rate": rate, "phi": phi, "runs": runs, "ablations": others, "tried": tried}
    click.echo(write(output, found, networks))


if __name__ == "__main__":
    main()
