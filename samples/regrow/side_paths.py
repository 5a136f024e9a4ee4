"""Side paths (mode adapter) against tuning everything, both blended: the new task against the old, at one seed.

    python samples/regrow/side_paths.py --network drawings
    python samples/regrow/side_paths.py --network pet

Every tuned file is written and run by ONNX Runtime, as its user would. The table goes to stdout.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click

sys.path.insert(1, str(Path(__file__).parents[2] / "tools"))
sys.path.insert(1, str(Path(__file__).parents[1] / "pet"))
sys.path.insert(1, str(Path(__file__).parents[1] / "quickstart"))

from drawings_network import drawings_network  # behind the paths
from following import look
from network import Network
from pet_network import pet_network

import tgdonnx

HERE = Path(__file__).parent
BLENDS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Way:
    """One way to tune: a rank of side paths, or None for full fine-tuning; and a learning rate."""

    rank: int | None
    rate: float

    @property
    def name(self) -> str:
        """What it is called in the table."""
        return f"{'all' if self.rank is None else f'side paths, rank {self.rank}'}, {self.rate:g}"

    def mask(self, network: Network, output: Path, seed: int) -> tgdonnx.MaskReport:
        """Writes the masked model."""
        options = tgdonnx.MaskOptions()
        if self.rank is not None:
            options = replace(options, mode="adapter", adapter=tgdonnx.Adapter(self.rank, seed))
        return tgdonnx.mask(network.model, output, tgdonnx.AllLayers(), options)


WAYS = {
    "drawings": (Way(None, 3e-4), Way(8, 1e-3), Way(8, 3e-3), Way(4, 3e-3)),
    "pet": (Way(None, 3e-5), Way(8, 1e-3), Way(8, 3e-4)),
}


def rows(network: Network, way: Way, seed: int, work: Path) -> Iterator[str]:
    """Trains, and yields the cells of a row: what trains, how many numbers, and new / old for every blend and merged."""
    masked, artifacts, tuned = work / "masked.onnx", work / "artifacts", work / "tuned.onnx"
    report = way.mask(network, masked, seed)
    tgdonnx.build(masked, artifacts, tgdonnx.BuildOptions(form="thin"))
    options = tgdonnx.TrainOptions(steps=network.steps, batch=network.batch, learning_rate=way.rate, seed=seed)
    tgdonnx.train(artifacts, tgdonnx.RunData(network.data(seed), reading=network.reading), options)
    yield way.name
    yield f"{sum(path.weights for path in report.added):,} added" if report.added else "all"
    for blend in BLENDS:
        tgdonnx.export(artifacts, tuned, blend=blend, overwrite=True)
        proof = tgdonnx.verify(network.model, tuned)
        assert proof.ok, proof.violations
        yield _scores(network, tuned)
    if report.added:
        tgdonnx.export(artifacts, tuned, merge=True, overwrite=True)
        assert tgdonnx.verify(network.model, tuned).ok
        yield _scores(network, tuned)
    else:
        yield ""


def _scores(network: Network, model: Path) -> str:
    found = look(network, 0, model)
    return " / ".join(f"{found[place]['score']:.2f}" for place in ("new test", "old test"))


@click.command()
@click.option("--network", "name", type=click.Choice(list(WAYS)), required=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--workers", type=int, default=2, show_default=True, help="Processes that simulate PET scans.")
@click.option("--cache", type=click.Path(path_type=Path), default=HERE / "out" / "cache", help="Where made data goes.")
def main(name: str, seed: int, workers: int, cache: Path) -> None:
    """Runs all ways for one network, and prints a table row by row."""
    network = drawings_network(cache / "waifu2x-vgg7.onnx") if name == "drawings" else None
    network = network or pet_network(cache / "pet.npz", workers)
    titles = ("what trains", "numbers", *(f"{blend:g}" for blend in BLENDS), "merged")
    click.echo(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for way in WAYS[name]:
        with tempfile.TemporaryDirectory(prefix="side-paths-") as folder:
            click.echo(f"| {' | '.join(rows(network, way, seed, Path(folder)))} |")


if __name__ == "__main__":
    main()
