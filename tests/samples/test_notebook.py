"""The notebook runs from its first cell to its last, and says what its text says."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "samples" / "notebook" / "tune.ipynb"


def test_the_notebook_is_kept_without_results() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]
    assert len(cells) > 10
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of what runs kernels
def test_the_notebook_runs_and_the_tuned_model_is_better_and_proved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where it writes
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    notebook = nbformat.read(NOTEBOOK, 4)
    files = sorted(path.name for path in NOTEBOOK.parent.iterdir())
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    ).execute()
    assert sorted(path.name for path in NOTEBOOK.parent.iterdir()) == files
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    results = [output.data for output in outputs if output.output_type == "execute_result"]
    shown = {data["text/plain"].partition("(")[0]: data.get("text/html", "") for data in results}
    reports = {"InspectReport", "CheckReport", "DataReport", "SweepReport", "FinetuneReport", "VerifyReport"}
    assert all(shown[name].startswith(f"<b>{name}</b><table>") for name in reports)
    before, after = (float(number) for number in printed.split("PSNR ")[1].split(" dB")[0].split(" -> "))
    assert after > before + 4
    assert results[-1]["text/plain"] == "(False, (\"frozen values of filter 0 of 'second_weight' changed\",))"
    assert "MissingArrayError - the data has no array 'target'" in printed
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert not [output for output in outputs if output.get("name") == "stderr"]
