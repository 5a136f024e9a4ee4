"""The record of a tuned model: true to its files, and valid by the schema of CycloneDX."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

import tgdonnx
from tests.reporting.pages import sha256
from tests.reporting.runs import PHI, pairs, trained
from tgdonnx.errors import OutputError, RuntimeMissingError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    trained(path, card=path / "card.json")
    return path


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text("utf-8"))


def rmse(folder: Path, name: str) -> float:
    data = pairs(seed=1)
    (output,) = ReferenceEvaluator(str(folder / f"{name}.onnx")).run(None, {"x": data["x"]})
    return float(np.sqrt(np.mean((output.astype(np.float64) - data["target"]) ** 2, axis=(1, 2, 3))).mean())


def test_a_card_has_hashes_selection_data_measures_and_proof(folder: Path) -> None:
    card = read(folder, "card.json")
    assert card["format"] == 1
    assert (card["vendor"]["name"], card["vendor"]["sha256"]) == ("vendor.onnx", sha256(folder / "vendor.onnx"))
    assert (card["tuned"]["name"], card["tuned"]["sha256"]) == ("tuned.onnx", sha256(folder / "tuned.onnx"))
    assert (card["selection"]["strategy"], card["selection"]["phi"]) == ("phi", PHI)
    record = read(folder / "artifacts", "run.json")
    assert [(each["role"], each["fingerprint"]) for each in card["data"]] == [
        ("training data", record["data"]["identity"]),
        ("validation data", record["validation"]["identity"]),
    ]
    assert [each["told"] for each in card["data"]] == [record["data"]["remarks"], record["validation"]["remarks"]]
    measured = {each["metric"]: each for each in card["measured"]}
    assert list(measured) == ["psnr", "rmse"]
    for name in ("vendor", "tuned"):
        assert measured["rmse"][name] == pytest.approx(rmse(folder, name), rel=1e-5)
    assert (measured["rmse"]["data"], measured["rmse"]["cases"]) == ("validation data", 6)
    verified = tgdonnx.verify(folder / "vendor.onnx", folder / "tuned.onnx")
    assert card["proof"]["changed"] == {entry.name: len(entry.filters) for entry in verified.changed}
    assert card["proof"]["told"] == list(verified.told)
    assert (card["proof"]["ok"], card["proof"]["form"], card["acceptance"]) == (True, "recomputed", None)


def test_a_cyclonedx_document_is_valid_by_the_schema_of_1_6_and_says_the_same(folder: Path) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason="the extra bom is not installed")
    schema = importlib.import_module("cyclonedx.schema").SchemaVersion.V1_6
    options = {"model": folder / "vendor.onnx", "tuned": folder / "tuned.onnx", "data": pairs(seed=1)}
    tgdonnx.report(folder / "artifacts", folder / "page.html", card=folder / "card.cdx.json", **options)
    text = (folder / "card.cdx.json").read_text("utf-8")
    assert validation.JsonStrictValidator(schema).validate_str(text) is None
    document = json.loads(text)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    subject = document["metadata"]["component"]
    assert (subject["type"], subject["name"]) == ("machine-learning-model", "tuned.onnx")
    assert subject["hashes"] == [{"alg": "SHA-256", "content": sha256(folder / "tuned.onnx")}]
    (ancestor,) = subject["pedigree"]["ancestors"]
    assert ancestor["hashes"] == [{"alg": "SHA-256", "content": sha256(folder / "vendor.onnx")}]
    metrics = subject["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    found = {(each["type"], each["slice"].rpartition(", ")[2]): float(each["value"]) for each in metrics}
    for name, file in (("vendor's model", "vendor"), ("tuned model", "tuned")):
        assert found["rmse", name] == pytest.approx(rmse(folder, file), rel=1e-5)
    card = read(folder, "card.json")
    properties = {each["name"]: each["value"] for each in subject["properties"]}
    assert json.loads(properties["tgdonnx:selection"]) == card["selection"]
    assert (properties["tgdonnx:proof:ok"], properties["tgdonnx:proof:form"]) == ("true", "recomputed")
    data = {each["bom-ref"]: each for each in document["components"]}
    assert [data[each["ref"]]["name"] for each in subject["modelCard"]["modelParameters"]["datasets"]] == [
        "training data",
        "validation data",
    ]
    fingerprints = {p["value"] for each in data.values() for p in each["properties"] if "fingerprint" in p["name"]}
    assert fingerprints == {each["fingerprint"] for each in card["data"]}


def test_what_verify_and_the_run_told_is_in_the_card(tmp_path: Path) -> None:
    reading = tgdonnx.DataOptions(scale=2.0)
    trained(tmp_path, data={"reading": reading}, card=tmp_path / "card.json")
    card = read(tmp_path, "card.json")
    assert card["proof"]["told"] == list(tgdonnx.verify(tmp_path / "vendor.onnx", tmp_path / "tuned.onnx").told)
    assert card["proof"]["told"][0].startswith("data is prepared as 'x' less 0, by 2")
    assert any("v / 2" in told for told in card["data"][0]["told"])
    tgdonnx.report(
        tmp_path / "artifacts", tmp_path / "page.html", tuned=tmp_path / "tuned.onnx", card=tmp_path / "card.cdx.json"
    )
    subject = read(tmp_path, "card.cdx.json")["metadata"]["component"]
    told = [each["value"] for each in subject["properties"] if each["name"] == "tgdonnx:proof:told"]
    assert told == card["proof"]["told"]


def test_the_place_of_a_card_is_looked_at_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text("mine")
    with pytest.raises(OutputError, match=r"card\.json exists"):
        trained(tmp_path, card=tmp_path / "card.json")
    assert (tmp_path / "card.json").read_text() == "mine"
    assert not (tmp_path / "tuned.onnx").exists()


def test_a_card_is_json_by_its_name_too(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"card\.html: .* expected a name that ends in \.json or \.cdx\.json"):
        tgdonnx.report(folder / "artifacts", tmp_path / "page.html", card=tmp_path / "card.html")
    assert not list(tmp_path.iterdir())


def test_without_the_library_a_cyclonedx_document_is_refused_with_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cyclonedx.model", None)
    with pytest.raises(RuntimeMissingError, match=r"pip install 'tgdonnx\[bom\]'"):
        tgdonnx.report(folder / "artifacts", tmp_path / "page.html", card=tmp_path / "card.cdx.json")
    assert not list(tmp_path.iterdir())
