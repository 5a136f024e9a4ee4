"""Flower's Grid in this process: every node is a ClientApp that is called at once, by Flower's own messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from flwr.app import Context, Message, RecordDict

from tgdonnx.federated.client_app import app

Tamper = Callable[[Message], Optional[Message]]


@dataclass
class LocalGrid:
    """Sites by the numbers of their nodes.

    Attributes:
        sites: their files.
        tamper: what becomes of the answers of a node; None: it never comes.
        apps: ClientApps that are not ours.
        gone: nodes that are there no more after so many messages.
        asked: how many messages each node got.
        timeouts: of every wait.
    """

    sites: Mapping[int, Path]
    tamper: Mapping[int, Tamper] = field(default_factory=dict)
    apps: Mapping[int, Any] = field(default_factory=dict)
    gone: Mapping[int, int] = field(default_factory=dict)
    asked: dict[int, int] = field(default_factory=dict)
    timeouts: list[Optional[float]] = field(default_factory=list)
    contexts: dict[int, Context] = field(default_factory=dict)

    def get_node_ids(self) -> list[int]:
        return [node for node in self.sites if self.asked.get(node, 0) < self.gone.get(node, 10**9)]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: Optional[float] = None) -> list[Message]:
        self.timeouts.append(timeout)
        found = [self._answer(message) for message in messages]
        return [each for each in reversed(found) if each is not None]

    def _answer(self, message: Message) -> Optional[Message]:
        node = message.metadata.dst_node_id
        self.asked[node] = self.asked.get(node, 0) + 1
        context = self.contexts.setdefault(node, Context(1, node, {"site": str(self.sites[node])}, RecordDict(), {}))
        reply = self.apps.get(node, app)(message, context)
        return self.tamper[node](reply) if node in self.tamper else reply
