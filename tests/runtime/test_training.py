"""What the training runtime writes and cannot is told with the file, and not with the runtime's words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tgdonnx.errors import OutputError
from tgdonnx.runtime import load_onnxruntime, writing


@pytest.mark.training
def test_a_file_that_the_runtime_cannot_write_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "checkpoint"
    message = rf"^{re.escape(str(path))} cannot be written: ONNX Runtime gave up after 0 bytes$"
    with pytest.raises(OutputError, match=message), writing(path):
        load_onnxruntime().capi._pybind_state.save_checkpoint([], [], str(path), False)


def test_a_temporary_file_goes_by_the_name_that_it_will_have(tmp_path: Path) -> None:
    (tmp_path / ".a.tmp").write_bytes(b"four")
    message = r"/b cannot be written: ONNX Runtime gave up after 4 bytes; [\d,]+ bytes are free$"
    with pytest.raises(OutputError, match=message), writing(tmp_path / ".a.tmp", tmp_path / "b"):
        raise RuntimeError("disk full")
