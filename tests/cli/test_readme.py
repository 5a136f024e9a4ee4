"""The commands in the README's table, on data of every form, word by word."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from PIL import Image

from tests.cli.commands import run
from tests.data import slices
from tests.support.models import save
from tests.support.training_models import text_model
from tgdonnx import verify

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
TABLE = README[README.index("## My data looks like this") : README.index("## Limits")]
COMMANDS = re.findall(r"^\| .* \| `(tgdonnx .*)` \|$", TABLE, re.M)
NETWORK = """g (float[N, 1, H, W] x) => (float[N, 1, H, W] y) {
    a = Conv<pads=[1, 1, 1, 1]>(x, v, c)
    r = Relu(a)
    y = Conv(r, w, b)
}"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes ``x``, and data for it in every form that the table names."""
    root = tmp_path_factory.mktemp("readme")
    weights = np.random.default_rng(3).normal(size=(1, 6, 1, 1)).astype(np.float32)
    weights[0, :2] *= 0.01
    save(text_model(NETWORK, v=(6, 1, 3, 3), c=(6,), w=weights, b=(1,)), root / "model.onnx")
    save(text_model(NETWORK, v=(6, 1, 3, 3), c=(6,), w=weights, b=(1,)), root / "tuned.onnx")
    rng = np.random.default_rng(0)
    arrays = {name: rng.uniform(0, 1, (4, 1, 10, 12)).astype(np.float32) for name in ("x", "target")}
    np.savez(root / "train.npz", **arrays)
    with h5py.File(root / "train.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    for number, (name, array) in enumerate(arrays.items(), 1):
        for form in ("folders", "npy", "nifti", "dicom"):
            (root / form / name).mkdir(parents=True)
        (root / "npy" / name).rmdir()
        np.save(root / "npy" / f"{name}.npy", array)
        for index, image in enumerate(array[:, 0]):
            Image.fromarray((image * 255).astype(np.uint8)).save(root / "folders" / name / f"{index}.png")
        volume = nibabel.Nifti1Image(array[:, 0].T.copy(), np.eye(4))
        nibabel.save(volume, root / "nifti" / name / "patient.nii.gz")
        nibabel.save(volume, root / f"half{number}.nii.gz")
        (root / "dicom" / name / "patient").mkdir()
        for index in range(3):
            pixels = rng.integers(0, 1000, 24, dtype=np.uint16).tobytes()
            slices.write(root / "dicom" / name / "patient" / f"{index}.dcm", index, PixelData=pixels)
    network = """g (float[N, 3, H, W] x) => (float[N, 2] y) {
        a = Conv<pads=[1, 1, 1, 1]>(x, v, c)
        m = GlobalAveragePool(a)
        f = Flatten(m)
        y = Gemm(f, w, b)
    }"""
    save(text_model(network, v=(6, 3, 3, 3), c=(6,), w=(6, 2), b=(2,)), root / "classifier.onnx")
    rows = ["path,label"]
    for name in ("cats", "dogs"):
        (root / "pets" / name).mkdir(parents=True)
        for index in range(4):
            Image.fromarray(rng.integers(0, 256, (240, 250, 3), np.uint8)).save(root / "pets" / name / f"{index}.png")
            rows.append(f"pets/{name}/{index}.png,{name}")
    (root / "pets.csv").write_text("\n".join(rows))
    segment = NETWORK.replace("[N, 1, H, W] y", "[N, 2, H, W] y")
    save(text_model(segment, v=(6, 1, 3, 3), c=(6,), w=(2, 6, 1, 1), b=(2,)), root / "segment.onnx")
    for index in range(2):
        for name, values in (
            ("imagesTr/a_%d_0000", arrays["x"]),
            ("labelsTr/a_%d", (arrays["x"] > 0.5).astype(np.uint8)),
        ):
            path = root / "nnunet" / f"{name % index}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values[:, 0].T.copy(), np.eye(4)), path)
    return root


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_table_does_what_it_says(
    command: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(command)[1:]
    output = words[words.index("-o") + 1]
    words[words.index("-o") + 1] = str(tmp_path / output)
    monkeypatch.chdir(place)
    result = run(*words)
    assert result.exit_code == 0, result.output
    if words[0] == "finetune":
        proof = verify(place / words[1], tmp_path / output)
        assert proof.ok
        assert proof.proof == "recomputed"
    elif output.endswith(".csv"):
        assert (tmp_path / output).read_text().count("\n") == 9
    else:
        assert nibabel.load(tmp_path / output).shape == nibabel.load(place / "half1.nii.gz").shape


def test_the_table_has_a_command_for_every_form() -> None:
    for form in ("PNG", "npz", "npy", "HDF5", "NIfTI", "DICOM", "no clean images", "per class", "CSV", "nnU-Net"):
        assert form in TABLE
    assert len(COMMANDS) == 12
