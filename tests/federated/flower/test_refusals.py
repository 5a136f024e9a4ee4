"""A site that sends what does not count is refused by name, and the round goes on without it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

import tgdonnx
from tests.federated.flower.local_grid import LocalGrid
from tests.federated.flower.runs import many, run
from tests.federated.sites import artifacts, data, make_site
from tgdonnx.errors import FederationError
from tgdonnx.federated.history import RoundHistory
from tgdonnx.federated.messages import evaluated_reply, read_request, trained_reply
from tgdonnx.federated.site import Evaluated, Trained

pytestmark = pytest.mark.federated
SIZES = {"north": 4, "south": 6, "west": 4}
WEST = 98
Change = Callable[[RecordDict], None]


def training(change: Change) -> Callable[[Message], Message]:
    """What becomes of an answer: one of training is changed."""

    def tamper(message: Message) -> Message:
        if "arrays" in message.content:
            change(message.content)
        return message

    return tamper


def array(make: Callable[[Any], Any]) -> Change:
    def change(content: RecordDict) -> None:
        arrays = dict(content["arrays"])
        name = next(iter(arrays))
        arrays[name] = Array(make(arrays[name].numpy().copy()))
        content["arrays"] = ArrayRecord(arrays)

    return change


def nan_in(values: Any) -> Any:
    values[3] = np.nan
    return values


def unreadable(content: RecordDict) -> None:
    arrays = dict(content["arrays"])
    name = next(iter(arrays))
    arrays[name] = Array(np.zeros(2, np.float32))
    arrays[name].data = b"no array of numpy"
    content["arrays"] = ArrayRecord(arrays)


def about(**more: Any) -> Change:
    return lambda content: content["site"].update(more)


def metrics(**more: Any) -> Change:
    return lambda content: content["metrics"].update({name.replace("_", "-"): value for name, value in more.items()})


def without(key: str) -> Change:
    return lambda content: content.pop(key) and None


REFUSED: dict[str, tuple[Change, str]] = {
    "NaN": (array(nan_in), "it sent NaN, infinity or what float32 does not hold in '"),
    "infinity": (array(lambda a: np.full_like(a, np.inf)), "it sent NaN, infinity"),
    "another shape": (array(lambda a: a[:-1]), "of shape ["),
    "two axes": (array(lambda a: a[None]), "of shape [1, "),
    "whole numbers": (array(lambda a: a.astype(np.int32)), "as int32 of shape"),
    "what is no array": (unreadable, "arrays that cannot be read"),
    "an array fewer": (lambda c: c["arrays"].pop(next(iter(c["arrays"]))) and None, "it sent nothing of '"),
    "other masks": (about(masks="0" * 64), "it has other masks"),
    "another base model": (about(base="0" * 64), "it has another base model"),
    "other options": (about(options="0" * 64), "it has other build options"),
    "no samples": (metrics(num_examples=0), "it says that it has 0 samples"),
    "samples below 0": (metrics(num_examples=-3), "it says that it has -3 samples"),
    "half a sample": (metrics(num_examples=1.5), "it says that it has 1.5 samples"),
    "samples without end": (metrics(num_examples=2**63), f"it says that it has {2**63} samples"),
    "no arrays": (without("arrays"), "it sent no reply of ours"),
    "no metrics": (without("metrics"), "it sent no reply of ours"),
    "a preparation that is none": (about(preparation="{"), "it sent no reply of ours"),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifacts(tmp_path_factory.mktemp("built"))


def server_of(tmp_path: Path) -> Path:
    return artifacts(tmp_path / "server")


def one_round(tmp_path: Path, grid: LocalGrid, **config: Any) -> RoundHistory:
    history = run(grid, server_of(tmp_path), tmp_path / "tuned.onnx", rounds=1, learning_rate=1e-4, **config)
    return history.rounds[1]


@pytest.fixture(scope="module")
def of_two(built: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The tuned file of the two sites that are honest."""
    folder = tmp_path_factory.mktemp("two")
    grid = LocalGrid(many(folder, built, dict(list(SIZES.items())[:2])))
    run(grid, server_of(folder), folder / "tuned.onnx", rounds=1, learning_rate=1e-4)
    return (folder / "tuned.onnx").read_bytes()


def sending(name: str, change: Change) -> ClientApp:
    """What gives back the numbers that it got, as a site would, but for a change."""
    other = ClientApp()

    def train(message: Message, context: Context) -> Message:
        numbers, _, wanted = read_request(message)
        content = trained_reply(name, wanted, Trained(numbers, 4, 1.0, 1))
        change(content)
        return Message(content, reply_to=message)

    def evaluate(message: Message, context: Context) -> Message:
        return Message(evaluated_reply(name, Evaluated(0, None, {}, 0, {})), reply_to=message)

    other.train()(train)
    other.evaluate()(evaluate)
    return other


def test_what_does_not_count_is_refused_by_name_and_the_round_goes_on(
    built: Path, of_two: bytes, tmp_path: Path
) -> None:
    sites = many(tmp_path, built, dict(list(SIZES.items())[:2]))
    apps = {place: sending(name, change) for place, (name, (change, _)) in enumerate(REFUSED.items(), 1)}
    found = one_round(tmp_path, LocalGrid({**sites, **dict.fromkeys(apps, tmp_path)}, apps=apps))
    reasons = {each.site: each.reason for each in found.refused}
    assert reasons.keys() == REFUSED.keys()
    for name, (_, told) in REFUSED.items():
        assert told in reasons[name], name
    assert found.counts
    assert [site.site for site in found.sites if site.samples] == ["north", "south"]
    assert (tmp_path / "tuned.onnx").read_bytes() == of_two, "as if they had not been there"
    assert tgdonnx.verify(tmp_path / "server" / "model.onnx", tmp_path / "tuned.onnx").ok


