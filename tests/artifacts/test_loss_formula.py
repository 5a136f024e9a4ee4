"""How losses are written, and what they ask of targets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.commands import run
from tgdonnx.artifacts.losses import FUNCTIONS, LOSSES, RANGED_LOSSES, Loss, Term, parse_loss
from tgdonnx.errors import ArtifactsError
from tgdonnx.guides import text_of


@pytest.mark.parametrize("name", LOSSES)
def test_a_name_alone_is_a_loss_and_stays_as_it_is(name: str) -> None:
    assert parse_loss(name).terms == (Term(1.0, name),)
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
    assert [(term.weight, term.name) for term in parse_loss(text).terms] == terms
    assert str(parse_loss(text)) == written


@given(
    st.lists(st.sampled_from([name for name in LOSSES if name != "ce"]), min_size=1, unique=True).flatmap(
        lambda names: st.tuples(*(st.tuples(st.floats(1e-300, 1e300), st.just(name)) for name in names))
    )
)
def test_what_is_written_reads_as_the_same(terms: tuple[tuple[float, str], ...]) -> None:
    loss = Loss(tuple(Term(*term) for term in terms))
    assert parse_loss(str(loss)) == loss


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, f"expected loss to be one of {', '.join(LOSSES)}, or a weighted sum")
          for text in ("", " ", "huber", "MSE", "l1,ssim", "l1 ssim", "l1+", "+l1", "l1++ssim", "l1*0.5", "0.5l1", "0.5",
                       "0.5*", "2*3*l1", "1_0*l1", "nan*l1", "l1-ssim", "l1+0.5", "0x1*l1", "l1;", "l1\nmse")),
        ("0*l1", "weights > 0 in the loss '0\\*l1'; got 0 for l1"),
        ("mse+-0.5*l1", "weights > 0 .*; got -0.5 for l1"),
        ("1e999*mse", "weights > 0 .*; got 1e999 for mse"),
        ("l1+0.5*l1", "every loss once; got 'l1\\+0.5\\*l1'"),
        ("ce+mse", "ce goes with no other: its targets are class indices"),
        ("0.1*ssim+0.9*ce", "ce goes with no other"),
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
    ],
)
def test_targets_are_like_the_output_but_for_ce(text: str, shape: tuple[int, ...], limit: int | None) -> None:
    loss = parse_loss(text)
    assert loss.target_shape((2, 5, 7)) == shape
    assert loss.target_limit((2, 5, 7)) == limit


def test_only_ssim_minds_the_shape_of_the_output() -> None:
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
