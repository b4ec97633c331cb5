"""Addresses on the network, as people write them."""

from __future__ import annotations

import re

from slurm_gpu_policy.errors import RequestError

_ADDRESS = r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9][A-Za-z0-9._-]{0,252})):(\d{1,5})"
_LAST_PORT = 65535


def parse_address(text: str) -> tuple[str, int]:
    """Return the host and the port in *text*: ``127.0.0.1:9812``, ``ctl.site:9812``, ``[::1]:9``.

    Raises:
        RequestError: *text* is no address.
    """
    match = re.fullmatch(_ADDRESS, text, re.ASCII)
    if match is None or int(match[3]) > _LAST_PORT:
        msg = (
            f"{text!r} is not an address: a text HOST:PORT, such as ctl.site:9812, "
            "127.0.0.1:9812 or [::1]:9812"
        )
        raise RequestError(msg)
    return match[1] or match[2], int(match[3])
