"""A recorded blend that cannot be, and weights that are not what it says, as far as a file shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tgdonnx
from tests.blending.runs import invented, record_in, reinitialised
from tests.support.forging import body_of, entry, nudged, refused
from tests.support.models import dncnn, save
from tgdonnx.selection import Filters

TRAINED = {"w1": [1, 4], "w3": [2]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the vendor's file, artifacts, and files at three blends."""
    work = tmp_path_factory.mktemp("blends")
    save(dncnn(0), work / "model.onnx")
    artifacts = invented(work / "model.onnx", work / "run", Filters(TRAINED))
    for blend in (0.0, 0.5, 1.0):
        tgdonnx.export(artifacts, work / f"{blend}.onnx", blend=blend)
    return work


def forged(run: Path, at: float, output: Path, *, data: bytes | None = None, **changes: Any) -> Path:
    """The file at a blend, with a few bytes or fields of its record changed; None takes a field away."""
    tuned, record = (run / f"{at}.onnx").read_bytes(), record_in(run / f"{at}.onnx")
    new = {key: value for key, value in {**record, **changes}.items() if value is not None}
    output.write_bytes((body_of(tuned, record) if data is None else data) + entry(1, new))
    return output


def test_what_is_not_forged_is_accepted(run: Path, tmp_path: Path) -> None:
    for blend in (0.0, 0.5, 1.0):
        assert refused(run / "model.onnx", forged(run, blend, tmp_path / "t.onnx")) == []


def test_a_blend_of_0_allows_no_other_value_than_the_vendors(run: Path, tmp_path: Path) -> None:
    body = body_of((run / "0.0.onnx").read_bytes(), record_in(run / "0.0.onnx"))
    moved = forged(run, 0.0, tmp_path / "t.onnx", data=nudged(body, "w1", 1))
    masked = run / "run" / "masked.onnx"
    for evidence in (None, masked):
        assert any("'w1' changed" in found for found in refused(run / "model.onnx", moved, evidence))
    # The same row may have any value at another blend.
    assert (
        refused(run / "model.onnx", forged(run, 0.0, tmp_path / "u.onnx", data=nudged(body, "w1", 1), blend=0.5)) == []
    )


def test_a_file_that_moved_is_not_blended_at_0(run: Path, tmp_path: Path) -> None:
    for evidence in (None, run / "run" / "masked.onnx"):
        assert refused(run / "model.onnx", forged(run, 0.5, tmp_path / "t.onnx", blend=0.0), evidence)


def test_frozen_weights_are_held_still_at_every_blend(run: Path, tmp_path: Path) -> None:
    for blend in (0.0, 0.5):
        body = body_of((run / f"{blend}.onnx").read_bytes(), record_in(run / f"{blend}.onnx"))
        found = refused(run / "model.onnx", forged(run, blend, tmp_path / "t.onnx", data=nudged(body, "w1", 2)))
        assert any("'w1'" in sentence for sentence in found)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 1},
        {"blend": None},
        {"blend": 1.0},
        {"blend": -0.5},
        {"blend": "0.5"},
        {"blend": [0.5]},
        {"format": 3},
        {"blends": 0.5},
    ],
)
def test_a_record_with_a_blend_that_export_does_not_write_is_none(
    changes: dict[str, Any], run: Path, tmp_path: Path
) -> None:
    (found,) = refused(run / "model.onnx", forged(run, 0.5, tmp_path / "t.onnx", **changes))
    assert "is no record that tgdonnx wrote" in found


def test_the_proof_says_whose_word_a_blend_is(run: Path) -> None:
    said = {
        blend: tgdonnx.verify(run / "model.onnx", run / f"{blend}.onnx").rounds[0].sentence for blend in (0.0, 0.5, 1.0)
    }
    assert said[0.0].endswith("; blended at 0")
    assert said[0.5].endswith("; that it is blended at 0.5 is the record's own word")
    assert "blend" not in said[1.0]


@pytest.mark.parametrize("name", ["batch norms", "integer weights", "stored otherwise"])
def test_a_regrown_file_that_hears_its_reinitialised_filters_is_not_blended_at_0(name: str, tmp_path: Path) -> None:
    vendor, artifacts = reinitialised(name, tmp_path)
    tgdonnx.export(artifacts, tmp_path / "0.5.onnx", blend=0.5)
    tgdonnx.export(artifacts, tmp_path / "0.0.onnx", blend=0.0)
    assert refused(vendor, forged(tmp_path, 0.5, tmp_path / "t.onnx")) == []
    for evidence in (None, artifacts / "masked.onnx"):
        found = refused(vendor, forged(tmp_path, 0.5, tmp_path / "t.onnx", blend=0.0), evidence)
        assert any("read reinitialised maps, but the record says that it is blended at 0" in each for each in found)
        assert refused(vendor, tmp_path / "0.0.onnx", evidence) == []
