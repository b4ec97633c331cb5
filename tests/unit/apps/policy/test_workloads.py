"""gpu-policy workloads: what --workload chooses, the site's own classes among them."""

from __future__ import annotations

import json

import pytest

from slurm_gpu_policy.apps.policy.main import cli
from slurm_gpu_policy.terminal.border import run_app

POLICY = "workloads:\n  ocr: {pools: [l4], default_time: 90m}\n  mine: {description: 'my [own]'}\n"


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    monkeypatch.setenv("GPU_POLICY_FILE", str(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def call(*argv):
        assert run_app(cli, "gpu-policy", ("workloads", *argv)) == 0
        return capsys.readouterr().out

    return call


def test_the_sites_classes_stand_beside_the_built_in_ones(run):
    lines = {line.split()[0]: line for line in run().splitlines()}
    assert {"training", "inference", "embedding", "ocr", "graph_processing", "generic"} <= set(
        lines
    )
    assert "01:30:00" in lines["ocr"]
    assert lines["mine"].endswith("my [own]")


def test_json_has_what_each_class_chooses(run):
    found = {item["name"]: item for item in json.loads(run("--json"))}
    assert found["ocr"] == {
        "name": "ocr",
        "description": "read text from images; can run on CPUs",
        "pools": ["l4"],
        "default_time_seconds": 5400,
        "template": "batch",
        "cpu_fallback": True,
    }
