"""Whatever happens inside a program becomes one exit code and words, and no traceback."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from slurm_gpu_policy import errors
from slurm_gpu_policy.model.decision import Decision, Reason
from slurm_gpu_policy.terminal.border import exit_code, run_app


def program(action):
    @click.command()
    @click.option("--size", type=int)
    def command(size):
        return action()

    return command


def raising(error):
    def action():
        raise error

    return program(action)


REFUSED = errors.Refused(
    Decision("refuse", (Reason("A-103", "no such GPU", remedy="ask for h100"),))
)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (errors.RequestError("what?"), 2, "gpu-x: error: what?"),
        (errors.RenderError("no template"), 2, "no template"),
        (REFUSED, 3, "A-103: no such GPU"),
        (errors.PolicyFileError("p", ["p:1: a", "p:2: b"]), 5, "  p:2: b"),
        (errors.SlurmRefused("Invalid qos"), 1, "Invalid qos"),
        (errors.JobNotFound("7"), 1, "Slurm knows no job 7"),
        (errors.SlurmUnavailable("no controller"), 4, "no controller"),
        (errors.SlurmTimeout("no answer"), 4, "no answer"),
        (errors.SlurmUnreadable("???"), 1, "???"),
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
        (OSError(28, "No space left on device"), 1, "No space left"),
    ],
)
def test_an_error_has_its_exit_code_and_is_told_on_standard_error(error, code, words, capsys):
    assert run_app(raising(error), "gpu-x", []) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert "Traceback" not in captured.err


def test_every_error_of_the_tree_has_an_exit_code():
    tree = [errors.PolicyLayerError]
    for kind in tree:
        tree += kind.__subclasses__()
    codes = {kind: exit_code(kind.__new__(kind)) for kind in tree}
    assert set(codes.values()) == {1, 2, 3, 4, 5}
    assert codes[errors.SlurmTimeout] == 4


@pytest.mark.parametrize("args", [["--bogus"], ["--size", "x"], ["extra"], ["--size"]])
def test_wrong_use_ends_with_two_and_points_to_the_help(args, capsys):
    assert run_app(program(lambda: None), "gpu-x", args) == 2
    assert "try 'gpu-x --help'" in capsys.readouterr().err


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (3, 3), (137, 137)])
def test_a_command_may_return_its_own_exit_code(result, code):
    assert run_app(program(lambda: result), "gpu-x", []) == code


def test_help_ends_with_zero(capsys):
    assert run_app(program(lambda: None), "gpu-x", ["--help"]) == 0
    assert "Usage: gpu-x" in capsys.readouterr().out


def test_a_defect_shows_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_app(program(lambda: 1 / 0), "gpu-x", [])


def test_hostile_text_in_an_error_is_escaped(capsys):
    run_app(raising(errors.SlurmRefused("\x1b[2J")), "gpu-x", [])
    assert "\x1b" not in capsys.readouterr().err


CODE = """
import sys, click
from slurm_gpu_policy.terminal.border import run_app
@click.command()
def cli():
    for _ in range(100000):
        print("x" * 50)
sys.exit(run_app(cli, "gpu-x", []))
"""


def test_a_reader_who_goes_away_is_no_error():
    command = f"set -o pipefail; {sys.executable} -c '{CODE}' | head -1 > /dev/null"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (141, "")


def test_a_full_disk_is_said_and_not_swallowed():
    command = f"{sys.executable} -c '{CODE}' > /dev/full"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_ascii_terminal_gets_escapes_and_no_crash():
    code = (
        "import sys, click\nfrom slurm_gpu_policy.terminal.border import run_app\n"
        "sys.exit(run_app(click.Command('x', callback=lambda: print('é…')), 'gpu-x', []))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "\\xe9\\u2026\n")


def test_the_border_imports_nothing_that_is_not_needed_at_each_start():
    code = (
        "import sys, slurm_gpu_policy.terminal.border\n"
        "print({'rich', 'json', 'yaml', 'pydantic', 'jinja2'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert answer.stdout == b"set()\n"
