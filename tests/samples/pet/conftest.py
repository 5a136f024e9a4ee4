"""The study's modules import each other by bare names, as scripts in one folder do: the folder is on the path for its tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "samples" / "pet"))
