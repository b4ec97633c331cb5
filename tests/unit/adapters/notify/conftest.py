"""Notices to send, and servers that take them."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.model.notice import Notice
from tests.servers import make_certificate


@pytest.fixture
def make_notice():
    def make(**fields):
        defaults = {
            "to": ("u1",),
            "subject": "Half of nlp's budget is spent",
            "text": "Of 100.00 EUR 50.00 are spent.",
            "rule": "B-010",
            "severity": "warning",
            "key": "budget:1:50",
            "time": 1_800_000_000,
        }
        return Notice(**{**defaults, **fields})

    return make


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def secret(tmp_path):
    """Write a secret into a file that only its owner can read."""

    def write(text, name="secret", mode=0o600):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    return write
