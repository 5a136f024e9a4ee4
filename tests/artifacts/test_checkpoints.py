"""A checkpoint of onnxruntime-training that is not as it was written is refused, whatever changed in it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

import tgdonnx
from tests.finetuning.runs import HELD_OUT, OPTIONS, data
from tests.support import models
from tests.support.trainer import Array, StockTrainer, make_artifacts
from tgdonnx.errors import ArtifactsError
from tgdonnx.finetuning import RunData, train
from tgdonnx.finetuning.session import read_parameters

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = tmp_path_factory.mktemp("trained")
    directory = make_artifacts(models.dncnn(0), room, tgdonnx.Phi(0.3), engine="onnxruntime-training")
    train(directory, RunData(data(), validation=HELD_OUT), OPTIONS)
    return directory


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def equal(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint.best"])
def test_every_flipped_bit_is_found(name: str, copy: Path) -> None:
    content = (copy / name).read_bytes()
    chance = random.Random(0)
    chosen = [chance.randrange(8 * len(content)) for _ in range(60)]
    chosen += [8 * (len(content) - 48) + chance.randrange(8 * 48) for _ in range(20)]  # of the checksum itself
    for bit in chosen:
        (copy / name).write_bytes(flipped(content, bit))
        with pytest.raises(ArtifactsError, match="is damaged: its content is not what was written"):
            read_parameters(copy, name)


def test_what_reads_a_damaged_checkpoint_names_it_and_the_other_one(copy: Path, tmp_path: Path) -> None:
    content = (copy / "checkpoint.best").read_bytes()
    (copy / "checkpoint.best").write_bytes(flipped(content, 4 * len(content)))
    message = r"checkpoint.best is damaged: .*; export checkpoint \(`checkpoint='checkpoint'`\)"
    with pytest.raises(ArtifactsError, match=message):
        tgdonnx.export(copy, tmp_path / "tuned.onnx")
    with pytest.raises(ArtifactsError, match=message):
        tgdonnx.report(copy, tmp_path / "page.html")
    tgdonnx.export(copy, tmp_path / "tuned.onnx", checkpoint="checkpoint")
    content = (copy / "checkpoint").read_bytes()
    (copy / "checkpoint").write_bytes(flipped(content, 4 * len(content)))
    with pytest.raises(ArtifactsError, match=r"checkpoint is damaged: .*; .*build and train again"):
        train(copy, RunData(data(), validation=HELD_OUT), OPTIONS, resume=True)


def test_the_other_checkpoint_copied_over_a_damaged_one_goes_on(copy: Path) -> None:
    (copy / "checkpoint").write_bytes(b"")
    with pytest.raises(ArtifactsError, match="copy it over checkpoint to go on from there"):
        train(copy, RunData(data(), validation=HELD_OUT), OPTIONS, resume=True)
    shutil.copy(copy / "checkpoint.best", copy / "checkpoint")
    assert train(copy, RunData(data(), validation=HELD_OUT), OPTIONS, resume=True).steps == 9


def test_a_checkpoint_cut_off_anywhere_is_refused_or_holds_the_same_values(copy: Path) -> None:
    content, expected = (copy / "checkpoint").read_bytes(), read_parameters(copy, "checkpoint")
    chance, refused = random.Random(1), 0
    for size in [
        0,
        1,
        47,
        48,
        *(chance.randrange(len(content)) for _ in range(40)),
        *range(len(content) - 60, len(content), 7),
    ]:
        (copy / "checkpoint").write_bytes(content[:size])
        try:
            assert equal(read_parameters(copy, "checkpoint"), expected)
        except ArtifactsError:
            refused += 1
    assert refused >= 40


def test_a_checkpoint_of_the_runtime_s_own_interface_is_taken(copy: Path, tmp_path: Path) -> None:
    trainer = StockTrainer(copy)
    batch = data(4)
    trainer.step(0.05, batch["x"], batch["target"])
    type(trainer.state).save_checkpoint(trainer.state, str(copy / "checkpoint"))
    assert equal(read_parameters(copy, "checkpoint"), trainer.parameters)
    assert tgdonnx.export(copy, tmp_path / "tuned.onnx", checkpoint="checkpoint").changed


def test_a_directory_in_place_of_a_checkpoint_is_refused(copy: Path) -> None:
    (copy / "checkpoint.best").unlink()
    (copy / "checkpoint.best").mkdir()
    with pytest.raises(ArtifactsError, match=r"checkpoint.best is no file; export checkpoint"):
        read_parameters(copy, "checkpoint.best")
