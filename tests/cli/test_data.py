"""`tgdonnx data`: what the model takes, what there is, all that is wrong at once, and the command that trains."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from tests.cli.commands import run, run_json, save_pairs
from tests.support.models import save
from tests.support.training_models import text_model
from tgdonnx import RunData, TrainOptions, examine

VALID = """g (float[N, 1, H, W] x) => (float[N, 1, OH, OW] y) {
    a = Conv(x, v)
    r = Relu(a)
    y = Conv(r, w)
}"""
CLASSES = """g (float[N, 1, 4, 4] x) => (float[N, 4] y) {
    a = Conv(x, v)
    y = Flatten(a)
}"""


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    return save(text_model(VALID, v=(4, 1, 3, 3), w=(1, 4, 3, 3)), tmp_path / "model.onnx")


def pictures(directory: Path, sizes: tuple[tuple[int, int], ...], kinds: tuple[str, str] = ("noisy", "clean")) -> Path:
    rng = np.random.default_rng(0)
    for number, size in enumerate(sizes):
        for kind in kinds:
            (directory / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(directory / kind / f"{number}.png")
    return directory


def proposed(result: Result) -> str:
    """The command that fits, of which there is one."""
    (line,) = (each.strip() for each in result.stdout.splitlines() if each.strip().startswith("tgdonnx finetune "))
    return line


def test_four_problems_behind_one_another_are_told_at_once_and_the_command_given_trains(
    valid: Path, tmp_path: Path
) -> None:
    data = pictures(tmp_path / "data", ((20, 24), (18, 30)))
    report = run_json("data", valid, "--data", data, "--epochs", 1, status=1)
    said = [each["problem"] for each in report["problems"]]
    assert ["found uint8 [20, 24]" in said[0], "clean" in said[1]] == [True, True]
    assert "differs in size" in said[2]
    assert "the target does not fit the output" in said[3]
    assert len(said) == 4
    assert report["options"] == {"scale": 255, "batch": 1, "accumulate": 8, "crop_target": True}
    assert (report["fits"], report["samples"]) == (True, 2)
    with Image.open(data / "noisy" / "0.png") as first:
        assert report["fed"]["x"] == pytest.approx([value / 255 for value in first.getextrema()])
    words = shlex.split(report["call"])
    assert words[:2] == ["tgdonnx", "finetune"]
    words[words.index("tuned.onnx")] = str(tmp_path / "tuned.onnx")
    result = run(*words[1:])
    assert result.exit_code == 0, result.stderr
    assert run("verify", valid, tmp_path / "tuned.onnx").exit_code == 0


def test_data_that_fits_exits_with_0_and_tells_what_is_done_to_it(valid: Path, tmp_path: Path) -> None:
    data = save_pairs(tmp_path / "data.npz", (3, 1, 12, 12), (3, 1, 8, 8))
    result = run("data", valid, "--data", data)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "  x: float32 [any, 1, any, any] NCHW (4 axes, channels before space, as ONNX has it)" in lines
    assert f"  target: float32 [3, 1, 8, 8], 1 case; the first in {data}" in lines
    assert "fits: 3 samples" in lines
    with np.load(data) as arrays:
        ranges = [f"{name} from {arrays[name].min():.4g} to {arrays[name].max():.4g}" for name in ("x", "target")]
    assert f"  The first batch has {', '.join(ranges)}; if the model was made for other numbers, see --scale." in lines
    assert lines[-2] == f"  tgdonnx finetune {valid} --data {data} -o tuned.onnx"
    # A split divides files, and this is one.
    assert lines[-1] == "  It validates on nothing: name data that is not trained on with --validation."


def test_a_problem_that_no_option_solves_is_told_with_the_others(valid: Path, tmp_path: Path) -> None:
    noisy = np.zeros((2, 1, 12, 12), np.uint8)
    data = save_pairs(tmp_path / "data.npz", (2, 1, 12, 12), (2, 1, 8, 8), x=noisy, target=np.zeros((2, 3, 8, 8), "f4"))
    result = run("data", valid, "--data", data)
    assert result.exit_code == 1
    assert "found uint8 [2, 1, 12, 12]" in result.stdout
    assert "found float32 [2, 3, 8, 8]" in result.stdout
    assert result.stdout.splitlines()[-1] == "does not fit"


def test_an_array_of_another_name_is_proposed_where_there_is_but_one(tmp_path: Path) -> None:
    two = "g (float[N, 1, H, W] x, float[N, 1, H, W] m) => (float[N, 1, OH, OW] y) { s = Add(x, m) y = Conv(s, v) }"
    model = save(text_model(two, v=(1, 1, 3, 3)), tmp_path / "two.onnx")
    data = save_pairs(tmp_path / "data.npz", (2, 1, 6, 6), (2, 1, 4, 4), mean=np.zeros((2, 1, 6, 6), np.float32))
    report = examine(model, data)
    assert report.options == {"map": {"mean": "m"}}
    assert report.fits


def test_class_indices_that_the_model_does_not_have_are_told(tmp_path: Path) -> None:
    model = save(text_model(CLASSES, v=(4, 1, 4, 4)), tmp_path / "model.onnx")
    data = save_pairs(tmp_path / "data.npz", (5, 1, 4, 4), (1,), target=np.array([0, 1, 2, 3, 7]))
    result = run("data", model, "--data", data, "--loss", "ce")
    assert result.exit_code == 1
    assert "7" in result.stdout
    assert result.stdout.splitlines()[-1] == "does not fit"


def test_too_few_classes_hide_no_other_problem_and_all_are_named_in_a_command_that_can_be_pasted(
    tmp_path: Path,
) -> None:
    network = "g (float[N, 3, 8, 9] x) => (float[N, 4] y) { a = Conv(x, v) p = GlobalAveragePool(a) y = Flatten(p) }"
    model = save(text_model(network, v=(4, 3, 3, 3)), tmp_path / "model.onnx")
    for index, name in enumerate(("owl", "snow fox")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(2):
            picture = np.full((9 + number, 9), 20 * index, np.uint8)
            Image.fromarray(picture).save(tmp_path / "pets" / name / f"{number}.png")
    report = run_json("data", model, "--data", tmp_path / "pets", "--loss", "ce", status=1)
    said = "\n".join(f"{each['problem']}; {each['remedy']}" for each in report["problems"])
    assert "--colour rgb makes pictures of that of others" in said
    assert "say how: --scale 255" in said
    assert (
        "found uint8 [9, 9, 3], which as HWC gives samples of [3, 9, 9]; --resize 8x9 brings pictures to that" in said
    )
    assert "name all 4 in the model's order, such as --classes 'owl,snow fox,class2,class3'" in said
    options = ("--scale", 255, "--colour", "rgb", "--resize", "8x9", "--classes", "owl,snow fox,class2,class3")
    result = run("data", model, "--data", tmp_path / "pets", "--loss", "ce", *options)
    assert result.exit_code == 0, result.stdout
    assert "classes 0 owl, 1 snow fox, 2 class2, 3 class3" in result.stdout
    assert "--classes 'owl,snow fox,class2,class3'" in proposed(result)


def test_every_size_is_run_before_data_is_said_to_fit(tmp_path: Path) -> None:
    network = """g (float[N, 1, H, W] x) => (float[N, 1, H, W] y) {
        p = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(x)
        t = ConvTranspose<strides=[2, 2]>(p, u)
        y = Add(t, x)
    }"""
    model = save(text_model(network, u=(1, 1, 2, 2)), tmp_path / "model.onnx")
    data = pictures(tmp_path / "data", ((8, 8), (9, 8)))
    report = run_json("data", model, "--data", data, status=1)
    assert not report["fits"]
    last = report["problems"][-1]["problem"]
    assert "cannot be run on" in last
    assert "samples of another size went through: bring those of [1, 1, 9, 8] to a size that" in str(
        report["problems"][-1]
    )
    report = run_json("data", model, "--data", data, "--patch", 4, status=1)
    assert report["fits"]


def test_labels_for_an_output_of_several_channels_are_told_to_be_class_indices_perhaps(tmp_path: Path) -> None:
    network = "g (float[N, 1, H, W] x) => (float[N, 4, H, W] y) { y = Conv(x, v) }"
    model = save(text_model(network, v=(4, 1, 1, 1)), tmp_path / "model.onnx")
    data = pictures(tmp_path / "data", ((8, 9),), ("x", "labels"))
    problems = run_json("data", model, "--data", data, status=1)["problems"]
    assert "gives samples of [1, 8, 9]; if these are class indices, build with --loss ce" in problems[-1]["problem"]


def test_nothing_is_written(valid: Path, tmp_path: Path) -> None:
    data = save_pairs(tmp_path / "data.npz", (3, 1, 12, 12), (3, 1, 8, 8))
    before = sorted(tmp_path.rglob("*"))
    examine(valid, RunData(data), TrainOptions(epochs=1))
    assert sorted(tmp_path.rglob("*")) == before


def test_finetune_tells_all_that_is_wrong_and_with_which_options_it_fits(valid: Path, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", ((20, 24), (18, 30)))
    result = run("finetune", valid, "--data", data, "--all", "--epochs", 1, "-o", tmp_path / "tuned.onnx")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert sum(line.startswith("Also: ") for line in lines) == 3
    assert lines[-1] == "It fits with --scale 255 --batch 1 --accumulate 8 --crop-target."
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data", "model.onnx"]


@pytest.mark.parametrize(("channels", "size", "colour"), [(3, (8, 9), "rgb"), (1, (8, 9, 3), "grey")])
def test_pictures_and_their_targets_of_another_colour_are_proposed_that_of_the_model(
    tmp_path: Path, channels: int, size: tuple[int, ...], colour: str
) -> None:
    network = f"g (float[N, {channels}, H, W] x) => (float[N, {channels}, H, W] y) {{ y = Conv(x, v) }}"
    model = save(text_model(network, v=(channels, channels, 1, 1)), tmp_path / "model.onnx")
    for kind in ("x", "target"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        Image.fromarray(np.full(size, 7, np.uint8)).save(tmp_path / "data" / kind / "a.png")
    report = examine(model, tmp_path / "data")
    assert report.options == {"scale": 255, "colour": colour}
    assert report.fits


def test_a_mask_of_one_channel_stays_one_beside_pictures_that_become_colour(tmp_path: Path) -> None:
    network = "g (float[N, 3, H, W] x) => (float[N, 1, H, W] y) { y = Conv(x, v) }"
    model = save(text_model(network, v=(1, 3, 1, 1)), tmp_path / "model.onnx")
    for kind in ("x", "target"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        Image.fromarray(np.full((8, 9), 7, np.uint8)).save(tmp_path / "data" / kind / "a.png")
    report = examine(model, tmp_path / "data")
    assert report.options == {"scale": 255, "colour": "rgb"}
    assert report.fits


def test_options_of_several_inputs_are_given_once_for_each(tmp_path: Path) -> None:
    network = "g (float[N, 3, H, W] x) => (float[N, 3, H, W] y) { y = Conv(x, v) }"
    model = save(text_model(network, v=(3, 3, 1, 1)), tmp_path / "model.onnx")
    data = save_pairs(tmp_path / "data.npz", (2, 5, 6, 3), (2, 5, 6, 3))
    result = run("data", model, "--data", data)
    assert result.exit_code == 1
    words = shlex.split(proposed(result))
    assert [words[n + 1] for n, word in enumerate(words) if word == "--layout"] == ["x=NHWC", "target=NHWC"]
    words[words.index("tuned.onnx")] = str(tmp_path / "tuned.onnx")
    assert run(*words[1:], "--epochs", 1).exit_code == 0


def test_options_that_were_given_stay_in_the_command_as_they_were_given(tmp_path: Path) -> None:
    network = "g (float[N, 3, H, W] x) => (float[N, 4] y) { a = Conv(x, v) p = GlobalAveragePool(a) y = Flatten(p) }"
    model = save(text_model(network, v=(4, 3, 3, 3)), tmp_path / "model.onnx")
    for index, name in enumerate(("owl", "fox")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.fromarray(np.full((8, 9, 3), 20 * index, np.uint8)).save(tmp_path / "pets" / name / "a b.png")
    (tmp_path / "names.txt").write_text("owl\nfox\ncat\ndog\n")
    given = (
        *(
            "--data",
            tmp_path / "pets",
            "--classes",
            tmp_path / "names.txt",
            "--loss",
            "ce(smoothing=0.1)",
            "--scale",
            "255",
        ),
        *("--mean", "0.5,0.4,0.5", "--std", "0.5,0.5,0.5", "--augment", "flips,rotations", "--patch", "8"),
        *("--metric", "accuracy", "--validation", tmp_path / "pets", "--epochs", "1", "--batch", "1"),
    )
    result = run("data", model, *given)
    assert result.exit_code == 0, result.stdout
    words = shlex.split(proposed(result))
    assert set(map(str, given)) <= set(words)
    words[words.index("tuned.onnx")] = str(tmp_path / "tuned.onnx")
    result = run(*words[1:])
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("dtype", ["f8", "?", "i4"])
def test_numbers_of_another_type_are_proposed_to_be_taken_as_they_are(valid: Path, tmp_path: Path, dtype: str) -> None:
    given, target = np.zeros((3, 1, 12, 12), dtype), np.zeros((3, 1, 8, 8), dtype)
    report = examine(valid, save_pairs(tmp_path / "data.npz", (1,), (1,), x=given, target=target))
    assert report.options == {"scales": {"x": 1, "target": 1}}
    assert report.fits


def test_complex_numbers_are_proposed_nothing(valid: Path, tmp_path: Path) -> None:
    report = examine(
        valid, save_pairs(tmp_path / "data.npz", (1,), (3, 1, 8, 8), x=np.zeros((3, 1, 12, 12), np.complex64))
    )
    assert not report.fits
    assert (report.options, report.problems[0].problem[-12:]) == ({}, "; convert it")


def test_a_batch_that_the_model_fixes_is_proposed(tmp_path: Path) -> None:
    network = "g (float[4, 1, H, W] x) => (float[4, 1, H, W] y) { y = Conv(x, v) }"
    model = save(text_model(network, v=(1, 1, 1, 1)), tmp_path / "model.onnx")
    report = examine(model, save_pairs(tmp_path / "data.npz", (8, 1, 6, 6), (8, 1, 6, 6)))
    assert report.options == {"batch": 4, "accumulate": 2}
    assert report.fits


HALF = "g (float[N, 1, H, W] x) => (float[N, 1, OH, OW] y) { y = Conv<strides=[2, 2]>(x, v) }"


@pytest.mark.parametrize(
    ("network", "kernel", "size", "target", "said"),
    [
        (
            "g (float[N, 1, H, W] x) => (float[N, 1, H, W] y) { y = Conv(x, v) }",
            1,
            16,
            32,
            "neither of an input's size nor",
        ),
        (VALID, 3, 12, 16, "neither of an input's size nor"),
        ("g (float[N, 1, H, W] x) => (float[N, 1, OH, OW] y) { y = Conv(x, v) }", 4, 12, 12, "an odd number"),
        (HALF, 2, 16, 16, "no part of the input but another picture of it"),
    ],
)
def test_targets_are_not_cut_where_it_is_not_known_which_part_an_output_shows(
    tmp_path: Path, network: str, kernel: int, size: int, target: int, said: str
) -> None:
    tensors = (
        {"v": (1, 1, kernel, kernel)} if "w" not in network.split("=>")[1] else {"v": (4, 1, 3, 3), "w": (1, 4, 3, 3)}
    )
    model = save(text_model(network, **tensors), tmp_path / "model.onnx")
    data = save_pairs(tmp_path / "data.npz", (3, 1, size, size), (3, 1, target, target))
    result = run("data", model, "--data", data, "--crop-target")
    assert result.exit_code == 1
    assert said in result.stdout
    assert result.stdout.splitlines()[-1] == "does not fit"


def test_class_folders_are_told_from_folders_of_arrays_if_the_loss_is_of_values(tmp_path: Path) -> None:
    model = save(text_model(CLASSES, v=(4, 1, 4, 4)), tmp_path / "model.onnx")
    data = pictures(tmp_path / "data", ((4, 4), (4, 4)), ("cat", "dog"))
    (data / "dog" / "0.png").rename(data / "dog" / "2.png")
    result = run("data", model, "--data", data)
    assert result.exit_code == 1
    assert "if these are folders of classes, build with --loss ce" in result.stdout


def test_what_lies_beside_the_data_and_fits_is_proposed_to_validate_on(valid: Path, tmp_path: Path) -> None:
    data = save_pairs(tmp_path / "scans_train.npz", (3, 1, 12, 12), (3, 1, 8, 8))
    save_pairs(tmp_path / "scans_val.npz", (2, 1, 12, 12), (2, 1, 12, 12))  # does not fit
    save_pairs(tmp_path / "test.npz", (2, 1, 12, 12), (2, 1, 8, 8))
    save_pairs(tmp_path / "strain.npz", (2, 1, 12, 12), (2, 1, 8, 8))
    result = run("data", valid, "--data", data)
    assert result.exit_code == 0, result.stderr
    assert f"--validation {tmp_path / 'test.npz'} " in proposed(result)
    assert (
        f"{tmp_path / 'scans_val.npz'} lies beside the data, but does not fit: the target does not fit" in result.stdout
    )
    save_pairs(tmp_path / "scans_val.npz", (2, 1, 12, 12), (2, 1, 8, 8))
    report = run_json("data", valid, "--data", data)
    assert report["held_out"] == {"validation": str(tmp_path / "scans_val.npz")}
    given = run_json("data", valid, "--data", data, "--validation", tmp_path / "test.npz")
    assert given["held_out"] == {}
    assert given["call"].count("--validation") == 1
    words = shlex.split(report["call"])
    words[words.index("tuned.onnx")] = str(tmp_path / "tuned.onnx")
    assert run(*words[1:], "--epochs", 1, "--all").exit_code == 0


def test_folders_of_parts_are_found_and_else_a_fraction_of_the_files_is_proposed(valid: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "Train", ((20, 20), (20, 20)), ("x", "target"))
    options = ("--scale", 255, "--crop-target")
    report = run_json("data", valid, "--data", tmp_path / "Train", *options)
    assert report["held_out"] == {"validation_split": 0.5}  # a fifth of two files is none
    assert "--validation-split 0.5" in report["call"]
    pictures(tmp_path / "valid", ((20, 20),), ("x", "target"))
    report = run_json("data", valid, "--data", tmp_path / "Train", *options)
    assert report["held_out"] == {"validation": str(tmp_path / "valid")}


def classes_of(directory: Path, *names: str) -> Path:
    for name in names:
        (directory / name).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(directory / name / "0.png")
    return directory


TWO = "g (float[N, 1, H, W] x, float[N, 1, H, W] m) => (float[N, 1, OH, OW] y) { s = Add(x, m) y = Conv(s, v) }"


@pytest.mark.parametrize(
    "case", ["as it is", "with options", "wrong target", "no target", "an input missing", "too few classes", "too many"]
)
def test_the_verdict_and_the_exit_status_agree(case: str, tmp_path: Path) -> None:
    plain = save(text_model(VALID, v=(4, 1, 3, 3), w=(1, 4, 3, 3)), tmp_path / "plain.onnx")
    two = save(text_model(TWO, v=(1, 1, 3, 3)), tmp_path / "two.onnx")
    four = save(text_model(CLASSES, v=(4, 1, 4, 4)), tmp_path / "four.onnx")
    classifying = ("--loss", "ce", "--scale", 255, "--colour", "grey")
    model, data, options, verdict = {
        "as it is": (plain, save_pairs(tmp_path / "a.npz", (3, 1, 12, 12), (3, 1, 8, 8)), (), "fits: "),
        "with options": (
            plain,
            save_pairs(tmp_path / "b.npz", (3, 1, 12, 12), (3, 1, 12, 12)),
            (),
            "does not fit as it is; ",
        ),
        "wrong target": (plain, save_pairs(tmp_path / "c.npz", (3, 1, 12, 12), (3, 2, 8, 8)), (), "does not fit"),
        "no target": (plain, save_without(tmp_path / "d.npz"), (), "does not fit"),
        "an input missing": (two, save_pairs(tmp_path / "e.npz", (2, 1, 6, 6), (2, 1, 4, 4)), (), "does not fit"),
        "too few classes": (four, classes_of(tmp_path / "f", "a", "b"), classifying, "does not fit"),
        "too many": (four, classes_of(tmp_path / "g", *"abcde"), classifying, "does not fit"),
    }[case]
    result = run("data", model, "--data", data, *options)
    said = [line for line in result.stdout.splitlines() if line.startswith(("fits", "does not fit"))]
    assert len(said) == 1, result.output
    assert said[0] == verdict if verdict == "does not fit" else said[0].startswith(verdict)
    assert result.exit_code == (0 if verdict == "fits: " else 1)
    assert ("tgdonnx finetune" in result.stdout) == (verdict != "does not fit")


def save_without(path: Path) -> Path:
    np.savez(path, x=np.zeros((3, 1, 12, 12), np.float32))
    return path
