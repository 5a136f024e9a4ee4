"""What the mask-multiply nodes cost: the training step of an artifact against the same without them.

Both run in one process, in turn, on the same batch; the ratio of the medians is printed. It should be at most 1.05.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import onnx
from dncnn import dncnn, random_rows

from tgdonnx import Filters, build, mask
from tgdonnx.engines.onnxruntime_training.files import TRAINING_MODEL
from tgdonnx.finetuning.session import Session


def without_masks(training: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the training model with every accumulator reading the gradient itself."""
    masked = {node.output[0]: node.input[0] for node in training.graph.node if node.name.endswith("_grad.masked")}
    kept = [node for node in training.graph.node if not node.output or node.output[0] not in masked]
    for node in kept:
        node.input[:] = [masked.get(name, name) for name in node.input]
    del training.graph.node[:]
    training.graph.node.extend(kept)
    return training


@click.command()
@click.option("--rounds", default=30, show_default=True)
@click.option("--rho", default=0.3, show_default=True, help="Part of the filters of every layer that trains.")
def main(rounds: int, rho: float) -> None:
    """Measures step times of an 8-layer, 64-filter DnCNN on batches of 8 x 64 x 64."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 1, 64, 64)).astype(np.float32)
    with tempfile.TemporaryDirectory() as work:
        sessions = {}
        for kind, batch_norm in (("plain", False), ("batch norm", True)):
            path = Path(work, kind)
            path.mkdir()
            model = dncnn([64] * 7, batch_norm=batch_norm)
            onnx.save(model, path / "model.onnx")
            mask(path / "model.onnx", path / "masked.onnx", Filters(random_rows(model, rho)))
            for form in ("masked", "unmasked"):
                build(path / "masked.onnx", path / form)
            stripped = without_masks(onnx.load(path / "unmasked" / TRAINING_MODEL))
            onnx.save(stripped, path / "unmasked" / TRAINING_MODEL)
            sessions[kind] = {form: Session(path / form) for form in ("masked", "unmasked")}
        for kind, forms in sessions.items():
            times: dict[str, list[float]] = {form: [] for form in forms}
            for round_ in range(rounds + 3):
                for form, session in forms.items():
                    begin = time.perf_counter()
                    session.step([[x, x]], 1e-6)
                    if round_ >= 3:
                        times[form].append(time.perf_counter() - begin)
            medians = {form: statistics.median(values) for form, values in times.items()}
            ratio = medians["masked"] / medians["unmasked"]
            print(
                f"{kind:10}  " + "  ".join(f"{f} {1e3 * t:.1f} ms" for f, t in medians.items()) + f"  ratio {ratio:.3f}"
            )


if __name__ == "__main__":
    main()
