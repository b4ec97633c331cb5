"""A submission as pyslurm's ``JobSubmitDescription`` has it, where it can say it at all.

:data:`_OPTIONS` is the whole of what goes through pyslurm; a submission with anything else goes
through sbatch. Left out on purpose, and why:

* ``--export`` other than ``ALL``, and ``SBATCH_*`` variables: sbatch knows what they mean;
* arguments for the script: pyslurm takes them only with a script that lies in a file;
* ``--gpus-per-task``, ``--begin``, ``--deadline``, ``--mem=0``, ``--ntasks-per-*``,
  ``--exclusive=user``, generic resources other than GPUs: pyslurm writes them in a form that
  slurmctld refuses, or does without what sbatch derives from them;
* ``--hint``, ``--gpu-freq``, ``--bb``, ``--propagate``, ``--test-only``, het jobs: it has none.
"""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.adapters.slurm.gres import gpus
from slurm_gpu_policy.units import parse_duration, parse_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slurm_gpu_policy.model.submission import Submission


class Inexpressible(Exception):
    """pyslurm has no word for this option, or a wrong one."""


def _plain(text: str) -> str:
    text.encode()  # pyslurm encodes strictly: a name that is no UTF-8 goes through sbatch
    return text


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 2**16 - 2):
        raise Inexpressible(text)
    return int(text)


def _gpus(text: str) -> dict[str, int]:
    """Return GPUs as ``{"gpu:h100": 2}``: pyslurm makes ``gres/gres/gpu`` of the newer text."""
    entries = gpus(text)
    if not entries or len(entries) != text.count(",") + 1:
        raise Inexpressible(text)
    return {f"gpu:{one.kind}" if one.kind else "gpu": one.number for one in entries}


