"""Regrown models through all stages: the masked file, training, the proof, rounds, comparisons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.regrowing.starts import ANY_CHANGE, activations, data_for
from tests.regrowing.topologies import TOPOLOGIES
from tests.support.models import dncnn, random_feeds, save
from tests.sweeping.oracle import outputs
from tgdonnx import Reinitialization
from tgdonnx.masked_model import read_masked
from tgdonnx.selection import Filters

V1_NET = Path(__file__).parents[2] / "samples/pet/networks/v1-net.onnx"


@pytest.mark.parametrize("kind", ["he", "clone", "calibrated"])
@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_topology_is_tuned_and_proved(name: str, isolate: bool, kind: str, tmp_path: Path) -> None:
    topology = TOPOLOGIES[name]
    model = topology.build()
    path = save(model, tmp_path / "model.onnx")
    images = random_feeds(model, 7) if kind == "calibrated" else None
    report = tgdonnx.finetune(
        path,
        data_for(model),
        tmp_path / "tuned.onnx",
        Filters(topology.filters),
        tgdonnx.TrainOptions(steps=3, batch=1, learning_rate=1e-2),
        masking=tgdonnx.MaskOptions(
            mode="regrow", reinitialization=Reinitialization(kind, images, isolate=isolate, tolerance=ANY_CHANGE)
        ),
        results=tgdonnx.Results(artifacts=tmp_path / "artifacts"),
    )
    assert report.verify.ok
    assert report.mask.selection["reborn"] == sum(map(len, topology.filters.values()))
    masked = tmp_path / "artifacts" / "masked.onnx"
    assert tgdonnx.verify(path, tmp_path / "tuned.onnx", masked=masked).ok
    assert read_masked(masked).base.data == path.read_bytes()
    start = onnx.load(masked)
    feeds = random_feeds(model)
    (before,), (after,) = outputs(start, feeds), outputs(onnx.load(tmp_path / "tuned.onnx"), feeds)
    assert np.abs(before - after).max() > 1e-4


def test_isolated_training_keeps_every_map_that_stays_bit_for_bit(tmp_path: Path) -> None:
    topology = TOPOLOGIES["batch norms"]
    model = topology.build()
    path = save(model, tmp_path / "model.onnx")
    options = tgdonnx.TrainOptions(steps=20, batch=1, learning_rate=1e-2)
    tgdonnx.finetune(
        path,
        data_for(model),
        tmp_path / "tuned.onnx",
        Filters(topology.filters),
        options,
        masking=tgdonnx.MaskOptions(
            mode="regrow", reinitialization=Reinitialization(isolate=True, tolerance=ANY_CHANGE)
        ),
        results=tgdonnx.Results(artifacts=tmp_path / "artifacts"),
    )
    start, tuned = onnx.load(tmp_path / "artifacts" / "masked.onnx"), onnx.load(tmp_path / "tuned.onnx")
    feeds = random_feeds(model, 9)
    before, after = (activations(m, ["ar", "br"], feeds) for m in (start, tuned))
    for value, reinitialized in (("ar", [1, 4]), ("br", [0, 3])):
        for c in range(before[value].shape[1]):
            assert np.array_equal(before[value][:, c], after[value][:, c]) == (c not in reinitialized), (
                f"map {c} of {value}"
            )


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    path = save(dncnn(), tmp_path / "model.onnx")
    files = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        output = tmp_path / f"{name}.onnx"
        reinitialization = Reinitialization(tolerance=ANY_CHANGE, seed=seed)
        tgdonnx.mask(
            path, output, tgdonnx.Phi(0.3), tgdonnx.MaskOptions(mode="regrow", reinitialization=reinitialization)
        )
        files.append(output.read_bytes())
    assert files[0] == files[1] != files[2]


def test_a_second_round_regrows_the_tuned_model(tmp_path: Path) -> None:
    model = dncnn()
    path = save(model, tmp_path / "model.onnx")
    report = tgdonnx.finetune(
        path,
        data_for(model),
        tmp_path / "tuned.onnx",
        tgdonnx.Percentile(20),
        tgdonnx.TrainOptions(steps=3, batch=1),
        rounds=2,
        masking=tgdonnx.MaskOptions(mode="regrow", reinitialization=Reinitialization(tolerance=ANY_CHANGE)),
    )
    assert report.verify.ok
    assert len(report.earlier) == 1
    assert tgdonnx.verify(path, tmp_path / "tuned.onnx").ok


def test_selections_in_mode_regrow_are_compared(tmp_path: Path) -> None:
    model = dncnn()
    data = data_for(model)
    names = ["none", "percentile-regrow:20", "percentile-regrow-isolate:20", "percentile-readers:20"]
    report = tgdonnx.compare(
        save(model, tmp_path / "model.onnx"),
        tgdonnx.RunData(data, validation=data),
        tmp_path / "comparison",
        names,
        tgdonnx.TrainOptions(steps=2, batch=1),
        masking=tgdonnx.MaskOptions(reinitialization=Reinitialization("clone", tolerance=ANY_CHANGE)),
    )
    assert [entry.name for entry in report.entries] == names
    recorded = {entry.name: entry.selection for entry in report.entries}
    assert [recorded[name].get("isolate") for name in names] == [None, False, True, None]
    assert {recorded[name]["rebirth"] for name in names[1:3]} == {"clone"}
    assert report.entries[0].curve[0] == report.entries[3].curve[0] != report.entries[1].curve[0]


def test_in_the_pet_network_hundreds_of_dead_filters_are_reinitialized(tmp_path: Path) -> None:
    vendor = onnx.load(V1_NET)
    masked = tmp_path / "masked.onnx"
    report = tgdonnx.mask(
        V1_NET,
        masked,
        tgdonnx.Phi(0.3),
        tgdonnx.MaskOptions(mode="regrow", reinitialization=Reinitialization("he", tolerance=1e-5)),
    )
    assert report.selection["reborn"] == 696
    assert report.selection["change"] < 1e-5
    feeds = {vendor.graph.input[0].name: np.random.default_rng(2).random((1, 3, 24, 20)).astype(np.float32)}
    (before,), (after,) = outputs(vendor, feeds), outputs(onnx.load(masked), feeds)
    assert np.abs(before - after).max() < 1e-4 * before.std()
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(masked).graph.initializer}
    last = stored["layers.20.weight"]
    assert (last == 0).all(axis=(0, 2, 3)).sum() == 193
    reinitialized = {param.name: list(param.retrain) for param in report.params}["layers.17.weight"]
    sizes = stored["layers.17.weight"].std(axis=(1, 2, 3))
    assert sizes[reinitialized].min() > 0.5 * np.median(np.delete(sizes, reinitialized))  # they were as good as 0
    assert stored["layers.18.running_var"][reinitialized].tolist() == [1] * len(reinitialized)
