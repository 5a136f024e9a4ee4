"""The page in Chromium: nothing wider than the window, nothing on the console, nothing asked of the network."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from PIL import Image

import tgdonnx
from tests.reporting.browser import Browser, browser
from tests.reporting.runs import full_log, pairs, trained, write_log
from tests.support import models

pytestmark = pytest.mark.chromium

LONG = "a_name_without_any_place_to_break_" * 6


def long_names(model: onnx.ModelProto) -> onnx.ModelProto:
    for node in model.graph.node:
        node.name = LONG + node.name if node.name else ""
    return model


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


@pytest.fixture(scope="module", params=["whole", "bare", "long names"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    model = long_names(models.dncnn(0)) if request.param == "long names" else models.dncnn(0)
    trained(folder, model, mode="readers")
    data = None
    if request.param == "bare":
        (folder / "artifacts" / "log.jsonl").unlink()
    else:
        log = full_log(900)
        if request.param == "long names":
            log[-2]["metrics"][LONG] = 1.0
            log[-3]["metrics"][LONG] = 2.0
        write_log(folder / "artifacts", log)
        data = pairs(shape=(3, 90, 70))
    tgdonnx.report(folder / "artifacts", folder / "page.html", model=folder / "vendor.onnx", data=data)
    return folder / "page.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 768, 420])
def test_fits_the_window_and_says_and_loads_nothing(
    width: int, scheme: Literal["light", "dark"], page: Path, chromium: Browser
) -> None:
    opened = chromium.open(page, width, scheme)
    assert opened.console == []
    assert opened.layout["inner"] == width
    assert opened.layout["found"] == []
    assert opened.layout["page"] == width
    assert opened.layout["dark"] == (scheme == "dark")
    assert [url for url in opened.requests if not url.startswith("data:")] == [page.resolve().as_uri()]
    picture = np.asarray(Image.open(io.BytesIO(opened.picture)).convert("L"))
    assert picture.shape[1] == width
    assert (np.median(picture) < 60) == (scheme == "dark")
    assert picture.std() > 5, "an empty page"


def test_prints_on_a4_on_white_paper(page: Path, chromium: Browser) -> None:
    paper = chromium.open(page, 1400, "dark").paper
    assert paper.startswith(b"%PDF")
    (size,) = set(re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", paper))
    assert [round(float(side)) for side in size] == [595, 842]  # 210 by 297 mm in points
