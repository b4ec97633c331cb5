"""A client without manners: bytes as they are."""

from __future__ import annotations

import json
import socket


def connect(path):
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(20)
    line.connect(str(path))
    return line


def send(path, data, *, end=False):
    """Send bytes as they are; return the answer, decoded."""
    with connect(path) as line:
        try:
            line.sendall(data)
            if end:
                line.shutdown(socket.SHUT_WR)
        except BrokenPipeError:
            pass  # the server has heard enough
        received = b""
        while not received.endswith(b"\n") and (part := line.recv(65536)):
            received += part
    return json.loads(received) if received else None
