"""What a comparison compares, and what it holds equal: the settings that every call on one directory shares."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Optional

from tgdonnx.artifacts import BuildOptions
from tgdonnx.comparing.candidates import DEFAULT_SELECTIONS, Candidate, parse_candidates
from tgdonnx.data import DataOptions, DataSource, open_source
from tgdonnx.data.description import hash_of_arrays
from tgdonnx.errors import DataError, SelectionError
from tgdonnx.finetuning import TrainOptions
from tgdonnx.finetuning.metrics import LOSS
from tgdonnx.masking import MaskOptions

# Of the options: those that no loss depends on, but in its last bits, or that have one value here, and two that concern
# selections that may be added later.
_FREE = ("best", "retain_limit", "on_retain_limit", "checkpoint_every", "device", "agree_share", "l2_sp")


def wanted_candidates(
    names: Optional[Sequence[str]], *, agree: Optional[DataSource], l2_sp: float
) -> tuple[Candidate, ...]:
    """Returns what to compare; by default a handful of selections, and TGD with the regularisers that are given.

    Raises:
        SelectionError: a name is wrong, or a regulariser is named without what it needs, or given and not named.
    """
    if names is None:
        regularisers = [name for name, given in (("l2sp", l2_sp > 0), ("agree", agree is not None)) if given]
        return parse_candidates([*DEFAULT_SELECTIONS, *(f"tgd-readers+{name}" for name in regularisers)])
    candidates = parse_candidates(names)
    used = {regulariser for candidate in candidates for regulariser in candidate.regularisers}
    for regulariser, given, option in (("l2sp", l2_sp > 0, "`l2_sp`"), ("agree", agree is not None, "`agree`")):
        if regulariser in used and not given:
            raise SelectionError(f"a selection with +{regulariser} needs {option}")
        if given and regulariser not in used:
            raise SelectionError(
                f"{option} is for selections with +{regulariser}, and none is compared",
                remedy=f"add one, such as tgd+{regulariser}",
            )
    return candidates


def require_equal_budget(options: TrainOptions, *, validated: bool, retained: bool) -> None:
    """Checks that options let every selection take the same steps, and that there is something to judge them by.

    Raises:
        DataError: they do not.
    """
    if not validated:
        raise DataError(
            "selections are compared on data that is not trained on", remedy="pass validation data, or split some off"
        )
    if options.best != LOSS:
        raise DataError(
            f"the best points of selections are compared by the validation loss, not by {options.best}",
            remedy="leave best out; the curves have the metrics",
        )
    for name in ("patience", "max_time"):
        if getattr(options, name) is not None:
            raise DataError(
                f"selections are compared at equal steps, which {name} would end at different places",
                remedy="give epochs or steps, the best point of every curve is found all the same",
            )
    if options.retain_limit is not None and not retained:
        raise DataError(
            "a limit of retention needs data of the vendor's own task", remedy="pass retain, or leave the limit out"
        )


def require_named_modes(masking: MaskOptions) -> None:
    """Checks that options of masks leave to the names of selections what these say.

    Raises:
        SelectionError: they do not.
    """
    left = replace(masking, reinitialization=replace(masking.reinitialization, isolate=False), freeze=())
    if left != replace(MaskOptions(), reinitialization=left.reinitialization) or masking.reinitialization.isolate:
        raise SelectionError(
            "mode, rank, protection and isolation are given for all selections, but are of each",
            remedy="name selections that have them, such as tgd-readers, regrow-isolate or adapter:4",
        )


def settings_of(
    sha256: str,
    options: TrainOptions,
    building: BuildOptions,
    dropping: Mapping[str, Any],
    reading: DataOptions,
    sources: Mapping[str, Optional[DataSource]],
) -> dict[str, Any]:
    """Returns what has to be the same in every call that works on one directory, as JSON has it."""
    training = {name: value for name, value in asdict(options).items() if name not in _FREE}
    places = {name: None if source is None else _place(source) for name, source in sources.items()}
    built = {name: value for name, value in asdict(building).items() if name not in _FREE}
    return as_json({"model": sha256, **places, "reading": asdict(reading), **built, **dropping, **training})


def _place(source: DataSource) -> str:
    """Returns what tells a source from another: its path; of arrays in memory, a hash."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return f"in memory, SHA-256 {hash_of_arrays(open_source(source).groups)}"


def as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings as they are after they were written and read."""
    read: dict[str, Any] = json.loads(json.dumps(settings))
    return read
