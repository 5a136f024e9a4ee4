"""Options on data, which all commands share that read some."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional, Union

import click

from tgdonnx.cli.options import Command
from tgdonnx.cli.paths import PATH
from tgdonnx.data import AUGMENTATIONS, STATISTICS, DataOptions, Scale
from tgdonnx.data.formats import describe_sources
from tgdonnx.finetuning import Noise2Noise, RunData


def reading_options(command: Command) -> Command:
    """How data is read. The command gets ``reading``, a `DataOptions`."""
    made = _collected(command)
    for option in (
        click.option(
            "--scale",
            "scales",
            multiple=True,
            metavar="[INPUT=]HOW",
            help=f"Scale intensities: divide by a number, or {', '.join(STATISTICS)} of the training data; of all float "
            "images alike, or of INPUT.",
        ),
        click.option(
            "--layout",
            "layouts",
            multiple=True,
            metavar="[INPUT=]LAYOUT",
            help="What the axes of the arrays are, or of INPUT's: NCHW, NHWC, HW, HWC, DHW ...; after a colon the model's, "
            "where it is not NCHW.",
        ),
        click.option("--map", "renames", multiple=True, metavar="ARRAY=INPUT", help="Use ARRAY for the input INPUT."),
    ):
        made = option(made)
    return made


def data_options(command: Command) -> Command:
    """What a run reads. The command gets ``data``, a `RunData`, of these options and ``pair``, ``retain`` and ``agree``."""

    @functools.wraps(command)
    def collected(
        *args: Any,
        data: Optional[Path],
        validation: Optional[Path],
        reading: DataOptions,
        retain: Optional[Path],
        agree: Optional[Path],
        **others: Any,
    ) -> Any:
        source = _source(data, others.pop("pair")) if "pair" in others else data
        if source is None:
            raise click.UsageError("expected --data, what to train on")
        return command(*args, data=RunData(source, validation, retain, agree, reading), **others)

    made = reading_options(collected)
    for option in (
        click.option("--augment", metavar="KINDS", help=f"Vary samples: {','.join(AUGMENTATIONS)}."),
        click.option("--patches-per-epoch", type=int, help="As many as cover the data once, if not given."),
        click.option("--patch", metavar="SIZE", help="Train on random patches of this size, such as 64x64."),
        click.option("--validation-split", type=float, help="Hold out this fraction of the files for validation."),
        click.option(
            "--validation",
            type=PATH,
            help="Data that is not trained on; the epoch that does best on it is kept.",
        ),
        click.option(
            "--data",
            type=PATH,
            help=f"{_capital(describe_sources())}. An array per model input, and `target`.",
        ),
    ):
        made = option(made)
    return made  # type: ignore[return-value]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _source(data: Optional[Path], pair: Optional[tuple[Path, Path]]) -> Union[Path, Noise2Noise, None]:
    """Returns what to train on.

    Raises:
        UsageError: neither is given, or both are.
    """
    if (data is None) == (pair is None):
        raise click.UsageError("expected either --data or --noise2noise")
    return Noise2Noise(*pair) if pair is not None else data


noise2noise_option = click.option(
    "--noise2noise",
    "pair",
    nargs=2,
    type=PATH,
    metavar="A B",
    help="Train without targets, from A to B and back: two images of one study with independent noise. A part is held out.",
)


def _collected(command: Command) -> Command:
    """Makes a `DataOptions` of the options that there are."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        renames: tuple[str, ...],
        layouts: tuple[str, ...],
        scales: tuple[str, ...],
        patch: Optional[str] = None,
        patches_per_epoch: Optional[int] = None,
        augment: Optional[str] = None,
        validation_split: Optional[float] = None,
        **others: Any,
    ) -> Any:
        layout, by_name = _divide("--layout", layouts)
        scale, scale_by_name = _divide("--scale", scales)
        reading = DataOptions(
            renamed=_pairs("--map ARRAY=INPUT", renames),
            layout=layout,
            layouts=by_name,
            patch=None if patch is None else _sizes(patch),
            patches_per_epoch=patches_per_epoch,
            augmentation=tuple(_kinds(augment)),
            scale=None if scale is None else _scale(scale),
            scales={name: _scale(how) for name, how in scale_by_name.items()},
            validation_split=validation_split,
        )
        return command(*args, reading=reading, **others)

    return wrapped  # type: ignore[return-value]


def _pairs(form: str, pairs: Iterable[str]) -> dict[str, str]:
    result: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not (key and separator and value) or key in result:
            raise click.UsageError(f"expected {form}, each once; got {pair!r}")
        result[key] = value
    return result


def _divide(option: str, given: tuple[str, ...]) -> tuple[Optional[str], dict[str, str]]:
    """Divides what is for all inputs from what is for single ones."""
    general = [text for text in given if "=" not in text]
    if len(general) > 1:
        raise click.UsageError(f"expected one {option} for all inputs; got {', '.join(general)}")
    return (general[0] if general else None), _pairs(f"{option} INPUT=...", (text for text in given if "=" in text))


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split("x"))
    except ValueError as error:
        raise click.UsageError(f"expected --patch such as 64x64, got {text!r}") from error


def _kinds(text: Optional[str]) -> Iterable[Any]:
    return () if text is None else (kind.strip() for kind in text.split(","))  # DataOptions checks them


def _scale(text: str) -> Scale:
    try:
        return float(text)
    except ValueError:
        return text  # type: ignore[return-value]  # DataOptions checks it
