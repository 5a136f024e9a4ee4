"""The rounds, as the server sees them: ask, wait, check, average, evaluate, save.

Who is asked, and how numbers are averaged, is a strategy of Flower's; its FedAvg weights them by the number of samples. What a
strategy gets has been checked before. It is given the sites that are there when a round begins, and so waits for none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flwr.app import Message, MessageType, RecordDict

from tgdonnx.errors import DivergedError, FederationError
from tgdonnx.federated.examining import Refusal, Sent, refusal_of, twice
from tgdonnx.federated.history import History, RoundHistory, SiteRound, lines_of, write_history
from tgdonnx.federated.messages import (
    ARRAYS,
    CONFIG,
    array_record,
    arrays_of,
    config_record,
    name_in,
    read_evaluated,
    read_trained,
)
from tgdonnx.federated.plan import Plan
from tgdonnx.federated.site import Evaluated
from tgdonnx.federated.standing import Standing, Tally
from tgdonnx.federated.travelling import Fingerprint, Numbers, Travelling
from tgdonnx.finetuning.session import Session

_LOG = logging.getLogger("flwr")
_POLL = 0.5  # seconds


@dataclass
class Server:
    """What the server has, and where it stands.

    Attributes:
        grid: Flower's, to the sites.
        strategy: Flower's, that averages.
        plan: how rounds go.
        session: the artifacts; nothing is trained in it.
        numbers_of: which numbers of it travel.
        wanted: what the artifacts of sites have to be.
        history: what was done.
        names: of sites, by their nodes, once they have answered.
    """

    grid: Any
    strategy: Any
    plan: Plan
    session: Session
    numbers_of: Travelling
    wanted: Fingerprint
    history: History
    names: dict[int, str] = field(default_factory=dict)

    def name_of(self, node: int) -> str:
        """Returns what is said of a node."""
        return self.names.get(node, f"node {node}")


def run_rounds(server: Server) -> Tally:
    """Does all rounds; the checkpoints of the session's directory hold what came of the last and of the best one.

    Returns:
        Who took part.

    Raises:
        FederationError: too few sites take part, or in no round enough of them sent what counts.
        DivergedError: the average is not finite.
        OutputError: something cannot be written.
    """
    plan, tally = server.plan, Tally()
    numbers: Numbers = server.numbers_of.taken(server.session.parameters())
    _wait_for(server, plan.sites)
    begin = time.monotonic()
    sites, refused = _evaluate(server, numbers)
    standing = Standing.at_start(sites, plan.retain_limit)
    _note(server, standing, sites, refused, counts=True, seconds=time.monotonic() - begin)
    _save(server, numbers, tally, standing)
    for number in range(1, plan.rounds + 1):
        _wait_for(server, plan.min_sites)
        begin = time.monotonic()
        sent, refused = _train(server, number, numbers)
        counts = len(sent) >= plan.min_sites
        if counts:
            numbers = _average(server, number, sent)
            tally.add([each for each, _ in sent])
        found, others = _evaluate(server, numbers)
        sites = _with_training(found, [each for each, _ in sent] if counts else [])
        standing = standing.after(number, sites)
        refused = (*refused, *others)
        _note(server, standing, sites, refused, counts=counts, seconds=time.monotonic() - begin)
        _save(server, numbers, tally, standing)
    if not tally.rounds:
        said = "; ".join(f"{each.site}: {each.reason}" for each in server.history.rounds[-1].refused)
        raise FederationError(f"no round counts: none had {plan.min_sites} sites whose numbers count ({said})")
    return tally


def _wait_for(server: Server, count: int) -> None:
    """Waits until there are so many sites, and no longer than the plan says."""
    end, told = time.monotonic() + server.plan.wait, -1
    while (found := len(list(server.grid.get_node_ids()))) < count and time.monotonic() < end:
        if found != told:
            _LOG.info("%d of %d sites are there", found, count)
            told = found
        time.sleep(_POLL)
    if found < server.plan.min_sites:
        raise FederationError(
            f"{found} sites are there after {server.plan.wait:g} s, expected at least {server.plan.min_sites}",
            remedy="start more SuperNodes, or give a longer `wait` or a smaller `min-sites`",
        )
    if found < count:
        _LOG.warning("only %d of %d sites are there after %g s; it begins with them", found, count, server.plan.wait)


class _Roster:
    """The part of Flower's Grid that strategies choose from: who was there when the round began."""

    def __init__(self, nodes: Iterable[int]) -> None:
        self._nodes = sorted(nodes)

    def get_node_ids(self) -> list[int]:
        """Returns the nodes."""
        return list(self._nodes)


