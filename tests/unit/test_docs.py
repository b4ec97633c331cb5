"""The generated pages are what the code says now."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_gpu_policy.config.validation import validate
from slurm_gpu_policy.policy.rules import KNOWN

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools/generate_docs.py"


def run(*args):
    return subprocess.run(
        [sys.executable, TOOL, *args], capture_output=True, text=True, check=False, cwd=ROOT
    )


def test_the_generated_pages_are_current():
    result = run("--check")
    assert result.returncode == 0, result.stderr


def test_the_generator_refuses_what_it_does_not_know():
    assert run("--chek").returncode == 2


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("configuration.md", ["price_per_hour", "`limits.accounts.NAME`", "Price of one GPU"]),
        (
            "cli.md",
            ["gpu-policy explain", "--gpu-type", "gpu_indexes", "| 4 | Slurm, or the controller"],
        ),
    ],
)
def test_a_page_has_what_one_looks_up_in_it(page, words):
    text = (ROOT / "docs" / page).read_text()
    assert [word for word in words if word not in text] == []


def _example_policies():
    """Policies, or parts of one, that a page shows."""
    for page in ("budgets.md", "notify.md"):
        text = (ROOT / "docs" / page).read_text()
        for number, found in enumerate(
            re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        ):
            yield pytest.param(found, id=f"{page}-{number}")


@pytest.mark.parametrize("text", [*_example_policies()])
def test_a_policy_that_a_page_shows_is_right(text):
    assert validate(text.encode(), "policy.yaml")


def test_every_rule_has_its_line_in_the_written_policy():
    written = set(
        re.findall(r"^\| ([A-Z]-\d{3}) \|", (ROOT / "docs/policy.md").read_text(), re.MULTILINE)
    )
    assert written == KNOWN
