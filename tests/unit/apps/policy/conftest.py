"""Runs gpu-policy on a fake Slurm, through the border, as its user would see it."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.adapters.slurm.diagnose import Report
from slurm_gpu_policy.apps.policy.main import cli
from slurm_gpu_policy.model.submission import Submission
from slurm_gpu_policy.terminal.border import run_app
from tests.fakes.slurm import FakeSlurm


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def _own_surroundings(monkeypatch, tmp_path):
    """Keep the machine's own policy, cache and Slurm out of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GPU_POLICY_FILE", raising=False)
    monkeypatch.setattr("slurm_gpu_policy.config.loader.SITE_FILE", str(tmp_path / "no.yaml"))


@pytest.fixture
def slurm(monkeypatch):
    fake = FakeSlurm()
    monkeypatch.setattr(bootstrap, "connect", lambda _policy: fake)
    monkeypatch.setattr(bootstrap, "diagnose", lambda _policy: healthy_report())
    return fake


def healthy_report(**fields):
    """What the adapter reports of a cluster in order, as an ordinary user."""
    programs = ("sbatch", "squeue", "scontrol", "scancel", "sacct", "sacctmgr")
    defaults = {
        "adapter": "commands of Slurm 26.05.5",
        "why": "the commands, because pyslurm is not installed for this Python",
        "versions": dict.fromkeys(programs, "26.05.5"),
        "pyslurm": "No module named 'pyslurm'",
        "controller_trouble": "",
        "database_trouble": "",
        "cluster": "fake",
        "release": "26.05.5",
        "settings": {"AccountingStorageType": "accounting_storage/slurmdbd"},
        "user": "u1",
        "admin_level": "None",
        "clock_skew_seconds": 0,
    }
    return Report(**{**defaults, **fields})


@pytest.fixture
def gpu_policy(slurm, capsys):
    def run(*args):
        capsys.readouterr()
        code = run_app(cli, "gpu-policy", args)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Result(code, *captured)

    return run


@pytest.fixture
def submit(slurm):
    def queue(gpus=1, nodes=1, **options):
        options = {"nodes": str(nodes), "partition": "gpu", **options}
        if gpus:
            options["gres"] = f"gpu:h100:{gpus}"
        return str(slurm.submit(Submission("#!/bin/bash\n", tuple(options.items()), "t")))

    return queue
