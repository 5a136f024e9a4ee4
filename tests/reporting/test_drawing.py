from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DRAW = """
import sys
from pathlib import Path
from tgdonnx.reporting.drawing import load_matplotlib
matplotlib = load_matplotlib()
figure = matplotlib.figure.Figure()
figure.suptitle("x")
for suffix in ("png", "svg", "pdf"):
    figure.savefig(Path(sys.argv[1]) / f"figure.{suffix}")
import os
print(os.environ.get("MPLCONFIGDIR"))
"""


@pytest.mark.parametrize("configured", [None, "mine"])
def test_matplotlib_writes_nothing_but_figures(configured: str | None, tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("home", "tmp", "out")}
    for place in places.values():
        place.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(places["home"]), "TMPDIR": str(places["tmp"])}
    for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        environment.pop(name, None)
    if configured:
        environment["MPLCONFIGDIR"] = str(tmp_path / configured)
    command = [sys.executable, "-c", DRAW, str(places["out"])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(environment.get("MPLCONFIGDIR"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        [*places, *(f"figure.{s}" for s in ("pdf", "png", "svg"))]
    )
