"""Four simulated hospitals tune one network: each alone, together with Flower, and with all data in one place.

    python samples/federated/run.py -o out                     # Flower's apps in this process
    python samples/federated/run.py -o out --with simulation   # by a SuperLink that simulates the SuperNodes
    python samples/federated/run.py -o out --with superlink    # by a SuperLink and four SuperNodes, with TLS

writes ``results.json``, ``table.md`` and ``gains.png``, and keeps what it needs for that; see the README beside this file.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
from certificates import make_certificates
from figure import draw, table
from flower import federation
from hospitals import HOSPITALS, PET, VENDOR, simulate

import tgdonnx
from tgdonnx.federated.here import federate_here
from tgdonnx.federated.history import read_history
from tgdonnx.federated.plan import read_plan

MODEL = PET / "networks" / "v1-net.onnx"
ROUNDS, STEPS, BATCH, PATCH, RATE = 5, 6, 4, 24, 1e-3
READING = {"patch": (PATCH, PATCH), "patches_per_epoch": STEPS * BATCH, "augment": ("flips",)}
PEAK = 5.0  # uptake, of PSNR
APP = Path(__file__).parent / "app"
WAYS = ("process", "simulation", "superlink")


def prepare(folder: Path, workers: int) -> Path:
    """Simulates the hospitals, builds the artifacts, and gives every hospital its file; returns the artifacts."""
    if not (folder / "data" / VENDOR.name / "test.npz").is_file():
        simulate(folder / "data", workers)
    built = folder / "artifacts"
    if not built.is_dir():
        paths = tgdonnx.MaskOptions(mode="adapter")  # side paths of rank 8 beside all layers: few numbers travel
        tgdonnx.mask(MODEL, folder / "masked.onnx", tgdonnx.AllLayers(), paths, overwrite=True)
        tgdonnx.build(folder / "masked.onnx", built, tgdonnx.BuildOptions(form="thin"))
    for hospital in HOSPITALS:
        place = folder / "sites" / f"{hospital.name}.toml"
        place.parent.mkdir(exist_ok=True)
        data = f"../data/{hospital.name}"
        lines = [
            f'name = "{hospital.name}"',
            'artifacts = "../artifacts"',
            f'data = "{data}/train.npz"',
            f'validation = "{data}/validation.npz"',
            f'retain = "../data/{VENDOR.name}/validation.npz"',
            f'runs = "runs/{hospital.name}"',
            "",
            "[reading]",
            f"patch = [{PATCH}, {PATCH}]",
            f"patches_per_epoch = {STEPS * BATCH}",
            'augment = ["flips"]',
        ]
        place.write_text("\n".join(lines) + "\n", "utf-8")
    return built


def tune(built: Path, folder: Path, name: str, data: Any, batch: int) -> Path:
    """Tunes on the data of one place, as many steps as all rounds have; returns the tuned file."""
    output = folder / f"{name}.onnx"
    if not output.is_file():
        directory = folder / f"run-{name}"
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(built, directory)
        patches = STEPS * batch
        reading = tgdonnx.DataOptions(**{**READING, "patches_per_epoch": patches})
        options = tgdonnx.TrainOptions(steps=ROUNDS * STEPS, batch=batch, learning_rate=RATE)
        tgdonnx.train(directory, tgdonnx.RunData(data, reading=reading), options)
        tgdonnx.export(directory, output)
    return output


def federate(built: Path, folder: Path, way: str) -> Path:
    """Tunes at all hospitals together; returns the tuned file."""
    output, server = folder / "federated.onnx", folder / "server"
    if output.is_file():
        return output
    for old in (server, folder / "sites" / "runs"):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(built, server)
    config = {
        **{"artifacts": str(server.resolve()), "output": str(output.resolve()), "rounds": ROUNDS, "steps": STEPS},
        **{"batch": BATCH, "learning-rate": RATE, "metrics": "psnr", "sites": len(HOSPITALS)},
    }
    sites = [(folder / "sites" / f"{hospital.name}.toml").resolve() for hospital in HOSPITALS]
    if way == "process":
        federate_here(read_plan(config), sites)
        return output
    simulated = len(sites) if way == "simulation" else 0
    certificates = None if simulated else make_certificates(folder.resolve() / "certificates")
    with federation(folder.resolve() / "flower", certificates, simulated=simulated) as flower:
        if simulated:
            config["site-files"] = str((folder / "sites").resolve())
        else:
            for hospital, site in zip(HOSPITALS, sites):
                flower.add_site(hospital.name, site)
        told = flower.run(APP, config, seconds=3600)
    print(told)
    if not output.is_file():
        raise SystemExit(f"the run failed; the logs are in {folder / 'flower'}")
    return output


def scores(model: Path, folder: Path) -> dict[str, float]:
    """Returns the mean PSNR of a network at every hospital, in dB, on a patient that nothing was trained or chosen on."""
    session, found = onnxruntime.InferenceSession(str(model)), {}
    for hospital in (*HOSPITALS, VENDOR):
        with np.load(folder / "data" / hospital.name / "test.npz") as arrays:
            (output,) = session.run(None, {"image": arrays["image"]})
            errors = np.mean((output[:, 1] - arrays["target"][:, 1]) ** 2, axis=(1, 2), dtype=np.float64)
        found[hospital.name] = float(np.mean(10 * np.log10(PEAK**2 / errors)))
    return found


@click.command()
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), required=True, help="Where everything goes.")
@click.option("--with", "way", type=click.Choice(WAYS), default="process", help="How Flower runs.")
@click.option("--workers", default=2, help="Processes that simulate patients.")
def main(folder: Path, way: str, workers: int) -> None:
    """Tunes in all ways, and compares."""
    folder.mkdir(parents=True, exist_ok=True)
    built = prepare(folder, workers)
    networks = {"vendor": MODEL, "federated": federate(built, folder, way)}
    sets = {h.name: dict(np.load(folder / "data" / h.name / "train.npz")) for h in HOSPITALS}
    together = {name: np.concatenate([each[name] for each in sets.values()]) for name in ("image", "target")}
    networks["centralised"] = tune(built, folder, "centralised", together, BATCH * len(HOSPITALS))
    for name, arrays in sets.items():
        networks[f"{name} alone"] = tune(built, folder, name, arrays, BATCH)
    verified = {name: tgdonnx.verify(MODEL, path).ok for name, path in networks.items()}
    assert all(verified.values()), verified
    history = read_history(folder / "server")
    results = {
        "scores": {name: scores(path, folder) for name, path in networks.items()},
        "travelling_bytes": history.travelling_bytes,
        "whole_bytes": history.whole_bytes,
        "samples": {name: len(arrays["image"]) for name, arrays in sets.items()},
    }
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    (folder / "table.md").write_text(table(results["scores"]), "utf-8")
    draw(results["scores"], folder / "gains.png")
    print(table(results["scores"]))


if __name__ == "__main__":
    main()