def test_what_is_refused_would_count_without_the_change(built: Path, tmp_path: Path) -> None:
    sites = many(tmp_path, built, {"north": 4})
    found = one_round(tmp_path, LocalGrid({**sites, 1: tmp_path}, apps={1: sending("west", metrics(loss=2.0))}))
    assert [(site.site, site.samples) for site in found.sites] == [("north", 4), ("west", 4)]
    assert found.refused == ()


def test_a_site_with_other_artifacts_says_so_itself_and_nothing_of_its_data(
    built: Path, of_two: bytes, tmp_path: Path
) -> None:
    sites = many(tmp_path, built, dict(list(SIZES.items())[:2]))
    sites[WEST] = make_site(tmp_path, artifacts(tmp_path / "other", seed=1), "west", data(4, 2), retain=data(4, 3))
    found = one_round(tmp_path, LocalGrid(sites))
    assert {each.site for each in found.refused} == {f"node {WEST}"}
    assert all("west: the site's artifacts are not the server's: another base model" in r.reason for r in found.refused)
    assert (tmp_path / "tuned.onnx").read_bytes() == of_two


def test_what_is_wrong_with_a_sites_data_stays_in_its_own_log(
    built: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sites = many(tmp_path, built, SIZES)
    np.savez(sites[WEST].parent / "data.npz", x=np.zeros((4, 2, 6, 5), np.float32), target=data(4, 0)["target"])
    with caplog.at_level(logging.INFO, "flwr"):
        logging.getLogger("flwr").propagate = True
        found = one_round(tmp_path, LocalGrid(sites))
    assert [(each.site, each.reason) for each in found.refused] == [("west", "west: DataError; its own log says more")]
    assert any("data.npz" in record.getMessage() for record in caplog.records)
    assert all(record.exc_info is None for record in caplog.records)


def test_two_sites_of_one_name_are_both_refused(built: Path, tmp_path: Path) -> None:
    sites = many(tmp_path, built, {"north": 4, "south": 6})
    sites[1] = many(tmp_path / "another", built, {"south": 6})[100]
    found = one_round(tmp_path, LocalGrid(sites))
    assert [(each.site, each.reason) for each in found.refused] == [("south", "several sites call themselves so")]
    assert [site.site for site in found.sites if site.samples] == ["north"]


def test_a_site_that_does_not_answer_is_waited_for_as_long_as_is_said(built: Path, tmp_path: Path) -> None:
    silent: Callable[[Message], Optional[Message]] = lambda message: None if "arrays" in message.content else message  # noqa: E731
    grid = LocalGrid(many(tmp_path, built, SIZES), {WEST: silent})
    found = one_round(tmp_path, grid, timeout=12.5)
    assert [(each.site, each.reason) for each in found.refused] == [("west", "it did not answer within 12.5 s")]
    assert set(grid.timeouts) == {12.5}


def test_a_round_with_too_few_sites_does_not_count_and_a_run_of_such_rounds_says_why(
    built: Path, tmp_path: Path
) -> None:
    grid = LocalGrid(many(tmp_path, built, SIZES), {WEST: training(array(nan_in))})
    with pytest.raises(
        FederationError, match=r"no round counts: none had 3 sites whose numbers count \(west: it sent NaN"
    ):
        one_round(tmp_path, grid, min_sites=3)
    assert not (tmp_path / "tuned.onnx").exists()


def test_too_few_sites_are_waited_for_as_long_as_is_said(built: Path, tmp_path: Path) -> None:
    grid = LocalGrid(many(tmp_path, built, {"north": 4}))
    with pytest.raises(
        FederationError, match=r"1 sites are there after 0\.2 s, expected at least 2; start more SuperNodes"
    ):
        one_round(tmp_path, grid, sites=2, min_sites=2, wait=0.2)
    assert grid.asked == {}


def test_an_answer_of_another_app_is_refused(built: Path, tmp_path: Path) -> None:
    other = ClientApp()

    def echo(message: Message, context: Context) -> Message:
        content = RecordDict({"metrics": MetricRecord({"loss": 1.0}), "site": ConfigRecord({"name": "x"})})
        return Message(content, reply_to=message)

    def failing(message: Message, context: Context) -> Message:
        return Message(Error(2, "it broke"), reply_to=message)

    other.train()(echo)
    other.evaluate()(failing)
    found = one_round(tmp_path, LocalGrid(many(tmp_path, built, SIZES), apps={WEST: other}))
    assert [each.reason for each in found.refused] == ["it sent no reply of ours: 'base'", "it broke"]


def test_a_supernode_that_does_not_say_where_its_site_is_answers_so(tmp_path: Path) -> None:
    from tgdonnx.federated.client_app import app

    message = Message(RecordDict(), dst_node_id=3, message_type=MessageType.TRAIN)
    reply = app(message, Context(1, 3, {}, RecordDict(), {}))
    assert reply.error.reason == "node 3: DataError; its own log says more"
