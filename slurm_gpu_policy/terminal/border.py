"""The border of every program: what happens inside becomes an exit code and words, once.

    0    done
    1    Slurm refused, in its own words; or it answered what nobody can read
    2    wrong use
    3    the site's policy refused
    4    Slurm, or the controller, cannot be reached
    5    the policy file is wrong
    130  interrupted (Ctrl-C)
    141  whoever read the output went away, as for any program in a pipe

A command returns its exit code, or ``None`` for 0, and raises the errors of
:mod:`slurm_gpu_policy.errors`; anything else that is raised is a defect and shows its traceback.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

import click

from slurm_gpu_policy.errors import (
    ControllerUnavailable,
    NotifyFailed,
    PolicyFileError,
    PolicyLayerError,
    RecordsUnavailable,
    Refused,
    RequestError,
    SlurmUnavailable,
)
from slurm_gpu_policy.terminal.text import complain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_gpu_policy.model.decision import Reason

DONE = 0
SLURM_REFUSED = 1
WRONG_USE = 2
POLICY_REFUSED = 3
UNREACHABLE = 4
WRONG_POLICY_FILE = 5
INTERRUPTED = 130
READER_GONE = 141


_AWAY = (SlurmUnavailable, RecordsUnavailable, ControllerUnavailable, NotifyFailed)


def exit_code(error: PolicyLayerError) -> int:
    """Return the exit code that an error of ours stands for."""
    if isinstance(error, RequestError):
        return WRONG_USE
    if isinstance(error, Refused):
        return POLICY_REFUSED
    if isinstance(error, PolicyFileError):
        return WRONG_POLICY_FILE
    return UNREACHABLE if isinstance(error, _AWAY) else SLURM_REFUSED


def run_app(command: click.Command, program: str, args: Sequence[str] | None = None) -> int:
    """Run a click command (*args*: ``sys.argv`` without the program) and return its exit code."""
    arguments = sys.argv[1:] if args is None else list(args)
    # Closed by the caller (`>&-`): what is said goes nowhere, and is no reason to fail.
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    # A name that the terminal's encoding cannot show is no reason to fail.
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        try:
            return _invoke(command, program, arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _close_quietly(sys.stdout)
        return READER_GONE
    except OSError as error:  # such as a full disk under the output
        _close_quietly(sys.stdout)
        complain(program, str(error))
        return SLURM_REFUSED


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - while the program runs


def _invoke(command: click.Command, program: str, arguments: list[str]) -> int:
    """Run the command; like click's own ``main``, but with our codes and words."""
    if f"_{program.upper().replace('-', '_')}_COMPLETE" in os.environ:
        command.main(arguments, program)  # the shell asks for completions
    try:
        with command.make_context(program, arguments) as context:
            result = command.invoke(context)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        return _wrong_use(error, program)
    except PolicyLayerError as error:
        complain(program, _words(error))
        return exit_code(error)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    return result if isinstance(result, int) else DONE


def _wrong_use(error: click.ClickException, program: str) -> int:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2; 8.1 shows the help by itself
        error.show()
        return WRONG_USE
    path = context.command_path if context else program
    complain(program, f"{error.format_message()}\ntry '{path} --help'")
    return WRONG_USE


def _words(error: PolicyLayerError) -> str:
    if isinstance(error, Refused):
        lines = [_reason(reason) for reason in error.decision.reasons]
        return "\n".join(["the site's policy refuses this", *lines])
    if isinstance(error, PolicyFileError):
        return "\n".join(["the policy file is wrong", *error.problems])
    return str(error) or type(error).__name__


def _reason(reason: Reason) -> str:
    remedy = f"\n       what would pass: {reason.remedy}" if reason.remedy else ""
    return f"{reason.rule}: {reason.message}{remedy}"


def _close_quietly(stream: TextIO) -> None:
    """Send what is still buffered to nowhere, or the interpreter complains of it at its end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