def _minutes(text: str) -> int:
    if text.casefold() in {"unlimited", "infinite", "-1", "0"}:
        raise Inexpressible(text)
    return -(-parse_duration(text) // 60)


def _mebibytes(text: str) -> str:
    amount = parse_memory(text)
    if amount == 0:  # all of a node's memory to sbatch, nothing to pyslurm
        raise Inexpressible(text)
    return f"{amount}M"


def _nodes(text: str) -> str:
    low, _, high = text.partition("-")
    _number(low)
    if high:
        _number(high)
    return text


def _signal(text: str) -> str:
    """Return ``--signal=[RB:]NAME[@SECONDS]``; pyslurm knows signals by their full name only."""
    flags, colon, rest = text.rpartition(":")
    name, at, seconds = rest.partition("@")
    if (colon and set(flags.upper()) - set("RB")) or (at and not seconds.isdigit()):
        raise Inexpressible(text)
    return f"{flags}{colon}{full_signal(name)}{at}{seconds}"


def full_signal(name: str) -> str:
    """Return ``SIGUSR1`` for ``USR1``; a number stays one."""
    name = name.upper()
    return name if name.isdigit() or name.startswith("SIG") else f"SIG{name}"


_MAIL = {"array_tasks", "begin", "end", "fail", "requeue", "stage_out", "time_limit"}


def _mail(text: str) -> list[str]:
    kinds = text.casefold().split(",")
    if not set(kinds) <= _MAIL:
        raise Inexpressible(text)
    return kinds


def _signed(text: str) -> str:
    """Return a number as text: pyslurm takes the number 0 for "not set", the text "0" for 0."""
    int(text)
    return text


def _choice(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise Inexpressible(text)
        return text

    return read


# sbatch's long name -> (attribute of JobSubmitDescription, how to write the value)
_OPTIONS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "account": ("account", _plain),
    "array": ("array", _plain),
    "chdir": ("working_directory", os.path.abspath),
    "comment": ("comment", _plain),
    "constraint": ("constraints", _plain),
    "cpus-per-task": ("cpus_per_task", _number),
    "dependency": ("dependencies", _plain),
    "error": ("standard_error", _plain),
    "exclude": ("excluded_nodes", _plain),
    "gpus": ("gpus", lambda text: _gpus(",".join("gpu:" + one for one in text.split(",")))),
    "gpus-per-node": (
        "gres_per_node",
        lambda text: _gpus(",".join("gpu:" + one for one in text.split(","))),
    ),
    "gres": ("gres_per_node", _gpus),
    "input": ("standard_in", _plain),
    "job-name": ("name", _plain),
    "mail-type": ("mail_types", _mail),
    "mail-user": ("mail_user", _plain),
    "mem": ("memory_per_node", _mebibytes),
    "mem-per-cpu": ("memory_per_cpu", _mebibytes),
    "nice": ("nice", _signed),
    "nodelist": ("required_nodes", _plain),
    "nodes": ("nodes", _nodes),
    "ntasks": ("ntasks", _number),
    "open-mode": ("log_files_open_mode", _choice("append", "truncate")),
    "output": ("standard_output", _plain),
    "partition": ("partitions", _plain),
    "qos": ("qos", _plain),
    "reservation": ("reservations", _plain),
    "signal": ("signal", _signal),
    "time": ("time_limit", _minutes),
}
_FLAGS: Mapping[str, tuple[str, Any]] = {
    "hold": ("priority", 0),
    "no-requeue": ("is_requeueable", False),
    "requeue": ("is_requeueable", True),
}
_LIMITS = ("CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS")
"""Resource limits that sbatch hands on (common/slurm_resource_info.c)."""


def description(
    submission: Submission, environment: Mapping[str, str], *, launchers: bool = True
) -> dict[str, Any]:
    """Return the attributes of the ``JobSubmitDescription`` that says the same as sbatch would.

    *launchers* is whether the site lets sbatch set up MPI's launchers (LaunchParameters).

    Raises:
        Inexpressible: an option, or a value, that has to go through sbatch.
    """
    options = dict(submission.script_options) | dict(submission.options)
    if submission.script_args or any(name.startswith("SBATCH_") for name in environment):
        raise Inexpressible
    if options.get("export") not in {None, "ALL"}:
        raise Inexpressible
    said: dict[str, Any] = {"script": _script(submission.script)}
    for name, value in options.items():
        if name == "export":
            continue
        if value is None and name in _FLAGS:
            attribute, said_value = _FLAGS[name]
        elif value is not None and name in _OPTIONS:
            attribute, write = _OPTIONS[name]
            try:
                said_value = write(value)
            except ValueError as error:  # also UnicodeError and RequestError's kin
                raise Inexpressible(name) from error
        else:
            raise Inexpressible(name)
        if attribute in said:  # such as --gres beside --gpus-per-node
            raise Inexpressible(name)
        said[attribute] = said_value
    _leave_unset(said)
    said["environment"] = _environment(options, said, environment, launchers=launchers)
    return said


class _NoProfile(list[str]):
    """An empty list that counts as given.

    pyslurm writes "not set" as a number that slurmctld reads as "profile everything".
    """

    def __bool__(self) -> bool:
        return True


def _leave_unset(said: dict[str, Any]) -> None:
    """Leave to slurmctld what sbatch leaves to it.

    pyslurm fills in one node, one task and one CPU as if they had been asked for: a job of 9
    GPUs could then not use two nodes. Slurm's own marks for "not set" pass through it.
    """
    nodes = int(said["nodes"].partition("-")[0]) if "nodes" in said else 1
    said["min_cpus_per_node"] = said.get("cpus_per_task", 1) * said.get("ntasks", nodes)
    said.setdefault("nodes", f"1-{_NO_VAL}")
    said.setdefault("ntasks", _NO_VAL)
    said.setdefault("cpus_per_task", _NO_VAL16)
    said.setdefault("name", "sbatch")
    said["profile_types"] = _NoProfile()


_NO_VAL = 2**32 - 2
_NO_VAL16 = 2**16 - 2


def _script(text: str) -> str:
    """Return the script; what sbatch itself would refuse is left to it, and to its words."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Inexpressible from error
    if not text.startswith("#!") or "\0" in text or "\r\n" in text:
        raise Inexpressible
    return text


def _environment(
    options: Mapping[str, str | None],
    said: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    launchers: bool,
) -> dict[str, str]:
    """Return the caller's environment with what sbatch adds to it.

    Always given: pyslurm's own default finds it empty under some Pythons, and the job then
    "cannot run without an environment".
    """
    added = {
        "SLURM_JOB_NAME": said["name"],
        "SLURM_PRIO_PROCESS": str(os.getpriority(os.PRIO_PROCESS, 0)),
        "SLURM_SUBMIT_DIR": os.getcwd(),  # noqa: PTH109 - text is what is wanted
        "SLURM_SUBMIT_HOST": os.uname().nodename,
        "SLURM_UMASK": f"{_umask():04o}",
    }
    for name in _LIMITS:
        soft, _hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
        added[f"SLURM_RLIMIT_{name}"] = str(soft if soft != resource.RLIM_INFINITY else 2**64 - 1)
    for name, variable in _ECHOED.items():
        if (value := options.get(name)) is not None:
            added[variable] = value
    if "SLURM_CPUS_PER_TASK" in added:
        added["SLURM_TRES_PER_TASK"] = "cpu=" + added["SLURM_CPUS_PER_TASK"]
    return {**(_LAUNCHERS if launchers else {}), **environment, **added}


# Options that sbatch repeats in the job's environment (common/env.c, set_env_from_opts).
_ECHOED: Mapping[str, str] = {
    "cpus-per-task": "SLURM_CPUS_PER_TASK",
    "gpus": "SLURM_GPUS",
    "gpus-per-node": "SLURM_GPUS_PER_NODE",
}
_LAUNCHERS: Mapping[str, str] = {
    "HYDRA_BOOTSTRAP": "slurm",
    "HYDRA_LAUNCHER_EXTRA_ARGS": "--external-launcher",
    "I_MPI_HYDRA_BOOTSTRAP": "slurm",
    "I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS": "--external-launcher",
    "OMPI_MCA_plm_slurm_args": "--external-launcher",
    "PRTE_MCA_plm_slurm_args": "--external-launcher",
}
"""What sbatch tells MPI's launchers, so that mpirun starts its daemons through Slurm."""


def _umask() -> int:
    """Return the process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
