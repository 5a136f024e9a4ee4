"""Flower's ServerApp: `app`, for ``[tool.flwr.app.components]``; `server_app` for one with another strategy of Flower's.

serverapp = "tgdonnx.federated.server_app:app"
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Optional

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from tgdonnx.artifacts import open_artifacts, read_manifest
from tgdonnx.artifacts.locking import announce, locked
from tgdonnx.errors import ArtifactsError
from tgdonnx.exporting import ExportReport, export, try_export_artifacts
from tgdonnx.federated.history import FORMAT, History, write_history
from tgdonnx.federated.logs import without_tracebacks
from tgdonnx.federated.messages import ARRAYS, CONFIG, WEIGHT
from tgdonnx.federated.plan import Plan, read_plan
from tgdonnx.federated.rounds import Server, run_rounds
from tgdonnx.federated.travelling import fingerprint, travelling
from tgdonnx.files.outputs import Kind, optional, require_outputs
from tgdonnx.finetuning.session import Session

_LOG = logging.getLogger("flwr")


def server_app(
    strategy: Callable[[Plan], Any] = lambda _: averaging(), grid: Callable[[Grid], Any] = lambda grid: grid
) -> ServerApp:
    """Returns a ServerApp that does what the run configuration says (`tgdonnx.federated.plan.RunConfig`).

    Args:
        strategy: gives, for a plan, the strategy of Flower's that asks sites and averages what they send; it has to go by the
            keys of records that `averaging` has.
        grid: gives what messages go through in place of Flower's Grid, such as `tgdonnx.federated.secure.SecureGrid`.
    """
    app = ServerApp()

    def main(flowers: Grid, context: Context) -> None:
        plan = read_plan(context.run_config)
        federate(grid(flowers), plan, strategy(plan))

    without_tracebacks()
    app.main()(main)
    return app


def averaging() -> FedAvg:
    """Returns Flower's FedAvg: all sites that are there, weighted by the number of their samples."""
    return FedAvg(
        min_train_nodes=1,
        min_evaluate_nodes=1,
        min_available_nodes=1,
        weighted_by_key=WEIGHT,
        arrayrecord_key=ARRAYS,
        configrecord_key=CONFIG,
    )


def federate(grid: Any, plan: Plan, strategy: Any) -> Optional[ExportReport]:
    """Does all rounds, and writes the tuned file.

    Args:
        grid: Flower's, to the sites, or what stands for it.
        plan: how rounds go.
        strategy: Flower's, that averages.

    Returns:
        What was written; None without an output.

    Raises:
        TgdonnxError: a directory is not usable, too few sites take part, or something cannot be written.
    """
    directory = plan.artifacts
    require_outputs(optional(plan.output, Kind.MODEL), [directory], overwrite=plan.overwrite)
    read_manifest(directory)  # no lock is put into what is no artifacts directory
    with locked(directory):
        artifacts = open_artifacts(directory)
        wanted, numbers_of = fingerprint(artifacts), travelling(artifacts)
        session = Session(directory, artifacts=artifacts)
        if session.run_state is not None:
            raise ArtifactsError(f"{directory} holds a run", remedy="build the artifacts again")
        try_export_artifacts(artifacts)  # what could not be written back is refused before the first round
        history = History(FORMAT, numbers_of.bytes, numbers_of.whole_bytes)
        announce(directory)
        write_history(directory, history)
        share = numbers_of.bytes / numbers_of.whole_bytes
        told = "in a round %s bytes of numbers go to every site, and as many come back; the whole model has %s: %.2f %%"
        _LOG.info(told, f"{numbers_of.bytes:,}", f"{numbers_of.whole_bytes:,}", 100 * share)
        tally = run_rounds(Server(grid, strategy, plan, session, numbers_of, wanted, history))
        if not tally.agreed:
            _LOG.warning(
                "sites prepare their data differently, so the tuned file does not say how: `tgdonnx apply` has to be told"
            )
        if plan.output is None:
            return None
        report = export(directory, plan.output, blend=plan.blend, overwrite=plan.overwrite)
    _LOG.info("%s is written, of the checkpoint %s at a blend of %g", report.output, report.checkpoint, report.blend)
    return report


app = server_app()
