"""The built page, a host for it, a browser, and small artifacts to train in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tgdonnx
from tests.browser.serving import served
from tests.browser.tab import Tab
from tests.reporting.browser import browser
from tests.support import models

DIST = Path(__file__).parents[2] / "samples" / "browser" / "dist"


@dataclass(frozen=True)
class Small:
    """A small denoiser, masked and built, and data for it.

    Attributes:
        vendor: its file.
        artifacts: the directory.
        zip: the same in one file, with the vendor's.
        data: an .npz file with 12 samples.
        x, target: the arrays in it.
    """

    vendor: Path
    artifacts: Path
    zip: Path
    data: Path
    x: NDArray[np.float32]
    target: NDArray[np.float32]


@pytest.fixture(scope="session")
def dist() -> Path:
    """The page, built."""
    assert (DIST / "index.html").is_file(), "build the page first: npm ci && npm run build, in samples/browser"
    return DIST


@pytest.fixture(scope="module")
def address(dist: Path) -> Iterator[str]:
    """The page on a host that isolates it."""
    with served(dist, isolated=True) as url:
        yield url


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    root = tmp_path_factory.mktemp("small")
    vendor = models.save(models.dncnn(3), root / "vendor.onnx")
    tgdonnx.mask(vendor, root / "masked.onnx", tgdonnx.Percentile(50), tgdonnx.MaskOptions(mode="readers"))
    options = tgdonnx.BuildOptions(form="thin", clip_norm=1.0, l2=1e-5)
    tgdonnx.build(root / "masked.onnx", root / "artifacts", options, zip=root / "artifacts.zip")
    rng = np.random.default_rng(7)
    target = rng.random((12, 3, 18, 22), np.float32)
    x = target + rng.normal(0, 0.1, target.shape).astype(np.float32)
    np.savez(root / "train.npz", x=x, target=target)
    return Small(vendor, root / "artifacts", root / "artifacts.zip", root / "train.npz", x, target)


@pytest.fixture
def tab(address: str, tmp_path: Path) -> Iterator[Tab]:
    """The page in a browser of its own, with one thread."""
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    with browser(tmp_path / "profile") as opened:
        yield Tab(opened, f"{address}?threads=1", downloads)
