"""What one `finetune` opens, reads and proves: every file once, and handed on."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import tgdonnx
from tests.support import models
from tests.support.tuning import PHI, data_for, options_for
from tgdonnx.artifacts import read_manifest
from tgdonnx.exporting import export_artifacts
from tgdonnx.files.model_file import ModelFile, load_model
from tgdonnx.layers import open_network
from tgdonnx.masked_model import read_masked
from tgdonnx.runtime import open_inference
from tgdonnx.verifying.comparison import compare
from tgdonnx.verifying.verification import verify_files


@contextmanager
def counted(*functions: Callable[..., Any]) -> Iterator[Counter[str]]:
    """Counts the calls of functions, by whatever name they are called, in all threads."""
    names: dict[CodeType, str] = {function.__code__: function.__name__ for function in functions}
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in names:
            # What was read already, load_model takes as it is.
            read = frame.f_code is not load_model.__code__ or not isinstance(frame.f_locals["source"], ModelFile)
            calls[names[frame.f_code]] += read

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]  # as its documentation says


def test_one_finetune_with_validation_and_a_report_opens_everything_once(tmp_path: Path) -> None:
    model = models.dncnn(0)
    base = models.save(model, tmp_path / "model.onnx")
    run_data = tgdonnx.RunData(data_for(model), validation=data_for(model, 3))
    functions = (open_network, read_masked, load_model, read_manifest, open_inference, export_artifacts, verify_files)
    with counted(*functions, compare) as calls:
        report = tgdonnx.finetune(
            base,
            run_data,
            tmp_path / "tuned.onnx",
            tgdonnx.Phi(PHI),
            options_for(),
            results=tgdonnx.Results(report=tmp_path / "page.html"),
        )
    assert report.verify.ok
    assert (tmp_path / "page.html").is_file()
    assert calls.pop("load_model") <= 7  # the vendor's, the masked and the tuned model, and what the engine runs
    assert calls == {
        "open_network": 2,  # the vendor's, and what trains, out of the masked model
        "read_masked": 1,
        "read_manifest": 1,
        "open_inference": 3,  # the vendor's, the tuned and the eval model
        "export_artifacts": 2,  # rehearsed, and done
        "verify_files": 1,
        "compare": 3,  # in the two exports, and in the proof of the file that was read back
    }
