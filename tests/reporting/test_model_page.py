"""A model as a page: its graph in rows, every layer with its filters, and nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import tgdonnx
from tests.support import models
from tests.support.training_models import text_model
from tgdonnx.errors import OutputError
from tgdonnx.inspection import look
from tgdonnx.layers import open_network
from tgdonnx.reporting.model_page import write_model_page
from tgdonnx.reporting.model_rows import rows_of

HEAD = "g (float[N, 2, 8] x) => (float[N, m, 8] y)"
BRANCHES = f"""{HEAD} {{
    [one] a = Conv(x, w1)
    b = Relu(a)
    [neg] c = Neg(b)
    [two] d = Conv(c, w2)
    [join] e = Add(d, b)
    s = Shape(e)
    f = Reshape(e, s)
    [three] y = Conv(f, w3) }}"""


def branches() -> object:
    return text_model(BRANCHES, w1=(4, 2, 1), w2=(4, 4, 1), w3=(3, 4, 1))


class Reader(HTMLParser):
    """Takes note of tags, and of what they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.labels: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "br", "path", "i"):
            self.open.append(tag)
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        self.labels += [given.get("aria-label") or ""] if given.get("role") == "img" else []

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "i"):
            assert self.open.pop() == tag


def page_of(path: Path, phi: float = 0.3) -> tuple[str, Reader]:
    output = path.with_suffix(".html")
    size = write_model_page(look(path, phi=phi), output, "tgdonnx check model.onnx")
    text = output.read_text("utf-8")
    assert size == len(text.encode())
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return text, reader


def test_a_row_holds_what_alone_follows_it_and_reads_rows_above(tmp_path: Path) -> None:
    network = open_network(models.save(branches(), tmp_path / "model.onnx"))
    rows = rows_of(network.graph, tuple(network.layers))
    assert [(row.name, row.op_type, row.folded, row.sources) for row in rows] == [
        ("x", "input", [], ()),
        ("one", "Conv", ["Relu"], (0,)),
        ("neg", "Neg", [], (1,)),
        ("two", "Conv", [], (2,)),
        ("join", "Add", ["Reshape"], (3, 1)),
        ("three", "Conv", [], (4,)),
        ("y", "output", [], (5,)),
    ]
    assert [row.layer for row in rows] == [-1, 0, -1, 1, -1, 2, -1]


@pytest.mark.parametrize("builder", models.MODELS.values(), ids=models.MODELS)
def test_every_layer_and_output_of_a_graph_has_a_row_and_none_reads_one_below(
    builder: models.Builder, tmp_path: Path
) -> None:
    network = open_network(models.save(builder(0), tmp_path / "model.onnx"))
    rows = rows_of(network.graph, tuple(network.layers))
    assert all(source < index for index, row in enumerate(rows) for source in row.sources)
    main = [layer.index for layer in network.layers if layer.node.graph is network.graph]
    assert [row.layer for row in rows if row.layer >= 0] == main
    outputs = [row.name for row in rows if row.op_type == "output"]
    assert outputs == [str(value.name) for value in network.graph.outputs]


def test_the_page_shows_layers_shapes_masks_and_reasons_and_takes_nothing_from_elsewhere(tmp_path: Path) -> None:
    path = models.save(branches(), tmp_path / "model.onnx")
    text, reader = page_of(path, phi=0.9)
    report = tgdonnx.inspect(path, phi=0.9)
    assert not [link for link in reader.links if not link.startswith(("#", "data:"))]
    assert "<script" not in text
    assert "<code>tgdonnx check model.onnx</code>" in text
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)
    assert len(reader.ids) == len(set(reader.ids))
    for layer in report.layers:
        assert f"<bdi>{layer.node}</bdi>" in text
        assert f"<code>{layer.weight}</code>" in text
        assert f"{layer.retrain}/{layer.filters} would retrain" in text
        assert layer.output_shape in text
        for reason in layer.frozen:
            assert reason.replace("'", "&#39;") in text
    assert "Conv → Relu" in re.sub(r"\s+", " ", text)
    strips = [label for label in reader.labels if "filters" in label]
    assert [label.split()[0] for label in strips] == [str(layer.retrain) for layer in report.layers]
    assert "3 stay frozen whatever their score" in strips[-1]


def test_of_a_masked_model_the_masks_are_shown(tmp_path: Path) -> None:
    path, masked = models.save(branches(), tmp_path / "model.onnx"), tmp_path / "masked.onnx"
    tgdonnx.mask(path, masked, tgdonnx.Filters({"w2": [1, 2]}))
    report = tgdonnx.inspect(masked)
    assert [layer.retrain for layer in report.layers] == [0, 2, 0]
    assert report.selection is not None
    assert report.selection["strategy"] == "filters"
    text, _ = page_of(masked)
    assert "2 of 11 filters retrain, by the masks in the file" in text
    assert "2/4 retrain" in text


def test_names_that_would_be_markup_are_text(tmp_path: Path) -> None:
    model = branches()
    model.graph.node[0].name = "<b>&\x1b"  # type: ignore[attr-defined]
    text, _ = page_of(models.save(model, tmp_path / "model.onnx"))
    assert "<b>" not in text
    assert "&lt;b&gt;&amp;\\x1b" in text


def test_the_page_is_written_neither_over_the_model_nor_over_anything_unasked(tmp_path: Path) -> None:
    path = models.save(branches(), tmp_path / "model.onnx")
    inspected = look(path, phi=0.3)
    with pytest.raises(OutputError):
        write_model_page(inspected, path, "", overwrite=True)
    page_of(path)
    with pytest.raises(OutputError, match="exists"):
        write_model_page(inspected, path.with_suffix(".html"), "")
    assert write_model_page(inspected, path.with_suffix(".html"), "", overwrite=True) > 0
