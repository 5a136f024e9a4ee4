"""Workers of other machines are asked, before anything is done, whether they see what is seen here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable

import pytest

from tgdonnx.cluster import Cluster, likeness, require_alike
from tgdonnx.cluster.likeness import Sight, look
from tgdonnx.errors import ClusterError, OutputError


@dataclass
class Client:
    """A scheduler with one worker, which sees what is here, but for what is changed."""

    change: Callable[[Sight], Sight] = lambda sight: sight
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def run(self, function: Any, paths: tuple[str, ...], mark: str) -> dict[str, Sight]:
        assert function is look
        self.asked.append(paths)
        return {"tcp://far:1": self.change(look(paths, mark))}


def files(folder: Path) -> list[object]:
    (folder / "model.onnx").write_bytes(b"model" * 1000)
    (folder / "data").mkdir()
    (folder / "data" / "a.png").write_bytes(b"picture")
    return [folder / "model.onnx", str(folder / "data"), {"x": "an array in memory"}, None]


def test_workers_that_see_the_same_are_taken_and_nothing_is_left(tmp_path: Path) -> None:
    client = Client()
    reads = files(tmp_path)
    require_alike(Cluster(client, "far", local=False), reads, tmp_path / "new" / "out")
    assert client.asked == [(str(tmp_path / "model.onnx"), str(tmp_path / "data"))]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "model.onnx"]


def test_processes_of_this_machine_are_not_asked(tmp_path: Path) -> None:
    require_alike(Cluster(None, "here", local=True), files(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda sight: replace(sight, versions={**sight.versions, "onnx": "0.0.1"}),
            r"^worker tcp://far:1 has onnx 0\.0\.1, here it is .*; install the same versions on all machines$",
        ),
        (
            lambda sight: replace(sight, versions={k: v for k, v in sight.versions.items() if k != "numpy"}),
            r"^worker tcp://far:1 has numpy not installed, here it is ",
        ),
        (
            lambda sight: replace(sight, files=dict.fromkeys(sight.files)),
            r"^for worker tcp://far:1 .*model\.onnx is not there; workers need the same files under the same paths$",
        ),
        (
            lambda sight: replace(sight, files={path: f"{seen}0" for path, seen in sight.files.items()}),
            r"^for worker tcp://far:1 .*model\.onnx has 5,000 bytes, \w+, here 5,000 bytes, ",
        ),
        (
            lambda sight: replace(sight, writable=False),
            r"^worker tcp://far:1 cannot write to .* workers need a file system in common, for the output$",
        ),
    ],
)
def test_what_differs_is_said(change: Callable[[Sight], Sight], message: str, tmp_path: Path) -> None:
    reads = files(tmp_path)
    with pytest.raises(ClusterError, match=message):
        require_alike(Cluster(Client(change), "far", local=False), reads, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "model.onnx"]


def test_another_file_of_the_same_size_and_another_file_in_a_directory_are_seen(tmp_path: Path) -> None:
    files(tmp_path)
    paths = (str(tmp_path / "model.onnx"), str(tmp_path / "data"))
    before = look(paths, "").files
    (tmp_path / "model.onnx").write_bytes(b"nodel" * 1000)
    (tmp_path / "data" / "b.png").touch()
    after = look(paths, "").files
    assert all(before[path] != after[path] for path in paths)


def test_of_large_files_both_ends_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "_HASHED", 4)
    file = tmp_path / "data.npz"
    seen = set()
    for content in (b"0123456789", b"x123456789", b"012345678x", b"01234567890"):
        file.write_bytes(content)
        seen.add(look((str(file),), "").files[str(file)])
    assert len(seen) == 4


def test_a_place_that_cannot_be_written_from_here_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "touch", refused)
    with pytest.raises(OutputError, match=f"^{tmp_path} cannot be written: Permission denied$"):
        require_alike(Cluster(Client(), "far", local=False), [], tmp_path / "out")
