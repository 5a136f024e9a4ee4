"""tgdonnx batch: files of jobs, and all that is wrong with one at once."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.batching.studies import save_study
from tests.cli.commands import run, run_json
from tgdonnx.cli.job_files import JobFile, read_jobs
from tgdonnx.errors import DataError


@pytest.fixture
def studies(tmp_path: Path, vendor: Path) -> Path:
    """Two studies beside the vendor's model."""
    for number in (1, 2):
        save_study(tmp_path / f"s{number}.npz", number)
    assert vendor.parent == tmp_path
    return tmp_path


ROWS = [{"name": "a", "data": "s1.npz", "last": 1, "steps": 2}, {"name": "b", "data": "s2.npz", "last": 2, "steps": 3}]
FORMS = {
    "jobs.csv": "name,data,last,steps\na,s1.npz,1,2\nb,s2.npz,2,3\n",
    "excel.csv": "\ufeffname;data;last;steps\r\na;s1.npz;1;2\r\nb;s2.npz;2;3\r\n;;;\r\n",
    "jobs.tsv": "name\tdata\tlast\tsteps\na\ts1.npz\t1\t2\nb\ts2.npz\t2\t3\n",
    "jobs.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "jobs.toml": "[defaults]\nlast = 1\nsteps = 2\n[[job]]\nname = 'a'\ndata = 's1.npz'\n"
    "[[job]]\nname = 'b'\ndata = 's2.npz'\nlast = 2\nsteps = 3\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_file_of_jobs_says_the_same(form: str, studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (studies / form).write_text(FORMS[form], encoding="utf-8", newline="")
    elsewhere = studies / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)  # paths in the file are from where it lies, those of the command line from here
    report = run_json("batch", f"../{form}", "-o", "out", "--model", "../vendor.onnx", "--batch", 2)
    assert [(each["name"], each["state"], each["error"]) for each in report["jobs"]] == [
        ("a", "done", ""),
        ("b", "done", ""),
    ]
    assert [each["steps"] for each in report["jobs"]] == [2, 3]
    options = [json.loads((elsewhere / "out" / name / "job.json").read_text())["options"] for name in "ab"]
    assert [each["strategy.last"] for each in options] == ["1", "2"]
    assert {each["training.batch"] for each in options} == {"2"}


def test_a_row_wins_over_the_command_line_and_that_over_the_defaults_of_the_file(studies: Path) -> None:
    (studies / "jobs.toml").write_text(
        "[defaults]\nmodel = 'vendor.onnx'\nphi = 0.3\nepochs = 7\nbatch = 3\nlearning_rate = 1e-4\n"
        "[[job]]\nname = 'a'\ndata = 's1.npz'\nsteps = 2\nlast = 1\n[[job]]\nname = 'b'\ndata = 's2.npz'\n"
    )
    run_json("batch", studies / "jobs.toml", "-o", studies / "out", "--epochs", 1, "--batch", 2)
    options = [json.loads((studies / "out" / name / "job.json").read_text())["options"] for name in "ab"]
    assert options[0]["strategy"] == '"LastLayers"'
    assert (options[0]["training.steps"], options[0].get("training.epochs")) == ("2", None)
    assert options[1]["strategy"] == '"Phi"'
    assert options[1]["training.epochs"] == "1"
    assert {each["training.batch"] for each in options} == {"2"}
    assert {each["training.learning_rate"] for each in options} == {"0.0001"}


