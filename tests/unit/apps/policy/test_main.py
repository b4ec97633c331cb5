"""The group: what it lists, what it refuses, and what it does not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from slurm_gpu_policy import __version__
from slurm_gpu_policy.apps.policy.main import COMMANDS

PROGRAM = Path(sys.executable).with_name("gpu-policy")


def test_the_help_lists_every_command(gpu_policy):
    result = gpu_policy("--help")
    assert result.code == 0
    assert all(name in result.out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(gpu_policy, name):
    for flag in ("--help", "-h"):
        result = gpu_policy(name, flag)
        assert (result.code, result.err) == (0, "")
        assert result.out.startswith(f"Usage: gpu-policy {name}")


@pytest.mark.parametrize("args", [("version",), ("--version",)])
def test_the_version_is_said(gpu_policy, args):
    assert gpu_policy(*args).out == f"gpu-policy {__version__}\n"


@pytest.mark.parametrize(
    "args",
    [("nonsense",), ("--bogus",), ("queue", "queue"), ("",), ("\x1b[31m",), ("--", "--x"), ("-",)],
)
def test_wrong_use_ends_with_two(gpu_policy, args):
    result = gpu_policy(*args)
    assert (result.code, result.out) == (2, "")
    assert "\x1b" not in result.err


def test_without_a_command_the_help_is_shown(gpu_policy):
    result = gpu_policy()
    assert "Commands:" in result.out + result.err


def test_templates_are_listed_with_their_parameters(gpu_policy):
    result = gpu_policy("templates")
    assert result.code == 0
    assert "batch: " in result.out
    assert "--param model=…" in result.out
    names = [template["name"] for template in gpu_policy("templates", "--json").json]
    assert {"batch", "torchrun", "serve", "sweep"} <= set(names)


def test_a_sites_template_says_where_it_is(gpu_policy, monkeypatch, tmp_path):
    (tmp_path / "batch.sh.j2").write_text("{# summary: ours #}\n")
    (tmp_path / "p.yaml").write_text(f"template_folders: [{tmp_path}]\n")
    monkeypatch.setenv("GPU_POLICY_FILE", str(tmp_path / "p.yaml"))
    assert f"batch ({tmp_path}/batch.sh.j2): ours" in gpu_policy("templates").out


def modules_of(*args):
    code = (
        "import sys; from slurm_gpu_policy.apps.policy.main import main\n"
        f"sys.argv[1:] = {args!r}; main(); print(*sys.modules, file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stderr.split())


def test_a_command_is_imported_only_when_it_is_used():
    loaded = modules_of("version")
    assert "slurm_gpu_policy.apps.policy.version" in loaded
    assert not {"slurm_gpu_policy.apps.policy.queue", "pydantic", "rich", "yaml", "jinja2"} & loaded


def test_the_installed_program_ends_with_the_same_codes(tmp_path):
    codes = {
        ("version",): 0,
        ("nonsense",): 2,
        ("explain", "x"): 2,
        ("check", str(tmp_path / "none")): 5,
    }
    for args, code in codes.items():
        result = subprocess.run([PROGRAM, *args], capture_output=True, text=True, check=False)
        assert (args, result.returncode) == (args, code)
        assert "Traceback" not in result.stderr


def test_without_slurm_on_the_machine_it_ends_with_four(tmp_path):
    env = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    for args in (["queue"], ["explain", "1"], ["init", "-"], ["doctor"]):
        result = subprocess.run(
            [sys.executable, PROGRAM, *args], capture_output=True, text=True, check=False, env=env
        )
        assert result.returncode == 4, result.stderr
        assert "Traceback" not in result.stderr
