"""Secure aggregation: the server learns the average of what sites trained, and what no single site did.

It is Flower's SecAgg+, which belongs to its older workflows and clients; `SecureGrid` and `secure_mod` carry our messages
through it. Numbers of samples, losses and names are sent as they are.

    app = server_app(grid=lambda grid: SecureGrid(grid, SecAggPlusWorkflow(3, 2)))
    app = client_app([secure_mod])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MessageType, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitIns, FitRes, Parameters, Status, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.compat.common.recorddict_compat import fitres_to_recorddict
from flwr.server import LegacyContext
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey

from tgdonnx.federated.messages import ARRAYS, METRICS, SITE, WEIGHT, array_record

_HALTED = 2  # what Flower calls an error of a ClientApp


def secure_mod(message: Message, context: Context, call_next: Any) -> Message:
    """Sends what a site trained under masks that cancel out in the sum of all sites. A mod of Flower's, for `client_app`."""

    def train(asked: Message, there: Context) -> Message:
        reply = call_next(asked, there)
        if reply.has_error():
            raise _NothingTrainedError(reply)
        arrays = reply.content[ARRAYS]  # in the order of their names, as the server takes them
        parameters = Parameters([arrays[name].data for name in sorted(arrays)], "numpy.ndarray")
        result = FitRes(Status(Code.OK, ""), parameters, int(reply.content[METRICS][WEIGHT]), {})
        content = fitres_to_recorddict(result, keep_input=True)
        content.update({name: reply.content[name] for name in (METRICS, SITE)})
        return Message(content, reply_to=asked)

    try:
        return secaggplus_mod(message, context, train)
    except _NothingTrainedError as error:
        return error.reply


class _NothingTrainedError(Exception):
    """A site answers with an error, which has no numbers to be masked."""

    def __init__(self, reply: Message) -> None:
        super().__init__()
        self.reply = reply


@dataclass
class SecureGrid:
    """Flower's Grid, whose answers of training have the average of all sites in place of each one's numbers.

    Attributes:
        grid: Flower's, to the sites.
        workflow: Flower's SecAggPlusWorkflow. Numbers beyond its ``clipping_range`` are cut off, and a site must not have more
            samples than its ``max_weight``; the average is exact to about ``2 * clipping_range / quantization_range`` times
            ``max_weight`` over the samples of all sites.
    """

    grid: Any
    workflow: Any
    rounds: int = field(default=0, init=False)

    def get_node_ids(self) -> list[int]:
        """Returns the nodes."""
        return list(self.grid.get_node_ids())

    def send_and_receive(self, messages: Iterable[Message], *, timeout: Optional[float] = None) -> list[Message]:
        """Sends messages, and waits; every stage of secure aggregation waits for at most ``timeout`` seconds."""
        asked = {each.metadata.dst_node_id: each for each in messages}
        if any(each.metadata.message_type != MessageType.TRAIN for each in asked.values()):
            return list(self.grid.send_and_receive(asked.values(), timeout=timeout))
        self.rounds += 1
        stages, strategy = _Stages(self.grid, asked, timeout), _Strategy(list(asked))
        state = RecordDict(
            {
                MAIN_CONFIGS_RECORD: ConfigRecord({WorkflowKey.CURRENT_ROUND: self.rounds}),
                MAIN_PARAMS_RECORD: ArrayRecord(),
            }
        )
        self.workflow(stages, LegacyContext(Context(0, 0, {}, state, {}), strategy=strategy))
        if strategy.average is None:
            halted = Error(_HALTED, "secure aggregation was halted: too few sites answered")
            return [
                stages.errors.get(node) or Message(halted, reply_to=request) for node, request in stages.begun.items()
            ]
        names = sorted(next(iter(asked.values())).content[ARRAYS])
        arrays = [array.astype(np.float32) for array in parameters_to_ndarrays(strategy.average)]
        average = array_record(dict(zip(names, arrays)))
        for reply in stages.trained:
            reply.content = RecordDict({ARRAYS: average, **{name: reply.content[name] for name in (METRICS, SITE)}})
        return [*stages.trained, *stages.errors.values()]


@dataclass
class _Stages:
    """The part of Flower's Grid that a workflow needs: the stage in which sites train gets our requests.

    Attributes:
        grid: Flower's.
        asked: our requests, by node.
        timeout: of every stage.
        begun: what was sent first, by node.
        trained: the masked answers.
        errors: of any stage, by node.
    """

    grid: Any
    asked: Mapping[int, Message]
    timeout: Optional[float]
    begun: dict[int, Message] = field(default_factory=dict)
    trained: list[Message] = field(default_factory=list)
    errors: dict[int, Message] = field(default_factory=dict)

    def send_and_receive(
        self,
        messages: Sequence[Message],
        *,
        timeout: Optional[float] = None,  # noqa: ARG002  # of the workflow; ours counts
    ) -> list[Message]:
        trains = any(each.content[RECORD_KEY_CONFIGS][Key.STAGE] == Stage.COLLECT_MASKED_VECTORS for each in messages)
        for each in messages:
            node = each.metadata.dst_node_id
            self.begun.setdefault(node, each)
            if trains:
                protocol = {RECORD_KEY_CONFIGS: each.content[RECORD_KEY_CONFIGS]}
                each.content = RecordDict({**self.asked[node].content, **protocol})
        replies = list(self.grid.send_and_receive(messages, timeout=self.timeout))
        self.errors.update({each.metadata.src_node_id: each for each in replies if each.has_error()})
        if trains:
            self.trained = [each for each in replies if not each.has_error()]
        return replies


@dataclass
class _Node:
    """What a workflow calls a client."""

    node_id: int


@dataclass
class _Strategy:
    """What a workflow asks for clients, and gives the average to."""

    nodes: Sequence[int]
    average: Optional[Parameters] = None

    def configure_fit(self, *_: Any) -> list[tuple[_Node, FitIns]]:
        return [(_Node(node), FitIns(Parameters([], ""), {})) for node in self.nodes]

    def aggregate_fit(self, _: int, results: Any, __: Any) -> tuple[None, dict[str, Any]]:
        self.average = results[0][1].parameters
        return None, {}
