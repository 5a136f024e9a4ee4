"""Of several rounds each is proved, and what cannot be computed again is said to be the record's word."""

from __future__ import annotations

from pathlib import Path

import pytest

import tgdonnx
from tests.support import models
from tests.support.forging import Record, body_of, entry, refused, tune_by_hand
from tests.verifying.cases import PHI
from tgdonnx.selection import Mode


def rounds(directory: Path, *choices: tuple[tgdonnx.Strategy, Mode, bool]) -> list[Record]:
    """model.onnx, and round1.onnx and so on, each tuned from the one before."""
    models.save(models.dncnn(0), directory / "round0.onnx")
    records = []
    for number, (strategy, mode, protect) in enumerate(choices, 1):
        masked = directory / f"masked{number}.onnx"
        tgdonnx.mask(
            directory / f"round{number - 1}.onnx", masked, strategy, tgdonnx.MaskOptions(mode=mode, protect=protect)
        )
        records.append(tune_by_hand(masked, directory / f"round{number}.onnx", number))
    return records


@pytest.mark.parametrize("mode", ["paper", "readers"])
@pytest.mark.parametrize("protect", [False, True])
def test_of_a_second_round_what_can_be_computed_is_and_the_rest_is_said_to_be_the_records_word(
    protect: bool, mode: Mode, tmp_path: Path
) -> None:
    first, later = (
        (tgdonnx.Phi(PHI), mode, False),
        [(tgdonnx.Phi(0.9), mode, protect), (tgdonnx.LastLayers(2), mode, protect)],
    )
    for strategy, forms in zip(later, (["recomputed", "recorded"], ["recomputed", "recomputed"])):
        work = tmp_path / str(forms[-1])
        work.mkdir()
        _, second = rounds(work, first, strategy)
        report = tgdonnx.verify(work / "round0.onnx", work / "round2.onnx")
        assert report.ok, report.violations
        assert ([each.form for each in report.rounds], report.proof) == (forms, forms[-1])
        assert tgdonnx.verify(work / "round1.onnx", work / "round2.onnx").proof == "recomputed"
        data = (work / "round2.onnx").read_bytes()
        body = body_of(data, second, 2)
        name = "w4"
        rows = second["trained"].get(name, {"retrain": []})["retrain"]
        forged = {"retrain": rows[1:], "kernels": None} if rows else {"retrain": [0], "kernels": None}
        second["trained"]["bn2_mean"] = {"retrain": [0], "kernels": None}
        (work / "round2.onnx").write_bytes(body + entry(2, second))
        assert any(
            "'bn2_mean' is said to have trained" in each for each in refused(work / "round0.onnx", work / "round2.onnx")
        )
        del second["trained"]["bn2_mean"]
        if forms == ["recomputed", "recomputed"]:
            second["trained"][name] = forged
            (work / "round2.onnx").write_bytes(body + entry(2, second))
            assert refused(work / "round0.onnx", work / "round2.onnx")


def test_a_bias_that_trains_without_its_filter_is_found_also_where_the_filters_are_the_records_word(
    tmp_path: Path,
) -> None:
    _, second = rounds(tmp_path, (tgdonnx.Phi(PHI), "paper", False), (tgdonnx.Phi(0.5), "paper", False))
    body = body_of((tmp_path / "round2.onnx").read_bytes(), second, 2)
    rows = second["trained"]["bn2_scale"]["retrain"]
    second["trained"]["bn2_scale"]["retrain"] = sorted({*rows, next(m for m in range(99) if m not in rows)})
    (tmp_path / "round2.onnx").write_bytes(body + entry(2, second))
    found = refused(tmp_path / "round0.onnx", tmp_path / "round2.onnx")
    assert any("round 2" in each and "'bn2_scale' is said to train" in each for each in found), found


def test_a_later_round_that_trains_what_it_says_it_freezes_is_found_where_its_filters_are_its_own_word(
    tmp_path: Path,
) -> None:
    _, second = rounds(tmp_path, (tgdonnx.Phi(PHI), "paper", False), (tgdonnx.Phi(0.5), "paper", False))
    assert tgdonnx.verify(tmp_path / "round0.onnx", tmp_path / "round2.onnx").proof == "recorded"
    body = body_of((tmp_path / "round2.onnx").read_bytes(), second, 2)
    assert second["trained"]["w2"]["retrain"]
    second["selection"]["freeze"] = ["conv2"]
    (tmp_path / "round2.onnx").write_bytes(body + entry(2, second))
    found = refused(tmp_path / "round0.onnx", tmp_path / "round2.onnx")
    assert any("round 2" in each and "'w2' is said to train, but is frozen" in each for each in found), found
