"""Federated training: sites train on their own data, a server averages the numbers that train; Flower carries them.

A site and the server have the same artifacts, of the engine onnxruntime. Only the numbers that train go between them, with how
many samples a site has, its losses and metrics, and its name. What a site may say and what it is refused for is in `examining`.

    travelling      the numbers that travel, and what has to be the same at all sites
    site_file       a site: where its artifacts and its data are
    site            a round at a site: training, and evaluation
    plan            how rounds go, as the user's run configuration says
    messages        all of that as Flower's records
    examining       what a site sent, checked
    standing        who took part, and which round is best
    rounds          the rounds, as the server sees them
    history         federated.json: what every site did in every round
    client_app      Flower's ClientApp
    server_app      Flower's ServerApp
    secure          what Flower's secure aggregation needs

Only `messages`, `rounds` and the apps need Flower. Its telemetry is off in the processes that import this, unless the
environment says otherwise.
"""

from __future__ import annotations

import os

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")  # before Flower reads it
