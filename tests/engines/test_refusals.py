"""What neither engine differentiates is refused by name, with why, and what to do; nothing is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.support import models
from tests.support.training_models import text_model
from tgdonnx.engines import EngineName
from tgdonnx.errors import UntrainableError

LOOP = """g (float[N, 3, 7, 8] x) => (float[N, 2, 6, 7] y) {
    a = Conv(x, v)
    [odd] b = Loop<body = body (int64 i, bool c, float[N, 4, 6, 7] s) => (bool d, float[N, 4, 6, 7] t) {
        d = Identity(c) t = Tanh(s) }>(three, yes, a)
    y = Conv(b, w)
}"""
SCAN = """g (float[5, 3, 7, 8] x) => (float[5, 2, 6, 7] y) {
    a = Conv(x, v)
    [odd] l, b = Scan<num_scan_inputs = 1, body = body (float[4, 6, 7] s, float[4, 6, 7] e)
        => (float[4, 6, 7] t, float[4, 6, 7] o) { t = Add(s, e) o = Tanh(t) }>(start, a)
    y = Conv(b, w)
}"""


def recurrent(op_type: str, outputs: str, gates: int, length: str) -> onnx.ModelProto:
    return text_model(
        f"""g (float[N, 4, {length}] x) => (float[N, 2, {length}] y) {{
            a = Conv(x, v)
            t = Transpose<perm = [2, 0, 1]>(a)
            [odd] {outputs} = {op_type}<hidden_size = 3>(t, wx, wh)
            q = Squeeze(states, one)
            u = Transpose<perm = [1, 2, 0]>(q)
            y = Conv(u, w)
        }}""",
        v=(4, 4, 1),
        w=(2, 3, 1),
        wx=(1, 3 * gates, 4),
        wh=(1, 3 * gates, 3),
        one=np.array([1]),
    )


CASES = {
    "Loop": text_model(LOOP, v=(4, 3, 2, 2), w=(2, 4, 1, 1), three=np.array(3), yes=np.array(True)),
    "Scan": text_model(SCAN, v=(4, 3, 2, 2), w=(2, 4, 1, 1), start=(4, 6, 7)),
    "RNN": recurrent("RNN", "states, last", 1, "6"),
    "LSTM": recurrent("LSTM", "states, last, cell", 4, "L"),
    "GRU": recurrent("GRU", "states, last", 3, "L"),
}
REASONS = dict.fromkeys(["LSTM", "GRU"], "runs over a sequence whose length is open")


@pytest.mark.parametrize("engine", ["onnxruntime", "onnxruntime-training"])
@pytest.mark.parametrize("op_type", CASES)
def test_a_loop_between_filters_and_the_output_is_refused_by_name(
    op_type: str, engine: EngineName, tmp_path: Path
) -> None:
    path, masked = models.save(CASES[op_type], tmp_path / "model.onnx"), tmp_path / "masked.onnx"
    tgdonnx.mask(path, masked, tgdonnx.AllLayers())
    reason = REASONS.get(op_type, "has no gradient")
    (finding,) = (each for each in tgdonnx.check(masked, engine=engine).findings if each.node == "odd")
    assert (finding.severity, finding.op_type) == ("error", op_type)
    assert reason in finding.message
    assert "`last`" in finding.remedy
    with pytest.raises(UntrainableError, match=rf"'odd' \({op_type}\).*{reason}.*`last`"):
        tgdonnx.build(masked, tmp_path / "artifacts", tgdonnx.BuildOptions(engine=engine))
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize("op_type", CASES)
def test_filters_behind_it_train(op_type: str, tmp_path: Path) -> None:
    path, masked = models.save(CASES[op_type], tmp_path / "model.onnx"), tmp_path / "masked.onnx"
    tgdonnx.mask(path, masked, tgdonnx.LastLayers(1))
    assert tgdonnx.check(masked).trainable
    assert tgdonnx.build(masked, tmp_path / "artifacts").trained == ("w",)
