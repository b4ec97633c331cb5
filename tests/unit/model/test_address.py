"""Addresses, as people write them."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.model.address import parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9812", "127.0.0.1", 9812),
        ("ctl-1.site_a.example:1", "ctl-1.site_a.example", 1),
        ("[::1]:65535", "::1", 65535),
        ("[::]:0", "::", 0),
        ("[fe80::1234:192.0.2.1]:80", "fe80::1234:192.0.2.1", 80),
    ],
)
def test_host_and_port_are_told_apart(text, host, port):
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "", "nonsense", ":9812", "host", "host:", "host:x", "host:65536", "host:-1", "host: 1",
        "::1:9812", "[::1]", "[::1]9812", "[]:1", "[ctl]x:1", "a b:1", "host:1\n", "-x:1",
        "http://ctl:9812", "ctl:9812/", "ctl:١", f"{'x' * 300}:1", "*:9812",
    ],
)  # fmt: skip
def test_what_is_no_address_is_told_what_would_be_one(text):
    with pytest.raises(RequestError, match="is not an address: a text HOST:PORT, such as"):
        parse_address(text)
