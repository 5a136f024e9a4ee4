"""How losses are written, and what they ask of targets."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.commands import run
from tgdonnx.artifacts.losses import (
    FUNCTIONS,
    LOSSES,
    RANGED_LOSSES,
    Criterion,
    Loss,
    Part,
    Term,
    parse_criterion,
    parse_loss,
)
from tgdonnx.artifacts.losses.cross_entropy import Ce
from tgdonnx.artifacts.losses.functions import BY_NAME
from tgdonnx.artifacts.losses.overlap import Dice
from tgdonnx.artifacts.losses.pointwise import Focal, Huber, Pinball
from tgdonnx.errors import ArtifactsError
from tgdonnx.guides import text_of


@pytest.mark.parametrize("name", LOSSES)
def test_a_name_alone_is_a_loss_and_stays_as_it_is(name: str) -> None:
    assert [(term.weight, term.function.name) for term in parse_loss(name).terms] == [(1.0, name)]
    assert str(parse_loss(name)) == name


@pytest.mark.parametrize(
    ("text", "terms", "written"),
    [
        ("0.8*l1+0.2*ssim", [(0.8, "l1"), (0.2, "ssim")], "0.8*l1+0.2*ssim"),
        (" 1.0 * mse + ssim ", [(1, "mse"), (1, "ssim")], "mse+ssim"),
        ("1e-3*charbonnier+1E+2*bce", [(1e-3, "charbonnier"), (100, "bce")], "0.001*charbonnier+100.0*bce"),
        (".5*ce", [(0.5, "ce")], "0.5*ce"),
        ("2.*l1", [(2, "l1")], "2.0*l1"),
    ],
)
def test_sums_with_weights(text: str, terms: list[tuple[float, str]], written: str) -> None:
    assert [(term.weight, term.function.name) for term in parse_loss(text).terms] == terms
    assert str(parse_loss(text)) == written


FACTORS = st.floats(1e-300, 1e300)
ARRAYS = st.text(st.characters(codec="ascii", exclude_characters="'"), min_size=1)
FUNCTIONS_OF_VALUES = [
    st.builds(Huber, delta=FACTORS, weight=st.none() | ARRAYS),
    st.builds(Pinball, q=st.floats(0, 1, exclude_min=True, exclude_max=True)),
    st.builds(Focal, gamma=st.floats(0, 10), alpha=st.none() | st.floats(0.01, 0.99)),
    st.builds(Dice, smooth=FACTORS),
    *(st.just(BY_NAME[name]()) for name in ("mse", "l1", "bce", "charbonnier", "ssim")),
]
CE = st.builds(
    Ce,
    ignore=st.none() | st.integers(-(2**31), 2**31),
    class_weights=st.lists(FACTORS).map(tuple),
    smoothing=st.floats(0, 1, exclude_max=True),
    axis=st.none() | st.integers(-3, 3),
)


@given(st.lists(st.sampled_from(FUNCTIONS_OF_VALUES), min_size=1, unique=True), CE, st.data())
def test_what_is_written_reads_as_the_same(kinds: list[Any], classes: Ce, data: st.DataObject) -> None:
    loss = Loss(tuple(Term(data.draw(FACTORS), data.draw(kind)) for kind in kinds))
    assert parse_loss(str(loss)) == loss
    assert parse_loss(str(Loss((Term(1.0, classes),)))).functions == (classes,)


OUTPUTS = st.text(min_size=1).filter(lambda name: name == name.strip() and not ("'" in name and '"' in name))


@given(st.lists(OUTPUTS, min_size=1, unique=True))
def test_whatever_outputs_are_called_what_is_written_reads_as_the_same(names: list[str]) -> None:
    losses = (parse_loss("0.5*mse+huber(delta=2, weight='a: b, c')"), parse_loss("ce(class_weights=[1,2])"))
    criterion = Criterion(tuple(Part(name, losses[place % 2]) for place, name in enumerate(names)))
    assert parse_criterion(str(criterion)) == criterion


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, f"expected loss to be one of {', '.join(LOSSES)}, or a weighted sum")
          for text in ("", " ", "hubert", "MSE", "mse(", "(mse)",
                       "mse()l1", "l1,ssim", "l1 ssim", "l1+", "+l1", "l1++ssim", "l1*0.5", "0.5l1", "0.5",
                       "0.5*", "2*3*l1", "1_0*l1", "nan*l1", "l1-ssim", "l1+0.5", "0x1*l1", "l1;", "l1\nmse")),
        ("0*l1", "weights > 0 in the loss '0\\*l1'; got 0 for l1"),
        ("mse+-0.5*l1", "weights > 0 .*; got -0.5 for l1"),
        ("1e999*mse", "weights > 0 .*; got 1e999 for mse"),
        ("l1+0.5*l1", "every loss once; got 'l1\\+0.5\\*l1'"),
        ("ce+mse", "the losses ce and mse do not go together: the targets of one are class indices"),
        ("0.1*ssim+0.9*ce", "the losses ce and ssim do not go together"),
        ("ce(ignore=1)+class_dice", "the same ignore in all losses of one sum"),
        ("ce(axis=1)+class_dice(axis=-1)", "the same axis in all losses of one sum"),
        ("mse(weight=a)+l1(weight=b)", "one array as weight in one sum, got a and b"),
        ("ssim(delta=1)", "the loss ssim has no parameter 'delta'; it takes none"),
        ("mse(delta=1)", "the loss mse has no parameter 'delta'; expected weight"),
        ("huber(delta=1, delta=2)", "delta twice"),
        ("huber(1)", "expected parameters such as"),
        ("huber(delta=0)", "the loss huber expects delta to be a number > 0, got 0"),
        ("huber(delta=nan)", "a number > 0, got nan"),
        ("huber(delta=1e999)", "a number > 0, got 1e999"),
        ("pinball(q=1)", "the loss pinball expects q to be a number > 0 and < 1, got 1"),
        ("focal(gamma=-1)", "gamma to be a number >= 0, got -1"),
        ("focal(alpha=[1])", r"alpha to be a number > 0 and < 1, got \[1\]"),
        ("ce(ignore=0.5)", "ignore to be a whole number, got 0.5"),
        ("ce(smoothing=1)", "smoothing to be a number >= 0 and < 1, got 1"),
        ("ce(class_weights=2)", r"class_weights to be a list such as \[1, 2.5\], each a number >= 0, got 2"),
        ("ce(class_weights=[1,-2])", r"each a number >= 0, got \[1,-2\]"),
        ("ce(class_weights=[0, 0])", "class_weights of which one at least is > 0"),
        ("mse(weight=2)", "weight to be the name of an array, got 2"),
    ],
)  # fmt: skip
def test_refuses_what_is_none_and_says_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ArtifactsError, match=message):
        parse_loss(text)


@pytest.mark.parametrize(
    ("text", "shape", "limit"),
    [
        ("mse", (2, 5, 7), None),
        ("0.5*l1+ssim", (2, 5, 7), None),
        ("bce", (2, 5, 7), 1),
        ("0.5*bce+mse", (2, 5, 7), 1),
        ("ce", (2, 7), 4),
        ("0.5*ce", (2, 7), 4),
        ("ce+class_dice", (2, 7), 4),
        ("focal+dice", (2, 5, 7), 1),
    ],
)
def test_targets_are_like_the_output_but_for_ce(text: str, shape: tuple[int, ...], limit: int | None) -> None:
    loss = parse_loss(text)
    assert loss.target_shape((2, 5, 7)) == shape
    assert loss.target_limit((2, 5, 7)) == limit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("l1,mse", "expected every part of the loss 'l1,mse' to name its output, .*; 'l1' names none"),
        ("a: l1, mse", "'mse' names none"),
        ("a: l1, a: mse", "'a' is there twice"),
        (": l1", "the name of an output before the colon"),
        ("a: l1,", "expected loss to be one of"),
        ("a: b", "expected loss to be one of .*; got ' b'"),
    ],
)
def test_refuses_sums_over_outputs_that_do_not_say_which(text: str, message: str) -> None:
    with pytest.raises(ArtifactsError, match=message):
        parse_criterion(text)


@pytest.mark.parametrize(
    "text", ["l1{}x", "mse(weight={}", "ce(ignore=1{}x)", "ce(class_weights=[{}", "a{}: l1", "{}l1", "a: l1,{}"]
)
@pytest.mark.parametrize("letter", [" ", "[", "(", "'", ","])
def test_reading_takes_time_in_proportion_to_the_length_and_what_is_wrong_is_told_in_short(
    text: str, letter: str
) -> None:
    begin = time.process_time()
    said = ""
    try:
        parse_criterion(text.format(letter * 20_000))
    except ArtifactsError as error:
        said = str(error)
    assert time.process_time() - begin < 0.5
    assert len(said) < 1000


def test_some_losses_mind_the_shape_of_the_output() -> None:
    assert parse_loss("dice").output_problem((2, 3)) is not None
    assert parse_loss("class_dice").output_problem((2, 3, 4)) is None
    assert parse_loss("ce(class_weights=[1,2])").output_problem((5, 3)) == (
        "the loss ce has 2 class_weights, and the output 3 classes (axis 1); give one for each"
    )
    assert parse_loss("ce(class_weights=[1,2])").output_problem((5, 3, 2), 2) is None
    assert "expected 1 to 2, or -1 for the last" in str(parse_loss("ce(axis=3)").output_problem((5, 3, 2)))
    assert "expected 1 to 2" in str(parse_loss("ce(axis=0)").output_problem((5, 3, 2)))
    assert parse_loss("mse+l1").output_problem(None) is None
    assert parse_loss("mse+l1").output_problem((3, 4)) is None
    assert parse_loss("mse+ssim").output_problem((None, "C", 11, -1)) is None
    assert parse_loss("mse+ssim").output_problem((None, "C", 11, 10)) is not None


def test_the_guide_and_the_help_name_every_loss_as_the_table_does() -> None:
    listed = " ".join(text_of("runs").split())
    told = [f"- `{each.name}`: {each.told}." for each in FUNCTIONS]
    assert " ".join(told) in listed
    help_of_build = " ".join(run("build", "--help").output.split())
    assert f"{', '.join(LOSSES)}, or a weighted sum" in help_of_build
    assert f"for the losses {' and '.join(RANGED_LOSSES)}." in help_of_build
    assert len(set(LOSSES)) == len(FUNCTIONS)
