"""gpu-policy templates: what gpu-submit can fill."""

from __future__ import annotations

import json

import pytest

from slurm_gpu_policy.apps.policy.main import cli
from slurm_gpu_policy.terminal.border import run_app

BUILT_IN = {"batch", "torchrun", "sweep", "jupyter", "serve", "interactive"}


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "own.sh.j2").write_text("{# summary: the site's own #}\n#!/bin/bash\ntrue\n")
    (folder / "broken.sh.j2").write_bytes(b"\xff\xfe\x00binary")
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"template_folders: [{folder}]\n")
    monkeypatch.setenv("GPU_POLICY_FILE", str(policy))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def call(*argv):
        code = run_app(cli, "gpu-policy", ("templates", *argv))
        return code, *capsys.readouterr()

    return call


def test_the_sites_templates_stand_beside_the_built_in_ones_and_a_broken_one_is_named(run):
    code, out, said = run("--json")
    found = {item["name"]: item for item in json.loads(out)}
    assert code == 0
    assert {*BUILT_IN, "own"} == set(found)
    assert found["own"]["summary"] == "the site's own"
    assert "broken cannot be used" in said


def test_parameters_are_shown_with_their_defaults(run):
    _, out, _ = run()
    assert "--param port=" in out
    assert "(must be given)" in out
