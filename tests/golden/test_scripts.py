"""Rendered scripts, word for word: what a user sees with ``gpu-submit --dry-run``.

After a change that is meant: ``GOLDEN=write pytest tests/golden`` and read the difference.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from slurm_gpu_policy.adapters.rendering.directives import parse_directives
from tests.scripts import make_decision, make_request, rendered

HERE = Path(__file__).parent
PARAMETERS = "# learning rates\r\n\r\n--lr 0.1 --name 'first run'\r\n--lr 0.01\r\n"
OWN_SCRIPT = """#!/bin/bash
#SBATCH -J nightly --gpus=4   # as agreed
#SBATCH --time=4:00:00

module load cuda
srun python train.py "$@"
"""
PYTHON_SCRIPT = """#!/usr/bin/env python3
# -*- coding: utf-8 -*-
print("hello")
"""


def own(script, *args, **fields):
    options = tuple((each.name, each.value) for each in parse_directives(script))
    return make_request(*args, script=script, script_options=options, **fields)


def hostile():
    return make_request(
        "python",
        "it's",
        "$(reboot)",
        "two\nlines",
        "-n",
        name='a "job" #1',
        environment=(("GREETING", "hello world"), ("RAW", "\udcff\x1b[31m")),
        options=(("comment", "first\nsecond"), ("exclude", "gpu[07-09]"), ("mail-type", "END")),
    )


CASES = {
    "batch": lambda: (make_request("python", "train.py", "--epochs=3", memory_mb=64000), {}),
    "batch-hostile": lambda: (hostile(), {}),
    "batch-untyped-site": lambda: (
        make_request("nvidia-smi"),
        {"gres_type": None, "features": ("h100",), "gpu_request": "gpus"},
    ),
    "batch-cpu-fallback": lambda: (
        make_request("python", "prepare.py", cpu_fallback=True),
        {"gpus": 0, "gpu_type": "", "gres_type": None, "cpus": 16, "partition": "cpu"},
    ),
    "own-script-routed": lambda: (own(OWN_SCRIPT, "--epochs", "3", retries=2), {}),
    "own-script-as-decided": lambda: (
        own(OWN_SCRIPT.replace("=4 ", "=h100:4 "), environment=(("SEED", "1"),)),
        {"time_seconds": 4 * 3600},
    ),
    "own-script-python": lambda: (own(PYTHON_SCRIPT), {}),
    "torchrun": lambda: (
        make_request(
            "train.py", "--model", "my model", template="torchrun", gpus=16, nodes=2,
            environment=(("NCCL_DEBUG", "INFO"),), workload="training", retries=3,
        ),
        {"gpus": 16, "nodes": 2},
    ),
    "sweep": lambda: (
        make_request(
            "python", "train.py", template="sweep",
            params=(("file", "PARAMETERS"), ("max_parallel", "1")),
        ),
        {"tasks": 2},
    ),
    "jupyter": lambda: (make_request(template="jupyter", params=(("login", "login.site"),)), {}),
    "serve-vllm": lambda: (
        make_request(
            "--max-model-len", "8192", template="serve", workload="inference",
            params=(("model", "org/model-8b"),), environment=(("HF_HUB_OFFLINE", "1"),),
        ),
        {},
    ),
    "serve-ollama": lambda: (
        make_request(
            template="serve", params=(("model", "llama3:8b"), ("engine", "ollama"), ("port", "80"))
        ),
        {},
    ),
    "interactive": lambda: (make_request(template="interactive", cpus_per_task=8), {}),
    "interactive-salloc": lambda: (
        make_request("bash", "-l", template="interactive", params=(("launcher", "salloc"),)),
        {},
    ),
}  # fmt: skip


@pytest.fixture
def script(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("PARAMETERS").write_bytes(PARAMETERS.encode())
    job, routed = CASES[request.param]()
    text = rendered(job, make_decision(**routed)).script
    return request.param, text.encode("utf-8", "surrogateescape")


every = pytest.mark.parametrize("script", CASES, indirect=True)
in_bash = pytest.mark.parametrize(
    "script", [each for each in CASES if each != "own-script-python"], indirect=True
)


@every
def test_a_script_is_what_it_was(script):
    name, text = script
    path = HERE / f"{name}.sh"
    if os.environ.get("GOLDEN") == "write":
        path.write_bytes(text)
    assert text == path.read_bytes()


@in_bash
def test_bash_can_read_it(script):
    _, text = script
    assert (
        subprocess.run(["bash", "-n"], input=text, capture_output=True, check=False).stderr == b""
    )


@in_bash
@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing(script, tmp_path):
    _, text = script
    path = tmp_path / "script.sh"
    path.write_bytes(text)
    # 2016: the node's part of torchrun stands in single quotes on purpose.
    # 2317: it takes a function that only a trap calls for unreachable.
    run = subprocess.run(
        ["shellcheck", "--exclude=SC2016,SC2317", path], capture_output=True, text=True, check=False
    )
    assert run.stdout == ""


@every
def test_no_directive_is_empty_and_none_stands_twice(script):
    _, text = script
    read = parse_directives(text.decode("utf-8", "surrogateescape"))
    ours = [each for each in read if each.name != "time"]
    assert all(each.value != "" for each in read)
    assert len({each.name for each in ours}) == len(ours)


def test_every_golden_script_has_a_case():
    assert {path.stem for path in HERE.glob("*.sh")} == CASES.keys()
