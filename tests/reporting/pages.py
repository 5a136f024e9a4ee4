"""Pages of runs, made and read for tests."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import tgdonnx
from tests.reporting.parsing import Element, parse_page


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made(folder: Path, **options: Any) -> Element:
    tgdonnx.report(folder / "artifacts", folder / "page.html", overwrite=True, **options)
    return parse_page(folder / "page.html")


def section(page: Element, name: str) -> Element:
    return page.one("section", id=name)
