"""Versions of packages that are installed, each looked up once: to read what a package says of itself takes a while."""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import Optional


@cache
def installed_version(package: str) -> Optional[str]:
    """Returns the version of a package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def own_version() -> str:
    """Returns the version of this package."""
    version = installed_version("tgdonnx")
    assert version is not None, "the package that runs is installed"
    return version