def test_pairs_of_noisy_images_are_two_columns_or_a_list(studies: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "xy":
        np.save(studies / f"{name}.npy", rng.random((12, 9, 8), np.float32))
    (studies / "jobs.csv").write_text("name,noise2noise_a,noise2noise_b,data\na,x.npy,y.npy,\n")
    (studies / "jobs.jsonl").write_text(json.dumps({"name": "a", "noise2noise": ["x.npy", "y.npy"]}))
    for form in ("csv", "jsonl"):
        report = run_json(
            "batch", studies / f"jobs.{form}", "-o", studies / form, "--model", studies / "vendor.onnx", "--last", 1,
            *("--steps", 2, "--layout", "DHW", "--data", studies / "s1.npz"),
        )  # fmt: skip
        assert [(each["state"], each["error"]) for each in report["jobs"]] == [("done", "")]
    tuned = [(studies / form / "a" / "tuned.onnx").read_bytes() for form in ("csv", "jsonl")]
    assert tuned[0] == tuned[1]


FAULTS = {
    "a name twice": ({"name": "A"}, "row 3, 'A': the name is taken by 'a' in row 2"),
    "a name that leaves the directory": ({"name": "../b"}, "row 3, '../b': the name is to be that of a directory"),
    "a name from the root": ({"name": "/tmp/b"}, "the name is to be that of a directory"),
    "a formula": ({"name": "=1+1"}, "the name is to be that of a directory"),
    "no name": ({"name": ""}, "row 3, '': the name is missing"),
    "a name of ours": ({"name": "summary.csv"}, "the name is taken by the batch itself"),
    "no such data": ({"data": "s22.npz"}, "s22.npz does not exist; did you mean 's2.npz'?"),
    "no such directory": ({"data": "nowhere/s2.npz"}, "nowhere is missing"),
    "no such model": ({"model": "vendr.onnx"}, "vendr.onnx does not exist; did you mean 'vendor.onnx'?"),
    "no model": ({"model": "s1.npz"}, "s1.npz is no ONNX model"),
    "a number that is none": ({"steps": "many"}, "row 3, 'b': Invalid value for '--steps'"),
    "two selections": ({"phi": "0.3"}, "expected exactly one of"),
    "too many layers": ({"last": "99"}, "99"),
    "a loss that is unknown": ({"loss": "mes"}, "mes"),
    "a result elsewhere": (
        {"apply": "s1.npz", "applied": "../x.npy"},
        "applied '../x.npy' is to be the name of a file",
    ),
    "a result in place of the model": ({"apply": "s1.npz", "applied": "tuned.onnx"}, "the name of another file"),
    "nothing to apply to": ({"applied": "x.npy"}, "there is nothing to apply the tuned model to"),
    "data in the directory": ({"data": "out/s2.npz"}, "which the batch writes; keep it elsewhere"),
    "criteria that are missing": ({"acceptance": "criteria.toml"}, "criteria.toml does not exist"),
    "a device that is none": ({"device": "gpu"}, "expected a device such as cpu"),
    "a pair that is split": (
        {"data": "", "noise2noise-a": "s1.npz", "noise2noise-b": "s2.npz", "validation-split": "0.2"},
        "of two noisy images a part is held out already",
    ),
    "patience without validation": ({"patience": "3"}, "patience counts validations, and there is no validation data"),
    "rounds that are none": ({"rounds": "0"}, "expected at least 1 round, got 0"),
    "an option out of range": ({"momentum": "2"}, "row 3, 'b': expected a momentum of at least 0 and less than 1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_with_a_fault_is_named_and_nothing_is_written(fault: str, studies: Path) -> None:
    changed, said = FAULTS[fault]
    if "out/" in str(changed):
        (studies / "out").mkdir()
        (studies / "out" / "batch.json").write_text("{}")
        save_study(studies / "out" / "s2.npz", 2)
    rows = [{"name": "a", "data": "s1.npz", "last": "1"}, {"name": "b", "data": "s2.npz", "last": "1", **changed}]
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([row.get(name, "") for name in names] for row in rows)]
    (studies / "jobs.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    before = sorted(studies.rglob("*"))
    done = run("batch", studies / "jobs.csv", "-o", studies / "out", "--model", studies / "vendor.onnx")
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(studies.rglob("*")) == before


def test_all_faults_are_told_at_once_each_with_its_rows(studies: Path) -> None:
    (studies / "jobs.csv").write_text(
        "name,data,lsat,steps\na,s1.npz,1,2\na,s9.npz,1,x\n../c,s9.npz,1,2\nd,s9.npz,1,2\nragged\n"
    )
    done = run("batch", studies / "jobs.csv", "-o", studies / "out", "--model", studies / "vendor.onnx", "--last", 1)
    lines = [line.partition(": ")[2].replace(f"{studies}/", "") for line in done.stderr.splitlines()]
    assert done.exit_code == 2
    assert lines[:3] == [
        "jobs.csv, row 6 has 1 cells; expected 4",
        "jobs.csv, row 2: unknown option 'lsat'; did you mean 'last'?",
        "jobs.csv, row 3, 'a': Invalid value for '--steps': 'x' is not a valid integer.",
    ]
    assert any(line.startswith("row 4, '../c': the name is to be") for line in lines[3:])
    assert any(line.startswith("row 4, '../c'; row 5, 'd': data s9.npz does not exist") for line in lines[3:])
    assert not (studies / "out").exists()


def test_a_job_that_fails_gives_status_1_after_all_ran(studies: Path) -> None:
    save_study(studies / "s1.npz", 1, channels=4)
    (studies / "jobs.csv").write_text("name,data\na,s1.npz\nb,s2.npz\n")
    command = ("batch", studies / "jobs.csv", "-o", studies / "out", "--model", studies / "vendor.onnx", "--last", 1)
    done = run(*command, "--steps", 2)
    assert done.exit_code == 1
    assert [line for line in done.stderr.splitlines() if line.strip()] == ["a failed"]
    assert "found float32 [4, 4, 7, 8]" in done.stdout
    assert "2 jobs: 1 failed, 1 done" in done.stdout or "2 jobs: 1 done, 1 failed" in done.stdout
    report = run_json(*command, "--steps", 2, status=1)
    assert [(each["name"], each["state"], each["earlier"]) for each in report["jobs"]] == [
        ("a", "failed", False),
        ("b", "done", True),
    ]


def test_another_directory_is_not_taken_for_that_of_a_batch(studies: Path) -> None:
    (studies / "jobs.csv").write_text("name,data\na,s1.npz\n")
    done = run("batch", studies / "jobs.csv", "-o", studies, "--model", studies / "vendor.onnx", "--last", 1)
    assert done.exit_code == 2
    assert "holds other files than those of a batch" in done.stderr


NO_JOBS = {
    "empty.csv": (b"", "is empty"),
    "header.csv": (b"name,data\n", "holds no job"),
    "twice.csv": (b"name,name\na,b\n", "two columns 'name'"),
    "unnamed.csv": (b"name,,data,\na,b,c,\n", "row 2"),
    "quote.csv": (b'name,data\n"a,b\n', "cannot be read"),
    "latin.csv": ("name,data\nMüller,b\n".encode("latin-1"), "save it as `CSV UTF-8`"),
    "utf16.csv": ("name,data\na,b\n".encode("utf-16"), "is no UTF-8 text"),
    "lines.jsonl": (b'{"name": "a"\n[1]\n{"name": "b", "name": "c"}\n', "line 1 is no JSON"),
    "deep.jsonl": (b"[" * 100_000, "nested too deeply"),
    "other.toml": (b"[jobs]\n", "expected [defaults] and [[job]]"),
    "table.toml": (b"job = 3\n", "every job as a [[job]]"),
    "jobs.xlsx": (b"PK", "ends in .csv, .tsv, .jsonl, .toml"),
}


@pytest.mark.parametrize("name", NO_JOBS)
def test_a_file_that_is_no_list_of_jobs_is_refused_in_a_sentence(name: str, tmp_path: Path, vendor: Path) -> None:
    content, said = NO_JOBS[name]
    (tmp_path / name).write_bytes(content)
    done = run("batch", tmp_path / name, "-o", tmp_path / "out", "--model", vendor, "--last", 1)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([".csv", ".tsv", ".jsonl", ".toml"]))
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path_factory: Any, content: bytes, suffix: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"jobs{suffix}"
    path.write_bytes(content)
    found = JobFile(problems=["refused"])
    with suppress(DataError):  # anything else is a fault of ours
        found = read_jobs(path)
    assert found.rows or found.problems
    assert all(isinstance(row.values, dict) for row in found.rows)
