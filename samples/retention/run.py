"""The study of retention: new task against old, over the blend, for selections on five networks.

    python samples/retention/run.py --quick                          # one network, few steps: whether its table comes again
    python samples/retention/run.py                                  # all that is not there yet, then tables and figures
    python samples/retention/run.py --network pet --candidate regrow # part of it
    python samples/retention/run.py --tables                         # tables and figures of what is there

What is done is stored run by run and not done again. See the README beside this file.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional

import click

# The other samples and the tools lie beside this one. Two samples have a module `vendor`: the quick start's is meant, so it
# comes first.
sys.path.insert(1, str(Path(__file__).parents[2] / "tools"))
sys.path.insert(1, str(Path(__file__).parents[1] / "pet"))
sys.path.insert(1, str(Path(__file__).parents[1] / "quickstart"))

from candidates import CANDIDATES, Candidate  # behind the paths
from drawings_network import drawings_network
from ecg_network import ecg_network
from fronts import draw
from network import Network
from pet_network import pet_network
from study import Study
from summary import network_tables, numbers
from text_networks import boxes_network, lines_network
from tuning import one_thread

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
QUICK_NETWORK, QUICK_STEPS, QUICK_CANDIDATES = "ecg", 60, ("full", "regrow", "adapter")
NETWORKS: dict[str, Callable[[Path, int], Network]] = {
    "pet": lambda cache, workers: pet_network(cache / "pet.npz", workers),
    "ecg": lambda _cache, _workers: ecg_network(),
    "drawings": lambda cache, _workers: drawings_network(cache / "waifu2x-vgg7.onnx"),
    "lines": lambda _cache, _workers: lines_network(),
    "boxes": lambda _cache, _workers: boxes_network(),
}
Found = dict[str, list[dict[str, Any]]]


def do_all(study: Study, network: Network, candidates: Sequence[Candidate], seeds: Sequence[int]) -> None:
    """Runs what is not done yet."""
    for candidate in candidates:
        if candidate.name in network.rates:
            for seed in seeds:
                study.run(network, candidate, seed)


def write(study: Study, networks: Sequence[Network], output: Path) -> tuple[str, dict[str, Any]]:
    """Writes tables, a figure for every network, and the numbers of the tables; returns tables and numbers."""
    parts, shown = [], {}
    for network in networks:
        found: Found = {each.name: study.done(network, each) for each in CANDIDATES}
        found = {name: runs for name, runs in found.items() if runs}
        if found:
            vendor = study.vendor(network)
            parts.append(network_tables(network, vendor, found))
            shown[network.name] = numbers(vendor, found)
            draw(network, vendor, found, output / f"{network.name}.png")
    tables = "Means over seeds with intervals of 95 % by Student's t.\n\n" + "\n".join(parts)
    (output / "tables.md").write_text(tables, "utf-8")
    (output / "results.json").write_text(json.dumps(shown, indent=1) + "\n", "utf-8")
    return tables, shown


def outside(found: dict[str, Any], committed: dict[str, Any]) -> list[str]:
    """Returns the rows of a table whose mean does not lie within the interval of the committed one."""
    missed = []
    for network, candidates in committed.items():
        for candidate, rows in candidates.items():
            for row, (mean, half) in rows.items():
                now = found.get(network, {}).get(candidate, {}).get(row, [math.nan])[0]
                if not abs(now - mean) <= half:
                    missed.append(f"{network}, {candidate}, {row}: {now:.3f}, expected {mean:.3f} ± {half:.3f}")
    return missed


@click.command()
@click.option(
    "--quick", is_flag=True, help="One network, few steps; compares its table with the one that is committed."
)
@click.option("--tables", is_flag=True, help="Run nothing; write tables and figures of what is there.")
@click.option("--network", "names", multiple=True, type=click.Choice(list(NETWORKS)), help="Only this; repeatable.")
@click.option("--candidate", "wanted", multiple=True, type=click.Choice([each.name for each in CANDIDATES]))
@click.option("--seed", "seeds", multiple=True, type=int, help="Only this; repeatable.")
@click.option("--workers", type=int, default=2, show_default=True, help="Processes that simulate PET scans.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Directory of the results.")
@click.option("--cache", type=click.Path(path_type=Path), default=HERE / "out" / "cache", help="Where made data goes.")
def main(
    quick: bool,
    tables: bool,
    names: tuple[str, ...],
    wanted: tuple[str, ...],
    seeds: tuple[int, ...],
    workers: int,
    output: Optional[Path],
    cache: Path,
) -> None:
    """Runs what is not done yet, and writes tables and figures."""
    one_thread()
    output = output or (HERE / "out" / "quick" if quick else HERE / "results")
    study = Study(output / "runs", QUICK_STEPS if quick else None, gates=not quick)
    wanted = wanted or (QUICK_CANDIDATES if quick else ())
    networks = [NETWORKS[name](cache, workers) for name in names or ((QUICK_NETWORK,) if quick else NETWORKS)]
    for network in networks:
        if not tables:
            do_all(study, network, [each for each in CANDIDATES if not wanted or each.name in wanted], seeds or SEEDS)
    text, shown = write(study, networks, output)
    click.echo(text)
    committed = HERE / "results" / "quick" / "results.json"
    if quick and committed.is_file():
        missed = outside(shown, json.loads(committed.read_text("utf-8")))
        if missed:
            raise click.ClickException("not within the intervals of the committed table:\n" + "\n".join(missed))
        click.echo("Every mean lies within the interval of the committed table.")


if __name__ == "__main__":
    main()
