"""Flower's ClientApp: `app`, for ``[tool.flwr.app.components]``; `client_app` for one with mods of Flower's.

    clientapp = "tgdonnx.federated.client_app:app"

A SuperNode is told where its site's file is: ``--node-config 'site="/data/site.toml"'``. In a simulation the run configuration
names a directory of them (``site-files``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from tgdonnx.errors import DataError, TgdonnxError
from tgdonnx.federated.logs import without_tracebacks
from tgdonnx.federated.messages import evaluated_reply, read_request, trained_reply
from tgdonnx.federated.site import NotTheServersError, evaluate_at, train_at
from tgdonnx.federated.site_file import Site, read_site, site_of_partition

_LOG = logging.getLogger("flwr")
_FAILED = 2  # what Flower calls an error of a ClientApp


def client_app(mods: Sequence[Any] = ()) -> ClientApp:
    """Returns a ClientApp that trains and evaluates at the site of its SuperNode.

    Args:
        mods: of Flower's, around what a site sends of its training.
    """
    app = ClientApp()
    without_tracebacks()
    app.train(mods=list(mods))(train)
    app.evaluate()(evaluate)
    return app


def train(message: Message, context: Context) -> Message:
    """Trains for a round; the answer is Flower's message."""

    def work(site: Site) -> Message:
        numbers, plan, wanted = read_request(message)
        found = train_at(site, _run(context), plan, numbers, wanted)
        return Message(trained_reply(site.name, wanted, found), reply_to=message)

    return _answered(message, context, work)


def evaluate(message: Message, context: Context) -> Message:
    """Evaluates the server's numbers; the answer is Flower's message."""

    def work(site: Site) -> Message:
        numbers, plan, wanted = read_request(message)
        found = evaluate_at(site, _run(context), plan, numbers, wanted)
        return Message(evaluated_reply(site.name, found), reply_to=message)

    return _answered(message, context, work)


def site_of(context: Context) -> Site:
    """Returns the site of a SuperNode.

    Raises:
        DataError: it is not told where its file is, or that cannot be read.
    """
    node, run = context.node_config, context.run_config
    if "site" in node:
        return read_site(Path(str(node["site"])))
    if "partition-id" in node and run.get("site-files"):
        return read_site(site_of_partition(Path(str(run["site-files"])), int(node["partition-id"])))
    raise DataError(
        "the SuperNode does not say where the file of its site is",
        remedy="start it with `--node-config 'site=\"/data/site.toml\"'`",
    )


def _run(context: Context) -> str:
    """Returns the name of the directory of a run."""
    return f"run-{context.run_id}"


def _answered(message: Message, context: Context, work: Callable[[Site], Message]) -> Message:
    """Returns the answer of a site, or an error. What is wrong with its files and its data stays in its own log."""
    name = f"node {context.node_id}"
    try:
        site = site_of(context)
        name = site.name
        return work(site)
    except NotTheServersError as error:
        _LOG.error("%s", error)
        return Message(Error(_FAILED, f"{name}: {error}"), reply_to=message)
    except TgdonnxError as error:
        _LOG.error("%s", error)
        return Message(Error(_FAILED, f"{name}: {type(error).__name__}; its own log says more"), reply_to=message)


app = client_app()
