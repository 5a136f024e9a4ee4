"""Why the numbers in a stored tensor cannot train."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from tgdonnx.files import wire
from tgdonnx.files.model_file import ModelFile
from tgdonnx.files.tensors import describe, walk_tensors


@dataclass(frozen=True)
class Obstacle:
    """Why the numbers in a stored tensor cannot train.

    Attributes:
        problem: to be read after the tensor's name.
        remedy: what would help.
    """

    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


def overlapping(file: ModelFile, names: Mapping[wire.FieldPath, str]) -> dict[str, str]:
    """Returns for the names of tensors that share bytes of an external file with another tensor what that one is called.

    Args:
        file: the vendor's file.
        names: of its tensors, by their places.
    """
    extents = sorted(
        (os.path.normpath(tensor.location), place.offset, place.offset + tensor.nbytes, name)
        for tensor in walk_tensors(file.proto)
        if tensor.is_external
        for place in [tensor.external]
        for name in [names.get(tensor.path, describe(file.proto, tensor.path))]
    )
    found: dict[str, str] = {}
    # By place and begin: whoever shares bytes with an earlier tensor does so with the one of these that ends last.
    last = ("", 0, 0, "")
    for extent in extents:
        if extent[0] == last[0] and extent[1] < last[2]:
            found[extent[3]] = last[3]
            found.setdefault(last[3], extent[3])
        last = max(last, extent, key=lambda each: (each[0], each[2]))
    return found
