"""Options on data, which all commands share that read some."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import click

from tgdonnx.cli.collecting import Body, collected
from tgdonnx.cli.data_values import ClassNames, divided, kinds_of, numbers_of, pairs_of, scale_of, sizes_of
from tgdonnx.cli.helping import DATA, READING, options_of
from tgdonnx.cli.paths import PATH
from tgdonnx.data import AUGMENTATIONS, STATISTICS, DataOptions, Scale
from tgdonnx.data.class_names import read_classes
from tgdonnx.data.formats import describe_sources
from tgdonnx.data.pictures import COLOURS, RESAMPLES, Colour, Pictures, Resample
from tgdonnx.finetuning import Noise2Noise, RunData


def data_options(command: Body) -> Body:
    """What a run reads. The command gets ``data``, a `RunData`."""
    return _read(collected("data", _of_arrays)(command))


def paired_data_options(command: Body) -> Body:
    """The same, where it may be two noisy images."""
    return _read(noise2noise_option(collected("data", _of_arrays_or_pair)(command)))


def _read(command: Body) -> Body:
    made = reading_options(command)
    for option in reversed(_RUN):
        made = option(made)
    return made


@dataclass(frozen=True)
class _Intensities:
    scale: Optional[Scale]
    scales: Mapping[str, Scale]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class _Cutting:
    patch: Optional[tuple[int, ...]]
    patches_per_epoch: Optional[int]
    augment: tuple[Any, ...]
    crop_target: bool


def _intensities(scales: tuple[str, ...], mean: Optional[str] = None, std: Optional[str] = None) -> _Intensities:
    scale, scale_by_name = divided("--scale", scales)
    by_name = {name: scale_of(how) for name, how in scale_by_name.items()}
    return _Intensities(
        None if scale is None else scale_of(scale), by_name, numbers_of("--mean", mean), numbers_of("--std", std)
    )


def _pictures(
    resize: Optional[str] = None,
    resample: Resample = "bilinear",
    crop: Optional[str] = None,
    colour: Optional[Colour] = None,
) -> Pictures:
    return Pictures(sizes_of("--resize", resize), resample, sizes_of("--crop", crop), colour)


def _cutting(
    patch: Optional[str] = None,
    patches_per_epoch: Optional[int] = None,
    augment: Optional[str] = None,
    crop_target: bool = False,
) -> _Cutting:
    return _Cutting(sizes_of("--patch", patch), patches_per_epoch, tuple(kinds_of(augment)), crop_target)


def _reading(
    map: tuple[str, ...],  # noqa: A002  # as the option is named
    layouts: tuple[str, ...],
    intensities: _Intensities,
    pictures: Pictures,
    cutting: _Cutting,
    classes: Union[Path, tuple[str, ...], None] = None,
    validation_split: Optional[float] = None,
) -> DataOptions:
    layout, layout_by_name = divided("--layout", layouts)
    return DataOptions(
        map=pairs_of("--map ARRAY=INPUT", map),
        layout=layout,
        layouts=layout_by_name,
        classes=read_classes(classes) if isinstance(classes, Path) else classes or (),
        validation_split=validation_split,
        **vars(intensities),
        **vars(pictures),
        **vars(cutting),
    )


def reading_options(command: Body) -> Body:
    """How data is read. The command gets ``reading``, a `DataOptions`."""
    made = collected("reading", _reading)(command)
    for name, make in (("intensities", _intensities), ("pictures", _pictures), ("cutting", _cutting)):
        made = collected(name, make)(made)
    for option in reversed(_READING):
        made = option(made)
    return made


_reading_option = options_of(READING)


_READING = (
    _reading_option("--map", multiple=True, metavar="ARRAY=INPUT", help="Use ARRAY for the input INPUT."),
    _reading_option(
        "--layout",
        "layouts",
        multiple=True,
        metavar="[INPUT=]LAYOUT",
        help="What the axes of the arrays are, or of INPUT's: NCHW, NHWC, HW, HWC, DHW ...; after a colon the model's, "
        "where it is not NCHW.",
    ),
    _reading_option(
        "--scale",
        "scales",
        multiple=True,
        metavar="[INPUT=]HOW",
        help=f"Scale intensities: divide by a number, or {', '.join(STATISTICS)} of the data (that trains); of all float "
        "images alike, or of INPUT. `imagenet`: as torchvision's classifiers.",
    ),
    _reading_option("--mean", metavar="M,...", help="Subtract this after --scale, of images but targets, per channel."),
    _reading_option("--std", metavar="S,...", help="Divide by this then."),
    _reading_option("--resize", metavar="SIZE", help="Resize pictures to HxW, or their shorter side to N."),
    _reading_option(
        "--resample",
        type=click.Choice(RESAMPLES),
        default="bilinear",
        show_default=True,
        help="How, with smoothing of larger pictures, as Pillow does.",
    ),
    _reading_option("--crop", metavar="SIZE", help="Take the centre of pictures: HxW, or NxN for N."),
    _reading_option("--colour", type=click.Choice(COLOURS), help="Make pictures grey or of three colours."),
)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


_data_option = options_of(DATA)


def classes_option(otherwise: str) -> Callable[[Body], Body]:
    """Returns ``--classes``; ``otherwise``: what classes go by without it."""
    return _data_option(
        "--classes",
        type=ClassNames(),
        is_eager=True,  # the weights of a loss may go by them
        metavar="NAMES",
        help="Names of the classes in the model's order: a file with one per line, or the names themselves with commas "
        f"between; else {otherwise}.",
    )


_RUN = (
    _data_option(
        "--data",
        type=PATH,
        help=f"{_capital(describe_sources())}. An array per model input, and `target`. Or a directory per class; a CSV or "
        "Parquet table of paths and labels; nnU-Net's imagesTr and labelsTr.",
    ),
    _data_option(
        "--validation",
        "--val",
        type=PATH,
        help="Data that is not trained on; the epoch that does best on it is kept.",
    ),
    _data_option("--validation-split", type=float, help="Hold out this fraction of the files for validation."),
    _data_option(
        "--retain",
        type=PATH,
        help="Data of the vendor's own task; without `target`, agreement with the vendor's outputs is measured.",
    ),
    _data_option(
        "--agree",
        type=PATH,
        metavar="DATA",
        help="Images to agree with the vendor on: mixed into the batches, with the vendor's outputs for targets.",
    ),
    classes_option("those of the data, sorted"),
    _data_option(
        "--patch", metavar="SIZE", help="Train on random patches of this size, such as 64x48, or 64 for 64x64."
    ),
    _data_option("--patches-per-epoch", type=int, help="As many as cover the data once, if not given."),
    _data_option(
        "--crop-target",
        is_flag=True,
        help="Compare the centre of targets, where the output is smaller, as that of valid convolutions is.",
    ),
    _data_option("--augment", metavar="KINDS", help=f"Vary samples: {','.join(AUGMENTATIONS)}."),
)

noise2noise_option = _data_option(
    "--noise2noise",
    "pair",
    nargs=2,
    type=PATH,
    metavar="A B",
    help="Train without targets, from A to B and back: two images of one study with independent noise. A part is held out.",
)


def _of_arrays(
    data: Optional[Path],
    validation: Optional[Path],
    retain: Optional[Path],
    agree: Optional[Path],
    reading: DataOptions,
) -> RunData:
    if data is None:
        raise click.UsageError("expected --data, what to train on")
    return RunData(data, validation, retain, agree, reading)


def _of_arrays_or_pair(
    data: Optional[Path],
    pair: Optional[tuple[Path, Path]],
    validation: Optional[Path],
    retain: Optional[Path],
    agree: Optional[Path],
    reading: DataOptions,
) -> RunData:
    if pair is None and data is not None:
        return RunData(data, validation, retain, agree, reading)
    if pair is not None and data is None:
        return RunData(Noise2Noise(*pair), validation, retain, agree, reading)
    raise click.UsageError("expected either --data or --noise2noise")
