"""Options of building: checked when they are made, recorded as they were chosen."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from typing import Any

import msgspec
import pytest

from tgdonnx.artifacts.options import BuildOptions, BuiltOptions
from tgdonnx.errors import ArtifactsError


@pytest.mark.parametrize(
    ("options", "form"),
    [
        ({}, "thin"),
        ({"gradient": "gate"}, "masked"),
        ({"form": "masked"}, "masked"),
        ({"form": "thin"}, "thin"),
        ({"form": "masked", "gradient": "gate"}, "masked"),
    ],
)
def test_the_cheapest_form_is_thin_where_there_is_it_and_none_is_said(options: dict[str, Any], form: str) -> None:
    chosen = BuildOptions(l2=0.5, **options)
    assert chosen.in_cheapest_form() == BuildOptions(l2=0.5, **{**options, "form": form})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "onnx"}, "expected engine to be one of onnxruntime.*got 'onnx'"),
        ({"form": "thick"}, "expected form to be one of masked, thin; got 'thick'"),
        ({"form": "thin", "gradient": "gate"}, "use form 'masked' for gradient 'gate'"),
        ({"loss": "hinge"}, "hinge"),
        ({"l2_sp": float("inf")}, "expected l2_sp >= 0, got inf"),
        ({"optimizer": "sgd", "momentum": 1.0}, "expected a momentum of at least 0 and less than 1, got 1"),
        ({"optimizer": "sgd", "momentum": -0.1}, "expected a momentum of at least 0 and less than 1, got -0.1"),
        ({"optimizer": "sgd", "momentum": float("nan")}, "expected a momentum of at least 0 and less than 1, got nan"),
        ({"momentum": 0.9}, "momentum is of the optimizer sgd; got 0.9 for adamw.*leave it out, or choose sgd"),
    ],
)
def test_wrong_options_are_refused_where_they_are_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactsError, match=message):
        BuildOptions(**options)


def test_options_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        BuildOptions().l2 = 1.0  # type: ignore[misc]


def test_the_record_has_what_was_chosen() -> None:
    chosen = BuildOptions(loss="0.2 * l1 + 0.8*mse", l2=0.25, clip_norm=3.0, engine="onnxruntime")
    plain = BuiltOptions.of(chosen, output="y")
    expected = {
        **{"loss": "0.2*l1+0.8*mse", "data_range": 1.0, "optimizer": "adamw", "momentum": 0.0},
        **{"l2": 0.25, "l2_sp": 0.0, "clip_norm": 3.0, "gradient": "mask", "form": "masked", "output": "y"},
    }
    assert plain.as_dict() == json.loads(msgspec.json.encode(plain)) == expected
    several = BuiltOptions.of(BuildOptions(loss="z:ce( ignore = 3 ),y:2*l1", form="thin"), output="z")
    assert several.as_dict()["loss"] == "z: ce(ignore=3), y: 2.0*l1"
    assert msgspec.json.decode(msgspec.json.encode(several), type=BuiltOptions) == several


@pytest.mark.parametrize(
    "wrong", [{"optimizer": "adam"}, {"l2": -1.0}, {"form": "thin", "gradient": "gate"}, {"output": ""}, {"loss": ""}]
)
def test_a_record_that_no_choice_gives_is_refused(wrong: dict[str, Any]) -> None:
    record = {**BuiltOptions.of(BuildOptions(), output="y").as_dict(), **wrong}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(record, BuiltOptions)


def test_every_option_but_the_engine_is_recorded() -> None:
    chosen, recorded = ({field.name for field in fields(kind)} for kind in (BuildOptions, BuiltOptions))
    assert chosen - recorded == {"engine"}
    assert recorded - chosen == set()
