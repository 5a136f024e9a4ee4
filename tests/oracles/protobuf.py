"""Serialised protobuf, written without the code that walks it."""

from __future__ import annotations


def field(number: int, body: bytes) -> bytes:
    """A field of bytes in a message, by the specification of the encoding."""
    length, encoded = len(body), b""
    while length > 0x7F:
        encoded += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | 2]) + encoded + bytes([length]) + body
