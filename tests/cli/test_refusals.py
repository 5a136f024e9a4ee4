"""What is refused has written nothing: the tree of files and directories is the same before and after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import tgdonnx
from tests.support import models
from tests.support.tuning import data_for, options_for
from tgdonnx.cli import main

SKIPPED = {".lock", ".lock.owner"}  # whoever looks at artifacts holds their lock


def tree(root: Path) -> dict[str, Optional[bytes]]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
        if path.name not in SKIPPED
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    onnx.save(models.dncnn(0), root / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    np.savez(root / "data.npz", **data_for(models.dncnn(0)))
    np.savez(root / "wrong.npz", x=np.zeros((4, 1, 5, 5), np.float32), target=np.zeros((4, 1), np.float32))
    np.savez(root / "nan.npz", **{name: array * np.nan for name, array in data_for(models.dncnn(0)).items()})
    (root / "text.onnx").write_text("no model")
    (root / "filters.json").write_text(json.dumps({"nobody": [0]}))
    np.save(root / "image.npy", np.zeros((1, 3, 8, 8), np.float32))
    tgdonnx.mask(root / "m.onnx", root / "masked.onnx", tgdonnx.Phi(0.35))
    tgdonnx.build(root / "masked.onnx", root / "art")
    tgdonnx.build(root / "masked.onnx", root / "fresh")
    tgdonnx.train(root / "art", root / "data.npz", options_for())
    return root


FINETUNE = "finetune m.onnx --all -o t.onnx --epochs 1"
REFUSED = [
    "mask text.onnx --all -o o.onnx",
    "mask m.onnx -o o.onnx",
    "mask m.onnx --phi 0 -o o.onnx",
    "mask m.onnx --filters filters.json -o o.onnx",
    "mask m.onnx --all -o nowhere/o.onnx",
    "mask masked.onnx --all -o o.onnx",
    "mask m.onnx --mode regrow --protect --all -o o.onnx",
    "build m.onnx -o new",
    "build masked.onnx -o new --loss nothing",
    "build masked.onnx -o new --output nothing",
    "build masked.onnx -o nowhere/new",
    "build masked.onnx -o art",
    "build masked.onnx -o art --overwrite --loss nothing",
    "train fresh --data none.npz --tensorboard events",
    "train fresh --data wrong.npz --tensorboard events",
    "train fresh --data nan.npz --tensorboard events",
    "train fresh --data data.npz --tensorboard events --epochs 0",
    "train fresh --data data.npz --tensorboard events --lr -1",
    "train fresh --data data.npz --tensorboard events --patience 2",
    "train fresh --data data.npz --tensorboard events --validation wrong.npz",
    "train fresh --data data.npz --tensorboard events --retain wrong.npz",
    "train fresh --data data.npz --tensorboard m.onnx/events",
    "train art --data data.npz --tensorboard events",
    "train fresh --data data.npz --resume --tensorboard events",
    "export nowhere -o o.onnx",
    "export art -o nowhere/o.onnx",
    "export art -o masked.onnx",
    "export fresh -o m.onnx --overwrite",
    "report nowhere -o o.html",
    "report art -o o.html --model text.onnx",
    "report art -o o.html --data wrong.npz",
    "apply m.onnx --data none.npy -o o.npy",
    "apply m.onnx --data wrong.npz -o o.npy",
    "apply m.onnx --data image.npy -o o.png",
    "sweep m.onnx --data wrong.npz --plot o.png",
    "sweep m.onnx --data data.npz --plot o.txt",
    "score text.onnx -o o.json",
    "score m.onnx -o o.txt",
    "compare m.onnx --data wrong.npz -o c --epochs 1 --validation data.npz",
    "compare m.onnx --data data.npz -o c --epochs 1 --select nothing --validation data.npz",
    "compare text.onnx --data data.npz -o c --epochs 1 --validation data.npz",
    *(
        f"{FINETUNE} {more}"
        for artifacts in (
            "",
            "--artifacts a --tensorboard events ",
            "--artifacts art --overwrite ",
            "--artifacts a --rounds 2 ",
        )
        for more in (
            f"{artifacts}--data none.npz",
            f"{artifacts}--data wrong.npz",
            f"{artifacts}--data nan.npz",
            f"{artifacts}--data data.npz --validation wrong.npz",
            f"{artifacts}--data data.npz --report nowhere/r.html",
            f"{artifacts}--data data.npz --loss ce",
            f"{artifacts}--data data.npz --apply none.npy",
            f"{artifacts}--data data.npz --lr 0",
        )
    ),
]


@pytest.mark.parametrize("line", REFUSED)
def test_a_refused_command_has_written_nothing(line: str, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    before = tree(world)
    result = CliRunner().invoke(main, line.split())
    assert result.exit_code == 2, result.output
    assert "fault of tgdonnx" not in result.output
    after = tree(world)
    assert sorted(after) == sorted(before)
    assert after == before
    assert not list(world.glob(".*"))
