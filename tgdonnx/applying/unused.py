"""Options that would change nothing where a result goes: refused, or, where they come with other data, told of."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from tgdonnx.applying.options import ApplyOptions
from tgdonnx.applying.placing import Place
from tgdonnx.errors import DataError


def require_used(options: ApplyOptions, place: Place, output: Optional[Path]) -> None:
    """Checks that no option would be ignored.

    Args:
        options: how a model is applied.
        place: what its output is.
        output: its path; None for memory.

    Raises:
        DataError: one would be.
    """
    if options.suffix is not None and place != "directory":
        result = "the results stay in memory" if output is None else f"{output} is one file"
        raise DataError(
            f"got `suffix`, which is for the results of many files in a directory, and {result}",
            remedy="name a directory, or leave `suffix` out",
        )
    if place != "table":
        return
    if options.form in ("image", "scores"):
        raise DataError(
            f"{output}: a table has the class of every picture and its probability; got `form={options.form!r}` too",
            remedy="write the result as .npy, or leave `form` out",
        )
    if options.tile is not None:
        raise DataError(
            f"{output}: a classifier looks at all of a picture, so a table is never made by tiles; got `tile` too",
            remedy="leave `tile` out",
        )
