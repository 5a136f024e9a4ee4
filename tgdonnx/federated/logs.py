"""Flower's log: it prints a traceback of whatever an app raises; of what a user can cause the sentence is enough."""

from __future__ import annotations

import logging

from tgdonnx.errors import TgdonnxError


def without_tracebacks() -> None:
    """Lets Flower's log say our errors in their own words, in this process."""
    logging.getLogger("flwr").addFilter(_said)  # the same filter is added once


def _said(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if isinstance(error, TgdonnxError):
        record.msg, record.args = f"{record.getMessage()}: {error}", None
        record.exc_info = record.exc_text = None
    return True
