"""From raw files, as people have them, to a tuned model that is verified, by one command."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from tests.cli.commands import run
from tests.support.external_models import externalise
from tests.support.models import save
from tests.support.training_models import text_model
from tgdonnx import verify
from tgdonnx.applying import ApplyOptions
from tgdonnx.applying.application import prepare
from tgdonnx.applying.classifying import classification_of
from tgdonnx.data import DataOptions, open_dataset
from tgdonnx.files.model_file import load_model
from tgdonnx.finetuning.run_record import read_record
from tgdonnx.finetuning.session import Session
from tgdonnx.runtime import CPU

RNG = np.random.default_rng(0)


def finetuned(model: Path, data: Path, output: Path, *options: object) -> str:
    """Runs the one command, checks what it wrote by `verify`, and returns what it said besides its result."""
    result = run("finetune", model, "--data", data, "-o", output, "--percentile", 50, "--epochs", 2, *options)
    assert result.exit_code == 0, result.stderr
    proof = verify(model, output)
    assert proof.ok
    assert proof.proof == "recomputed"
    assert proof.changed
    return result.stderr


def test_pictures_of_different_sizes_and_a_denoiser_of_valid_convolutions_whose_batch_is_one(tmp_path: Path) -> None:
    network = """g (float[1, 1, H, W] x) => (float[1, 1, OH, OW] y) {
        a = Conv(x, v, c)
        r = Relu(a)
        b = Conv(r, w, d)
        s = Relu(b)
        y = Conv(s, u, e)
    }"""
    model = text_model(network, v=(6, 1, 3, 3), c=(6,), w=(4, 6, 5, 5), d=(4,), u=(1, 4, 1, 1), e=(1,))
    path = save(externalise(model, tmp_path), tmp_path / "model.onnx")
    for index, size in enumerate([(20, 24), (32, 18), (20, 24), (16, 16)]):
        clean = RNG.integers(0, 256, size, np.uint8)
        for name, values in (("noisy", clean // 2), ("clean", clean)):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(tmp_path / "data" / name / f"{index}.png")
    options = ("--scale", 255, "--crop-target", "--validation-split", 0.25)
    said = finetuned(path, tmp_path / "data", tmp_path / "tuned.onnx", *options, "--artifacts", tmp_path / "run")
    assert "the model fixes the batch size at 1: --batch 1 --accumulate 8" in said
    assert "clean: taken as the target" in said
    assert "target: 6x6 pixels at its border are left out" in said
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["data"]["options"]["crop_target"] == [6, 6]
    assert record["options"]["batch"] == 1
    refused = run("finetune", path, "--data", tmp_path / "data", "-o", tmp_path / "b.onnx", "--all", "--scale", 255)
    assert refused.exit_code == 2
    assert "--crop-target compares the centre of targets" in refused.stderr


def test_eeg_in_npy_without_an_axis_of_channels(tmp_path: Path) -> None:
    network = """g (float[N, 1, L] x) => (float[N, 1, L] y) {
        a = Conv<pads=[2, 2]>(x, v, c)
        r = Relu(a)
        y = Conv<pads=[1, 1]>(r, w, d)
    }"""
    path = save(text_model(network, v=(6, 1, 5), c=(6,), w=(1, 6, 3), d=(1,)), tmp_path / "model.onnx")
    (tmp_path / "data").mkdir()
    clean = np.cumsum(RNG.standard_normal((10, 64)), 1).astype(np.float32)
    np.save(tmp_path / "data" / "eeg.npy", clean + RNG.standard_normal(clean.shape).astype(np.float32))
    np.save(tmp_path / "data" / "clean.npy", clean)
    said = finetuned(path, tmp_path / "data", tmp_path / "tuned.onnx")
    assert "x: stored NW, taken to NCW" in said
    assert "target: stored NW, taken to NCW" in said
    assert "eeg: taken as the only array for the only input, 'x'" in said


def test_volumes_of_nifti_and_a_u_net(tmp_path: Path) -> None:
    network = """g (float[N, 1, D, H, W] x) => (float[N, 1, D, H, W] y) {
        a = Conv<pads=[1, 1, 1, 1, 1, 1]>(x, v, c)
        r = Relu(a)
        p = MaxPool<kernel_shape=[2, 2, 2], strides=[2, 2, 2]>(r)
        b = Conv<pads=[1, 1, 1, 1, 1, 1]>(p, w, d)
        s = Relu(b)
        t = ConvTranspose<strides=[2, 2, 2]>(s, u, e)
        j = Concat<axis=1>(r, t)
        y = Conv<pads=[1, 1, 1, 1, 1, 1]>(j, z, f)
    }"""
    weights = {"v": (4, 1, 3, 3, 3), "c": (4,), "w": (6, 4, 3, 3, 3), "d": (6,), "u": (6, 4, 2, 2, 2), "e": (4,)}
    path = save(text_model(network, **weights, z=(1, 8, 3, 3, 3), f=(1,)), tmp_path / "model.onnx")
    for index in range(2):
        clean = RNG.gamma(2, 1000, (8, 10, 12)).astype(np.float32)
        for name, values in (("low", RNG.poisson(clean / 10) * np.float32(10)), ("gt", clean)):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "data" / name / f"case{index}.nii.gz")
    said = finetuned(path, tmp_path / "data", tmp_path / "tuned.onnx", "--scale", "percentile", "--patch", 8)
    assert "x: stored DHW, taken to NCDHW" in said


CLASSIFIER = """g (float[N, 1, H, W] x) => (float[N, 3] y) {
    a = Conv<pads=[1, 1, 1, 1]>(x, v, c)
    r = Relu(a)
    m = GlobalAveragePool(r)
    f = Flatten(m)
    y = Gemm(f, w, b)
}"""


def classes_of_stripes(root: Path) -> Path:
    """Pictures of stripes along the rows, along the columns, and of neither."""
    for name, pattern in (("across", [[0], [200]]), ("down", [[0, 200]]), ("plain", [[100]])):
        (root / name).mkdir(parents=True)
        for index in range(8):
            values = np.resize(np.asarray(pattern), (12, 12)) if name != "across" else np.tile([[0], [200]], (6, 12))
            noise = RNG.integers(0, 40, (12, 12))
            Image.fromarray((values + noise).astype(np.uint8)).save(root / name / f"{index}.png")
    return root


def test_class_folders_and_a_classifier(tmp_path: Path) -> None:
    model = text_model(CLASSIFIER, v=(8, 1, 3, 3), c=(8,), w=(8, 3), b=(3,))
    path, data = save(model, tmp_path / "model.onnx"), classes_of_stripes(tmp_path / "data")
    options = ("--loss", "ce", "--scale", 255, "--validation-split", 0.25, "--learning-rate", 0.02, "--epochs", 8)
    output, page = tmp_path / "tuned.onnx", tmp_path / "page.html"
    said = finetuned(path, data, output, *options, "--artifacts", tmp_path / "run", "--report", page)
    assert "target: classes 0 across, 1 down, 2 plain (by name; --classes says the model's order" in said
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]["options"]["classes"] == [
        "across",
        "down",
        "plain",
    ]
    assert "classes across, down, plain" in page.read_text()
    tuned = onnx.load(output)
    (record,) = [entry.value for entry in tuned.metadata_props if entry.key == "tgdonnx.provenance.1"]
    assert json.loads(record)["classes"] == ["across", "down", "plain"]
    assert json.loads(record)["format"] == 4
    assert json.loads(record)["preparation"] == {"scaling": {"x": {"offset": 0.0, "divisor": 255.0, "how": 255.0}}}


def test_a_segmenter_with_ignored_labels_on_pictures(tmp_path: Path) -> None:
    network = """g (float[N, 3, H, W] image) => (float[N, 4, H, W] logits) {
        a = Conv<pads=[1, 1, 1, 1]>(image, v, c)
        r = Relu(a)
        logits = Conv(r, w, d)
    }"""
    path = save(text_model(network, v=(6, 3, 3, 3), c=(6,), w=(4, 6, 1, 1), d=(4,)), tmp_path / "model.onnx")
    for index in range(4):
        picture, labels = RNG.integers(0, 256, (12, 10, 3), np.uint8), RNG.integers(0, 4, (12, 10), np.uint8)
        labels[:, index : index + 3] = 255
        for name, values in (("image", picture), ("labels", labels)):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(tmp_path / "data" / name / f"{index}.png")
    options = ("--scale", "image=255", "--validation-split", 0.25, "--artifacts", tmp_path / "run")
    refused = run(
        *("finetune", path, "--data", tmp_path / "data", "-o", tmp_path / "b.onnx", "--all", "--loss", "ce", *options)
    )
    assert refused.exit_code == 2
    assert "needs targets in 0 to 3, found 0 to 255" in refused.stderr
    assert "108 of 360 values are outside" in refused.stderr
    assert "class indices of a model of 4 classes, to which none can be added" in refused.stderr
    assert "--loss 'ce(ignore=255)'" in refused.stderr
    assert not (tmp_path / "b.onnx").exists()
    options = ("--scale", "image=255", "--validation-split", 0.25, "--artifacts", tmp_path / "kept")
    said = finetuned(
        path, tmp_path / "data", tmp_path / "tuned.onnx", "--loss", "ce(ignore=255)+class_dice(ignore=255)", *options
    )
    assert "labels: taken as the target" in said
    assert "target: uint8 to int64, every value as it is" in said
    entries = [json.loads(line) for line in (tmp_path / "kept" / "log.jsonl").read_text().splitlines()]
    start, *_, last = [entry for entry in entries if entry["event"] == "epoch"]
    assert last["validation"] != start["validation"]
    assert set(last["metrics"]) == {"accuracy", "dice"}


def test_a_net_with_two_heads(tmp_path: Path) -> None:
    network = """g (float[N, 1, H, W] x) => (float[N, 4, H, W] boxes, float[N, 2, H, W] scores) {
        a = Conv<pads=[1, 1, 1, 1]>(x, v, c)
        r = Relu(a)
        boxes = Conv(r, w, d)
        logits = Conv(r, u, e)
        scores = Sigmoid(logits)
    }"""
    shapes = {"v": (6, 1, 3, 3), "c": (6,), "w": (4, 6, 1, 1), "d": (4,), "u": (2, 6, 1, 1), "e": (2,)}
    path = save(text_model(network, **shapes), tmp_path / "model.onnx")
    (tmp_path / "data").mkdir()
    x = RNG.normal(size=(8, 1, 6, 7)).astype(np.float32)
    arrays = {
        "x": x,
        "boxes": np.repeat(x, 4, 1),
        "scores": np.repeat(x > 0, 2, 1).astype(np.float32),
        "names": np.arange(8),
    }
    for name, array in arrays.items():
        np.save(tmp_path / "data" / f"{name}.npy", array)
    page, full, applied = tmp_path / "report.html", tmp_path / "full.npy", tmp_path / "applied.npy"
    np.save(full, x)
    options = ("--loss", "boxes: l1, scores: 2*bce", "--validation", tmp_path / "data", "--report", page)
    more = ("--apply", full, "--applied", applied, "--artifacts", tmp_path / "run")
    said = finetuned(path, tmp_path / "data", tmp_path / "tuned.onnx", *options, *more)
    assert "left out: 'names'; what is taken is x, boxes, scores" in said
    assert "boxes loss" in said
    assert "scores Dice" in said
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["artifacts"]["options"]["loss"] == "boxes: l1, scores: 2.0*bce"
    assert record["metrics"] == ["boxes psnr", "scores dice", "scores accuracy"]
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    last = [entry for entry in entries if entry["event"] == "epoch"][-1]
    assert last["metrics"]["boxes loss"] + last["metrics"]["scores loss"] == pytest.approx(last["validation"], rel=1e-6)
    assert "output boxes" in page.read_text()
    steps = [entry for entry in entries if entry["event"] == "step"]
    for entry in steps:
        assert entry["losses"]["boxes"] + entry["losses"]["scores"] == pytest.approx(entry["loss"], rel=1e-6)
    assert "Training loss of <bdi>scores</bdi>" in page.read_text()
    assert np.load(applied).shape == (8, 4, 6, 7)


def test_what_apply_feeds_a_classifier_is_bit_by_bit_what_trained(tmp_path: Path) -> None:
    model = text_model(CLASSIFIER, v=(8, 1, 3, 3), c=(8,), w=(8, 3), b=(3,))
    path, data, run_directory = save(model, tmp_path / "model.onnx"), tmp_path / "data", tmp_path / "run"
    for name in ("birds", "cats", "dogs"):
        (data / name).mkdir(parents=True)
        for index in range(3):
            size = (int(RNG.integers(16, 30)), int(RNG.integers(16, 30)), *((3,) if index else ()))
            Image.fromarray(RNG.integers(0, 256, size, np.uint8)).save(data / name / f"{index}.png")
    options = ("--colour", "grey", "--resize", 14, "--resample", "bicubic", "--crop", "12,10")
    scaling = ("--scale", 255, "--mean", 0.45, "--std", 0.2)
    finetuned(path, data, tmp_path / "tuned.onnx", "--loss", "ce", *options, *scaling, "--artifacts", run_directory)
    record = read_record(run_directory)
    assert record is not None
    trained = open_dataset(data, Session(run_directory).manifest.inputs, record.data.options)
    recorded = prepare(
        load_model(tmp_path / "tuned.onnx"), data, DataOptions(), None, ApplyOptions(), CPU, several=False
    )
    fed = [(name, feeds["x"]) for name, feeds in classification_of(recorded).fed()]
    assert [name for name, _ in fed] == [
        f"{name}/{index}.png" for name in ("birds", "cats", "dogs") for index in range(3)
    ]
    for (_, found), (expected, _) in zip(fed, trained.batches(1)):
        assert found.shape == (1, 1, 12, 10)
        assert found.tobytes() == expected.tobytes()

    result = run(
        "apply", tmp_path / "tuned.onnx", "--data", data, "-o", tmp_path / "r.csv", "--artifacts", run_directory
    )
    assert result.exit_code == 0, result.stderr
    header, *rows = list(csv.reader((tmp_path / "r.csv").read_text().splitlines()))
    assert header == ["file", "class", "probability"]
    session = onnxruntime.InferenceSession(str(tmp_path / "tuned.onnx"))
    for (name, label, probability), (other, values) in zip(rows, fed):
        (scores,) = session.run(None, {"x": values})[0].astype(np.float64)
        assert name == other
        assert label == ("birds", "cats", "dogs")[scores.argmax()]
        assert abs(float(probability) - np.exp(scores).max() / np.exp(scores).sum()) < 1e-5
    assert len(rows) == 9


def test_an_export_of_pytorchs_new_exporter_and_arrays_of_other_names(tmp_path: Path) -> None:
    # torch.onnx.export(model, (x,), dynamo=True, dynamic_shapes=...) of PyTorch 2.14: BatchNorm fused, metadata at every node.
    path = tmp_path / "model.onnx"
    path.write_bytes((Path(__file__).parents[1] / "golden" / "dynamo.onnx").read_bytes())
    clean = RNG.uniform(0, 1, (8, 16, 20)).astype(np.float32)
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "low_dose.npy", clean + RNG.normal(0, 0.1, clean.shape).astype(np.float32))
    np.save(tmp_path / "data" / "gt.npy", clean)
    said = finetuned(path, tmp_path / "data", tmp_path / "tuned.onnx", "--patch", 8)
    assert "low_dose: taken as the only array for the only input, 'noisy'" in said
    assert "noisy: stored NHW, taken to NCHW" in said
    before, after = onnx.load(path), onnx.load(tmp_path / "tuned.onnx")
    assert [node.SerializeToString() for node in after.graph.node] == [
        node.SerializeToString() for node in before.graph.node
    ]


def test_a_net_of_matrix_products_alone(tmp_path: Path) -> None:
    network = "g (float[N, 6] x) => (float[N, 3] y) { a = Gemm(x, v, c) r = Relu(a) p = MatMul(r, w) y = Add(p, d) }"
    path = save(text_model(network, v=(6, 8), c=(8,), w=(8, 3), d=(3,)), tmp_path / "model.onnx")
    x = RNG.normal(size=(20, 6)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, target=x[:, :3])
    finetuned(path, tmp_path / "data.npz", tmp_path / "tuned.onnx")
