"""What `verify` found, in words."""

from __future__ import annotations

from pathlib import Path

import tgdonnx
from tests.cli.commands import run
from tests.support import models
from tgdonnx.reporting.verdict import changes, headline, sentences
from tgdonnx.verifying.claims import RoundProof
from tgdonnx.verifying.comparison import Changed
from tgdonnx.verifying.verification import VerifyReport

MANY = tuple(Changed(f"w{i}", tuple(range(0, 1200, 2))) for i in range(40))
ROUNDS = (RoundProof(1, "recomputed", "computed"), RoundProof(2, "recorded", "said"))


def test_what_changed_is_short_and_whole_on_request() -> None:
    report = VerifyReport(True, MANY, (), "the record", "recorded", ROUNDS)
    short = list(changes(report, whole=False))
    assert len(short) == 9
    assert all(len(line) < 120 for line in short)
    assert short[0].startswith("w0: 600 filters, 0, 2, 4, ")
    assert short[0].endswith(", ... 1198")
    assert short[-1] == "and 19,200 filters of 32 more tensors; `whole=True` names all"
    whole = list(changes(report, whole=True))
    assert len(whole) == 40
    assert whole[39].count(",") == 600
    few = VerifyReport(True, (Changed("w", (1, 2, 3, 7)),), (), "the record", "recomputed")
    assert list(changes(few, whole=False)) == ["w: 4 filters, 1-3, 7"]


def test_names_that_a_vendor_chose_are_escaped() -> None:
    report = VerifyReport(True, (Changed("a\x1b[31m\nok  all is well", (0,)),), (), "the record", "recomputed")
    assert list(changes(report, whole=True)) == ["a\\x1b[31m\\nok  all is well: 1 filter, 0"]


def test_the_ok_line_says_what_is_proved_and_by_what() -> None:
    report = VerifyReport(True, MANY, (), "the records of 2 rounds", "recorded", ROUNDS)
    assert headline(report) == (
        "nothing differs but 24,000 rows of 40 tensors, by the records of 2 rounds; "
        "in part, the evidence's own word is taken"
    )
    assert sentences(report) == ("round 1: computed", "round 2: said")
    same = VerifyReport(True, (), (), "the files themselves", "identical")
    assert headline(same) == "the files are the same, byte for byte: nothing was retrained, and no record is needed"
    assert sentences(same) == (headline(same),)


def test_of_a_vendors_file_gated_with_itself_it_is_said_what_it_is(tmp_path: Path) -> None:
    vendor, both = models.save(models.dncnn(0), tmp_path / "vendor.onnx"), tmp_path / "both.onnx"
    tgdonnx.gate(vendor, vendor, both, input_name="g")
    report = tgdonnx.verify(vendor, both)
    told = "both networks in the file are the vendor's, byte for byte: nothing was retrained, and no record is needed"
    assert sentences(report) == (told, f"gated: {report.gate}")
    said = run("verify", vendor, both).stdout
    assert " ".join(said.split()) == f"ok {told} gated: {report.gate}"
