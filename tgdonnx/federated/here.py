"""Federated training in this process: Flower's apps and messages, without its programs. For trying out the files of sites.

Sites take turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Optional

from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from tgdonnx.exporting import ExportReport
from tgdonnx.federated.client_app import app
from tgdonnx.federated.plan import Plan
from tgdonnx.federated.server_app import averaging, federate

_RUN = 1


class Here:
    """The part of Flower's Grid that is needed, with a ClientApp in place of every SuperNode.

    Attributes:
        sites: the files of sites, by the numbers of their nodes.
        client: the ClientApp.
    """

    def __init__(self, sites: Sequence[Path], client: Any = app) -> None:
        self.sites, self.client = dict(enumerate(sites, 2)), client
        self._contexts = {
            node: Context(_RUN, node, {"site": str(path)}, RecordDict(), {}) for node, path in self.sites.items()
        }
        # Of the ServerApp, in whose name messages are made.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, _RUN, 1

    def get_node_ids(self) -> list[int]:
        """Returns the nodes, all of which are there."""
        return list(self.sites)

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: Optional[float] = None,  # noqa: ARG002  # of Flower's Grid; all take turns, so nobody is given up
    ) -> list[Message]:
        """Lets every site answer."""
        # Copies, as a site gets them: some of Flower's messages share their content, and its mods take it apart.
        nodes = [(message.metadata.dst_node_id, deepcopy(message)) for message in messages]
        return [self.client(message, self._contexts[node]) for node, message in nodes]


def federate_here(plan: Plan, sites: Sequence[Path]) -> Optional[ExportReport]:
    """Does all rounds at sites whose files are on this machine; see `tgdonnx.federated.server_app.federate`.

    Raises:
        TgdonnxError: as `federate`.
    """
    return federate(Here(sites), plan, averaging())
