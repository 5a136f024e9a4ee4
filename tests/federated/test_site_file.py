"""The file of a site: where its artifacts and its data are."""

from __future__ import annotations

from pathlib import Path

import pytest

import tgdonnx
from tgdonnx.errors import DataError
from tgdonnx.federated.site_file import read_site, site_of_partition

LEAST = 'name = "north"\nartifacts = "a"\ndata = "train.npz"\n'


def write(folder: Path, text: str, name: str = "site.toml") -> Path:
    (folder / name).write_text(text, "utf-8")
    return folder / name


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = (
        LEAST
        + 'validation = "v"\nretain = "/data/old"\nruns = "../runs"\n[reading]\npatch = [8, 8]\naugment = ["flips"]\n'
    )
    site = read_site(write(tmp_path, text))
    assert (site.name, site.artifacts, site.runs) == ("north", tmp_path / "a", tmp_path / "../runs")
    assert (site.data.data, site.data.validation, site.data.retain) == (
        tmp_path / "train.npz",
        tmp_path / "v",
        Path("/data/old"),
    )
    assert site.data.reading == tgdonnx.DataOptions(patch=(8, 8), augment=("flips",))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('name = "north"\n', "missing required field `artifacts`"),
        (LEAST.replace("north", ""), r"`\$.name`"),
        (LEAST + "validate = 1\n", "unknown field `validate`"),
        (
            LEAST + "[reading]\npatches = [8, 8]\n",
            r"`reading` has no 'patches'; expected fields of `tgdonnx.DataOptions`",
        ),
        (LEAST + "[reading]\npatch = 8\n", "Expected `array"),
        (LEAST + "[reading]\npatch = [0, 8]\n", "expected a patch such as 64x64"),
        (LEAST + 'device = "tpu"\n', "tpu"),
        ("name = \n", "is no file of a site"),
    ],
)
def test_what_says_something_else_is_refused_with_its_name(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told) as caught:
        read_site(write(tmp_path, text))
    assert str(tmp_path / "site.toml") in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"site\.toml is no file of a site"):
        read_site(tmp_path / "site.toml")


def test_files_in_one_directory_keep_their_runs_apart(tmp_path: Path) -> None:
    sites = [read_site(write(tmp_path, LEAST, name)) for name in ("a.toml", "b.toml")]
    assert [site.runs for site in sites] == [tmp_path / "runs" / "a", tmp_path / "runs" / "b"]


def test_simulated_sites_are_the_files_of_a_directory_in_the_order_of_their_names(tmp_path: Path) -> None:
    files = [write(tmp_path, LEAST, name) for name in ("a.toml", "b.toml")]
    write(tmp_path, LEAST, "c.txt")
    assert [site_of_partition(tmp_path, place) for place in (0, 1)] == files
    with pytest.raises(DataError, match=r"has 2 files of sites \(\*\.toml\), and site 3 is asked for"):
        site_of_partition(tmp_path, 2)
