"""What ``gpu-policy doctor`` wants to know of Slurm: found, answering, configured, allowed."""

from __future__ import annotations

import re
from dataclasses import field
from types import MappingProxyType
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.slurm.parse_cluster import DATED
from slurm_gpu_policy.adapters.slurm.run import (
    Answer,
    Call,
    reading_environment,
    run,
    run_each,
)
from slurm_gpu_policy.adapters.slurm.words import error_in, said
from slurm_gpu_policy.errors import SlurmError
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.model.snapshot import Part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurm_gpu_policy.services.ports import ReadPort

PROGRAMS = (
    "sbatch",
    "salloc",
    "squeue",
    "scontrol",
    "scancel",
    "sacct",
    "sacctmgr",
    "sprio",
    "sshare",
)
SETTINGS = (
    "SelectType",
    "SelectTypeParameters",
    "GresTypes",
    "PriorityType",
    "PriorityDecayHalfLife",
    "JobSubmitPlugins",
    "CliFilterPlugins",
    "AccountingStorageType",
    "AccountingStorageEnforce",
    "AccountingStorageTRES",
    "AccountingStoreFlags",
    "PrivateData",
    "MinJobAge",
)
_VERSION = re.compile(r"(\d+\.\d+(?:\.\d+)?\S*)", re.ASCII)
_SECONDS = 10.0
"""Longest wait for one answer: whoever runs a doctor waits for it."""
_VERSION_SECONDS = 3.0
_OPERATOR_LEVELS = frozenset({"Administrator", "Operator"})


@record
class Report:
    """What was found. An empty text for a trouble means that there is none.

    ``versions`` has each program's release, ``""`` where it is missing. ``pyslurm`` is its
    release and the Slurm it was built for, or why it cannot be used; ``pyslurm_trouble`` is the
    latter where it is installed and the policy file lets it be used. ``clock_skew_seconds`` is
    how far slurmctld's clock is ahead of this machine's, where that could be told.
    """

    adapter: str
    why: str
    versions: Mapping[str, str]
    pyslurm: str
    controller_trouble: str
    database_trouble: str
    cluster: str = ""
    release: str = ""
    pyslurm_trouble: str = ""
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    user: str = ""
    admin_level: str = ""
    """``Administrator``, ``Operator`` or ``None``, as sacctmgr has it; ``""`` if unknown."""
    coordinates: tuple[str, ...] = ()
    """Accounts whose coordinator the caller is."""
    may_set_site_factors: bool = False
    tracks_gpus: bool = False
    """Whether AccountingStorageTRES names ``gres/gpu``."""
    clock_skew_seconds: int | None = None


def diagnose(slurm: ReadPort, adapter: str, why: str, user: str, now: int) -> Report:
    """Look at everything and raise nothing: what is broken is what the report is for.

    *adapter* is the description of *slurm*, which was asked for first: that is what loads
    pyslurm. *why* comes from ``select_slurm``; *user* is the caller, *now* Unix seconds.
    """
    from slurm_gpu_policy.adapters.slurm.pyslurm_adapter import PyslurmSlurm  # noqa: PLC0415

    pyslurm_trouble = slurm.why_not if isinstance(slurm, PyslurmSlurm) else ""
    if pyslurm_trouble and adapter:
        why = f"the commands, because {pyslurm_trouble}"
    settings: Mapping[str, str] = {}
    cluster = release = controller_trouble = ""
    try:
        config = slurm.read(Part.CONFIG).config
        if config is not None:
            settings, cluster, release = config.settings, config.name, config.version
    except SlurmError as error:
        controller_trouble = str(error)
    level, coordinates, database_trouble = _rights(user)
    slurm_user = settings.get("SlurmUser", "").partition("(")[0]
    is_operator = level in _OPERATOR_LEVELS or user in {"root", slurm_user}
    return Report(
        adapter=adapter,
        why=why,
        versions=MappingProxyType(_versions()),
        pyslurm=pyslurm_trouble or _pyslurm(),
        pyslurm_trouble=pyslurm_trouble,
        controller_trouble=controller_trouble,
        database_trouble=database_trouble,
        cluster=cluster,
        release=release,
        settings=MappingProxyType({name: settings.get(name, "") for name in SETTINGS}),
        user=user,
        admin_level=level,
        coordinates=coordinates,
        may_set_site_factors=is_operator,
        tracks_gpus="gres/gpu" in settings.get("AccountingStorageTRES", "").split(","),
        clock_skew_seconds=_skew(settings, now),
    )


def _versions() -> dict[str, str]:
    """Ask all programs at once: without a Slurm configuration each one waits for it in vain."""
    from shutil import which  # noqa: PLC0415

    versions = dict.fromkeys(PROGRAMS, "")
    there = [program for program in PROGRAMS if which(program)]
    calls = [Call((program, "-V"), env=reading_environment()) for program in there]
    for number, answer in run_each(calls, at_once=len(calls), timeout=_VERSION_SECONDS):
        if isinstance(answer, Answer) and (found := _VERSION.search(answer.stdout)):
            versions[there[number]] = found[1]
    return versions


def _rights(user: str) -> tuple[str, tuple[str, ...], str]:
    """Return (admin level, accounts coordinated, why the database could not be asked)."""
    form = "format=user,admin,coord"
    argv = ("sacctmgr", "-n", "-P", "show", "user", "where", f"name={user}", "withcoord", form)
    try:
        answer = run(argv, timeout=_SECONDS, env=reading_environment())
    except SlurmError as error:
        return "", (), str(error)
    if answer.code != 0:
        return "", (), str(error_in(answer))
    for line in answer.stdout.splitlines():
        name, _, rest = line.partition("|")
        level, _, accounts = rest.partition("|")
        if name == user:
            return level, tuple(part for part in accounts.split(",") if part), ""
    return "", (), said(answer)


def _pyslurm() -> str:
    """Ask another process: without a Slurm configuration the import ends the whole process."""
    import sys  # noqa: PLC0415

    code = (
        "import pyslurm; print(pyslurm.__version__, 'for Slurm',"
        " '.'.join(f'{part:02d}' for part in pyslurm.slurm_api_version()))"
    )
    try:
        answer = run((sys.executable, "-c", code), timeout=_SECONDS)
    except SlurmError as error:
        return str(error)
    if answer.code == 0:
        return answer.stdout.strip()
    lines = answer.stderr.strip().splitlines()
    return lines[-1] if lines else f"importing it ended Python with code {answer.code}"


def _skew(settings: Mapping[str, str], now: int) -> int | None:
    """Return slurmctld's clock minus ours, from the moment that the settings are dated."""
    text = settings.get(DATED, "")
    return int(text) - now if text.isdigit() else None
