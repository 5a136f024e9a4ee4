"""What a record says of reinitialised filters, held against the vendor's file."""

from __future__ import annotations

import base64
import copy
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.oracles.independent import tensors_of
from tests.regrowing.starts import ANY_CHANGE, data_for
from tests.support import models
from tests.support.forging import Record, body_of, entry, mask_edited, refused, selection_edited
from tgdonnx import Reinitialization
from tgdonnx.records import pack_mask


@pytest.fixture(scope="module", params=["he", "clone"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.onnx, tuned.onnx and artifacts, in a directory called after the kind of reinitialisation."""
    directory = tmp_path_factory.mktemp("rule") / request.param
    directory.mkdir()
    model = models.dncnn(0)
    report = tgdonnx.finetune(
        models.save(model, directory / "model.onnx"),
        data_for(model),
        directory / "tuned.onnx",
        tgdonnx.Phi(0.3),
        tgdonnx.TrainOptions(steps=1, batch=1),
        masking=tgdonnx.MaskOptions(
            mode="regrow", reinitialization=Reinitialization(request.param, tolerance=ANY_CHANGE)
        ),
        results=tgdonnx.Results(artifacts=directory / "artifacts"),
    )
    assert (report.verify.ok, report.verify.proof) == (True, "recomputed"), report.verify
    return directory


def record_of(made: Path) -> Record:
    return dict(json.loads(onnx.load(made / "tuned.onnx").metadata_props[-1].value))


def one_more(record: Record) -> None:
    rows = record["selection"]["rows"]["w1"]
    rows.append(next(m for m in range(8) if m not in rows))
    record["selection"]["reborn"] += 1


def one_fewer(record: Record) -> None:
    record["selection"]["rows"]["w1"].pop()
    record["selection"]["reborn"] -= 1


FORGED: dict[str, tuple[Callable[[Record], Any], str]] = {
    "a filter more": (one_more, "is said to be reinitialised, but phi 0.3, mode regrow, does not select it"),
    "a filter fewer": (one_fewer, "of 'w1' is said to train, but is frozen"),
    "another count": (
        lambda r: r["selection"].update(reborn=99),
        "99 filters are said to be reinitialised, but others are listed",
    ),
    "isolation": (lambda r: r["selection"].update(isolate=True), "of 'w2' is said to train, but is frozen"),
    "a filter of nothing": (lambda r: r["selection"].update(rows={"x": [0]}), "'x' is not the weight of a layer"),
    "a layer at the output": (
        lambda r: (r["selection"]["rows"].update(w4=[0]), r["selection"].update(reborn=r["selection"]["reborn"] + 1)),
        "is said to be reinitialised, but phi 0.3, mode regrow, does not select it",
    ),
    "mode paper": (lambda r: r["selection"].update(mode="paper"), "which is of mode regrow; the mode is paper"),
    "no seed": (lambda r: r["selection"].pop("seed"), r"Expected `int`, got `null` - at `$.seed`"),
    "another kind": (lambda r: r["selection"].update(rebirth="best"), r"at `$.rebirth`"),
    "nothing that was set": (lambda r: r.pop("set"), "the tensor 'bn2_mean' changed"),
    "protection": (lambda r: r["selection"].update(protect=True), "in mode regrow nothing is protected"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_record_of_other_reinitialized_filters_is_found(name: str, made: Path, tmp_path: Path) -> None:
    forge, told = FORGED[name]
    record = record_of(made)
    body = body_of((made / "tuned.onnx").read_bytes(), record)
    forge(record)
    (tmp_path / "tuned.onnx").write_bytes(body + entry(1, record))
    found = refused(made / "model.onnx", tmp_path / "tuned.onnx")
    assert any(told in violation for violation in found), found


def test_a_statistic_that_reinitialization_does_not_set_is_found_though_record_and_file_agree(
    made: Path, tmp_path: Path
) -> None:
    record = record_of(made)
    data = body_of((made / "tuned.onnx").read_bytes(), record)
    part = record["set"]["bn2_var"]
    values = np.frombuffer(zlib.decompress(base64.b64decode(part["values"])), "<f4") + np.float32(0.37)
    part["values"] = base64.b64encode(zlib.compress(values.tobytes())).decode()
    tensor = tensors_of(onnx.ModelProto.FromString(data))["bn2_var"]
    array = numpy_helper.to_array(tensor).copy()
    size, _, bits = part["mask"].partition(":")
    is_set = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(bits)), np.uint8), count=int(size)) == 1
    array[is_set] = values
    assert data.count(tensor.raw_data) == 1
    (tmp_path / "tuned.onnx").write_bytes(data.replace(tensor.raw_data, array.tobytes()) + entry(1, record))
    found = refused(made / "model.onnx", tmp_path / "tuned.onnx")
    assert found == ["round 1: values of 'bn2_var' are said to have been set that reinitialisation does not set"]
    part["mask"] = pack_mask(np.ones(int(size), np.float32))
    (tmp_path / "tuned.onnx").write_bytes(data + entry(1, record))
    assert "what was set in 'bn2_var' is damaged" in refused(made / "model.onnx", tmp_path / "tuned.onnx")[0]


def test_where_not_all_are_reinitialized_that_could_be_it_is_the_records_word(made: Path, tmp_path: Path) -> None:
    record = record_of(made)
    body = body_of((made / "tuned.onnx").read_bytes(), record)
    record["selection"]["phi"] = 0.9
    (tmp_path / "tuned.onnx").write_bytes(body + entry(1, record))
    report = tgdonnx.verify(made / "model.onnx", tmp_path / "tuned.onnx")
    assert (report.ok, report.proof) == (True, "recorded")
    assert "filters that could be reinitialised are, is the record's own word" in report.rounds[0].sentence


def test_a_forged_masked_model_of_reinitialized_filters_is_no_witness(made: Path, tmp_path: Path) -> None:
    record = record_of(made)
    (tmp_path / "tuned.onnx").write_bytes(body_of((made / "tuned.onnx").read_bytes(), record))
    whole = (made / "artifacts" / "masked.onnx").read_bytes()
    masked = tmp_path / "masked.onnx"
    masked.write_bytes(whole)
    assert refused(made / "model.onnx", tmp_path / "tuned.onnx", masked) == []
    edits: list[Callable[[], None]] = [
        lambda: mask_edited(masked, lambda m: m.reshape(-1).__setitem__(0, 1 - m.reshape(-1)[0]), "w2"),
        lambda: selection_edited(masked, phi=0.01),
        lambda: selection_edited(masked, isolate=True),
        lambda: selection_edited(masked, rows={}),
        lambda: selection_edited(masked, rows=copy.deepcopy({**record["selection"]["rows"], "w1": [0]})),
    ]
    for edit in edits:
        masked.write_bytes(whole)
        edit()
        assert refused(made / "model.onnx", tmp_path / "tuned.onnx", masked)
