"""The names of the checkpoints of artifacts, where no engine is named."""

from __future__ import annotations

from tgdonnx.engines import DEFAULT_ENGINE, ENGINES

CHECKPOINT = ENGINES[DEFAULT_ENGINE].checkpoint
BEST = ENGINES[DEFAULT_ENGINE].best_checkpoint
