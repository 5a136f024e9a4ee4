"""The table, the plot and the page of a model from the shell."""

from __future__ import annotations

from pathlib import Path

import tgdonnx
from tests.cli.commands import run, run_json
from tests.support import models
from tests.support.training_models import text_model


def test_layers_are_shown_with_their_weights_and_the_shapes_of_what_they_give(tmp_path: Path) -> None:
    model = text_model(
        "g (float[N, 2, 12] x) => (float[N, m, w] y) { [one] a = Conv<strides = [2]>(x, v)\n [two] y = Conv(a, u) }",
        v=(4, 2, 2),
        u=(3, 4, 1),
    )
    path = models.save(model, tmp_path / "model.onnx")
    assert [layer["output_shape"] for layer in run_json("inspect", path)["layers"]] == ["[N,4,6]", "[N,3,6]"]
    lines = run("inspect", path).stdout.splitlines()
    (first,) = (index for index, line in enumerate(lines) if line.split()[:1] == ["one"])
    assert lines[first].split()[1] == "4×2×2"
    assert lines[first + 1].split() == ["v", "[N,4,6]"]


def test_the_last_line_says_what_comes_next(vendor: Path, tmp_path: Path) -> None:
    def last(*arguments: object) -> str:
        return run("inspect", *arguments).stdout.splitlines()[-1]

    assert last(vendor) == f"next: tgdonnx check {vendor}"
    assert last(vendor, "--phi", 0) == f"next: tgdonnx sweep {vendor} --data D"
    masked = tmp_path / "masked model.onnx"
    tgdonnx.mask(vendor, masked, tgdonnx.LastLayers(1))
    assert last(masked) == f"next: tgdonnx build '{masked}' -o run"
    assert "retrain, by the masks in the file" in run("inspect", masked).stdout
    assert run_json("inspect", masked)["selection"]["strategy"] == "last"


def test_plot_and_page_are_written_and_not_over_what_exists(vendor: Path, tmp_path: Path) -> None:
    plot, page = tmp_path / "scores.svg", tmp_path / "model.html"
    result = run("inspect", vendor, "--plot", plot, "--html", page)
    assert result.exit_code == 0
    assert f"{page}: {page.stat().st_size:,} bytes" in result.stdout
    assert plot.read_bytes().startswith(b"<?xml")
    before = page.read_bytes()
    refused = run("inspect", vendor, "--html", page)
    assert (refused.exit_code, "--overwrite" in refused.stderr) == (2, True)
    assert page.read_bytes() == before
    assert run("inspect", vendor, "--html", vendor, "--overwrite").exit_code == 2
    assert run("inspect", vendor, "--plot", tmp_path / "scores.gif").exit_code == 2