def _train(server: Server, number: int, numbers: Numbers) -> tuple[list[tuple[Sent, Message]], tuple[Refusal, ...]]:
    """Lets sites train; returns what counts, in the order of their names, and who is refused."""
    roster = _Roster(server.grid.get_node_ids())
    config = config_record(server.plan.each, server.wanted)
    asked = server.strategy.configure_train(number, array_record(numbers), config, roster)
    replies, refused = _answers(server, list(asked))
    sent = []
    for message in replies:
        node = message.metadata.src_node_id
        try:
            found = read_trained(message)
            reason = refusal_of(found, server.numbers_of, server.wanted)
        except ValueError as error:
            reason = f"it sent {error}"
        if reason:
            refused.append(Refusal(server.name_of(node), reason))
        else:
            sent.append((found, message))
    several = twice([each.name for each, _ in sent])
    refused += [Refusal(name, "several sites call themselves so") for name in sorted(several)]
    kept = [each for each in sent if each[0].name not in several]
    return sorted(kept, key=lambda each: each[0].name), tuple(refused)


def _average(server: Server, number: int, sent: Sequence[tuple[Sent, Message]]) -> Numbers:
    record, _ = server.strategy.aggregate_train(number, [message for _, message in sent])
    found = arrays_of(record)
    problem = server.numbers_of.problem(found)
    if problem:
        raise DivergedError(f"round {number}: the average of the sites' numbers has {problem}")
    return {name: found[name].astype("float32", copy=False) for name in server.numbers_of.trains}


def _evaluate(server: Server, numbers: Numbers) -> tuple[tuple[SiteRound, ...], tuple[Refusal, ...]]:
    """Lets all sites evaluate numbers."""
    content = {ARRAYS: array_record(numbers), CONFIG: config_record(server.plan.each, server.wanted)}
    nodes = sorted(server.grid.get_node_ids())
    asked = [
        Message(content=RecordDict(content), dst_node_id=node, message_type=MessageType.EVALUATE) for node in nodes
    ]
    replies, refused = _answers(server, asked)
    found: dict[str, SiteRound] = {}
    for message in replies:
        name = server.name_of(message.metadata.src_node_id)
        try:
            found[name] = _site_round(name, read_evaluated(message))
        except ValueError as error:
            refused.append(Refusal(name, f"it sent {error}"))
    return tuple(found[name] for name in sorted(found)), tuple(refused)


def _site_round(name: str, found: Evaluated) -> SiteRound:
    return SiteRound(
        name,
        validated=found.samples,
        validation=found.loss,
        metrics=found.metrics,
        retained=found.retained,
        retain=found.retain,
    )


def _answers(server: Server, asked: Sequence[Message]) -> tuple[list[Message], list[Refusal]]:
    """Sends messages and waits; returns the answers in the order of their nodes, and who gave none or an error."""
    if not asked:
        return [], []
    nodes = {message.metadata.dst_node_id for message in asked}
    replies = sorted(
        server.grid.send_and_receive(asked, timeout=server.plan.timeout), key=lambda each: each.metadata.src_node_id
    )
    refused = []
    for message in replies:
        node = message.metadata.src_node_id
        nodes.discard(node)
        if message.has_error():
            refused.append(Refusal(server.name_of(node), str(message.error.reason or message.error.code)))
            continue
        name = name_in(message)
        if name:
            server.names[node] = name
    silent = f"it did not answer within {server.plan.timeout:g} s"
    refused += [Refusal(server.name_of(node), silent) for node in sorted(nodes)]
    return [message for message in replies if not message.has_error()], refused


def _with_training(sites: Sequence[SiteRound], sent: Sequence[Sent]) -> tuple[SiteRound, ...]:
    """Returns what sites did in a round, with what counted of their training."""
    found: Mapping[str, SiteRound] = {site.site: site for site in sites}
    trained = {
        each.name: replace(
            found.get(each.name, SiteRound(each.name)), samples=each.samples, loss=each.loss, steps=each.steps
        )
        for each in sent
    }
    both = {**found, **trained}
    return tuple(both[name] for name in sorted(both))


def _note(
    server: Server,
    standing: Standing,
    sites: tuple[SiteRound, ...],
    refused: tuple[Refusal, ...],
    *,
    counts: bool,
    seconds: float,
) -> None:
    """Writes down what a round was, and says it."""
    done = RoundHistory(
        standing.round, sites, refused, counts, standing.validation, standing.retain_fall, seconds, standing.is_best
    )
    server.history = replace(server.history, rounds=(*server.history.rounds, done))
    write_history(server.session.directory, server.history)
    _LOG.info("round %d of %d, %.1f s", standing.round, server.plan.rounds, seconds)
    for line in lines_of(done):
        _LOG.info("    %s", line)
    if not counts:
        _LOG.warning("    the round does not count: fewer than %d sites sent what counts", server.plan.min_sites)


def _save(server: Server, numbers: Numbers, tally: Tally, standing: Standing) -> None:
    session, engine = server.session, server.session.manifest.runtime
    session.set_parameters(server.numbers_of.put(numbers, session.parameters()))
    state = standing.run_state(tally)
    session.save(engine.checkpoint, state)
    if standing.is_best:
        session.save(engine.best_checkpoint, state)
