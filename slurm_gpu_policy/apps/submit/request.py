"""From option values, a script's own #SBATCH lines and defaults to one :class:`Request`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.rendering.options import asks_gpus
from slurm_gpu_policy.adapters.rendering.sbatch_grammar import family, long_name
from slurm_gpu_policy.apps.submit.gpu_options import COUNTED, read_gpus
from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.model.decision import Reason
from slurm_gpu_policy.model.request import UNLIMITED, Request
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.units import parse_duration, parse_memory, parse_money

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurm_gpu_policy.apps.submit.gpu_options import Gpus
    from slurm_gpu_policy.config.schema import Policy

    Options = Sequence[tuple[str, str | None]]

# Texts: re compiles and keeps those that are used, and most calls use none.
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_NODES = r"(\d{1,6})(?:-(\d{1,6}))?"
_UNLIMITED = frozenset({"0", "unlimited", "infinite", "-1"})

# What the request itself holds under another form than sbatch's; all else is passed on as it is.
_READ = frozenset(
    {
        "gpus", "gpus-per-node", "gres", "gpus-per-task", "account", "partition", "qos", "time",
        "job-name", "nodes", "ntasks", "cpus-per-task", "mem", "array", "reservation",
    }
)  # fmt: skip


def build_request(
    values: Mapping[str, str],
    *,
    many: Mapping[str, Sequence[str]],
    words: Sequence[str],
    script: str | None,
    script_options: Options,
    user: str,
    policy: Policy,
    groups: Sequence[str] = (),
    soft: frozenset[str] = frozenset(),
) -> tuple[Request, tuple[Reason, ...]]:
    """Return the request, and the places where an option contradicts the script (rule S-501).

    *values* holds the options given, by sbatch's long name (a flag has the value ``""``);
    *script_options* what the user's script says itself. Where both speak the option wins, as
    it does with sbatch. *soft* names the options that are only settings, not typed.

    Raises:
        RequestError: a value that cannot be understood, or two that contradict each other.
    """
    if any(name == "test-only" for name, _ in script_options):
        msg = "the script's own `#SBATCH --test-only` would queue nothing: use gpu-submit --dry-run"
        raise RequestError(msg)
    extra = [_sbatch_arg(text) for text in many.get("sbatch-arg", ())]
    given = {**values, **{name: value or "" for name, value in extra}}
    own = {name: value or "" for name, value in script_options}
    merged = _withoutreplaces(own, given) | given
    if clusters := merged.get("clusters"):
        msg = (
            f"--clusters={clusters}: gpu-submit decides for the cluster it runs on; "
            "submit where the job shall run"
        )
        raise RequestError(msg)
    workload = merged.get("workload") or policy.defaults.workload
    gpus = read_gpus(merged)
    types = _gpu_types(merged, given, gpus, soft)
    total = gpus.total
    if not gpus.asked and (script is None or types):
        total = max(policy.defaults.gpus, 1 if types else 0) or None
    nodes, node_range = _nodes(merged.get("nodes"))
    memory = merged.get("mem")
    memory_mb = parse_memory(memory) if memory else None
    passed = [
        (name, value or None)
        for name, value in given.items()
        if name not in _READ and name not in _OURS
    ]
    if memory is not None and not memory_mb and "mem" in given:
        passed.append(("mem", memory))  # --mem=0 asks for all the memory of a node
    if node_range and "nodes" in given:
        passed.append(("nodes", node_range))
    if gpus.other_gres and "gres" in given:
        passed.append(("gres", gpus.other_gres))
    request = Request(
        user=user,
        groups=tuple(groups),
        name=merged.get("job-name", ""),
        command=tuple(words),
        script=script,
        script_options=tuple(script_options),
        gpus=total,
        gpus_per_node=gpus.per_node,
        gpu_types=types,
        nodes=nodes,
        ntasks=_count("ntasks", merged.get("ntasks")),
        cpus_per_task=_count("cpus-per-task", merged.get("cpus-per-task")),
        memory_mb=memory_mb or None,
        time_seconds=_time(merged.get("time")),
        account=merged.get("account") or None,
        partition=merged.get("partition") or None,
        qos=merged.get("qos") or None,
        reservation=merged.get("reservation") or None,
        array=merged.get("array") or None,
        workload=workload,
        template=merged.get("template") or None,
        params=tuple(_pair("--param", text) for text in many.get("param", ())),
        environment=tuple(_variable(text) for text in many.get("env", ())),
        max_cost_micros=parse_money(cost) if (cost := merged.get("max-cost")) else None,
        cpu_fallback=merged.get("fallback") == "cpu",
        retries=_count("retries", merged.get("retries"), least=0) or 0,
        idle_ok_seconds=parse_duration(idle) if (idle := merged.get("idle-ok")) else None,
        options=tuple(passed),
    )
    return request, _conflicts(given, own)


_OURS = frozenset(
    {"gpu-type", "workload", "template", "max-cost", "fallback", "retries", "idle-ok"}
)


def replaces(name: str, value: str) -> frozenset[str]:
    """Return the options that this one replaces: itself, and its family if it says the same."""
    if name == "gres" and not asks_gpus(name, value):
        return frozenset({name})  # --gres=tmpfs:5 leaves a script's --gpus alone
    return family(name)


def _withoutreplaces(own: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Drop what an option given says in another form of the same family."""
    gone = {rival for name, value in given.items() for rival in replaces(name, value)}
    return {name: value for name, value in own.items() if name not in gone}


def _gpu_types(
    merged: Mapping[str, str], given: Mapping[str, str], gpus: Gpus, soft: frozenset[str]
) -> tuple[str, ...]:
    """Return the GPU types wanted, best first.

    A type in the count is the one meant; a ``--gpu-type`` typed beside a script replaces the
    script's, and one that is only a setting (*soft*) yields to any.
    """
    types = tuple(name for name in merged.get("gpu-type", "").split(",") if name)
    if not gpus.gpu_type or not types or types == (gpus.gpu_type,):
        return types or ((gpus.gpu_type,) if gpus.gpu_type else ())
    if "gpu-type" in soft:
        return (gpus.gpu_type,)
    if any(name in given for name in COUNTED):
        msg = f"--gpu-type {','.join(types)} contradicts the type {gpus.gpu_type} in the GPU count"
        raise RequestError(msg)
    return types


def _count(option: str, text: str | None, least: int = 1) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 7 and int(text) >= least):  # noqa: PLR2004
        msg = f"--{option}={text} is not a whole number from {least} to 9999999"
        raise RequestError(msg)
    return int(text)


def _nodes(text: str | None) -> tuple[int | None, str]:
    """Return (most nodes, the range as sbatch has it or ``""``).

    A range is judged and priced by its upper end: what the job may get.
    """
    if not text:
        return None, ""
    match = re.fullmatch(_NODES, text.strip(), re.ASCII)
    if match is None or int(match[1]) < 1 or int(match[2] or match[1]) < int(match[1]):
        msg = f"--nodes={text} is not a number of nodes: write 2 or 2-4"
        raise RequestError(msg)
    return int(match[2] or match[1]), text.strip() if match[2] else ""


def _time(text: str | None) -> int | None:
    if not text:
        return None
    return UNLIMITED if text.strip().lower() in _UNLIMITED else parse_duration(text)


def _pair(option: str, text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        msg = f"{option} {text!r}: write it as NAME=VALUE"
        raise RequestError(msg)
    return name, value


def _variable(text: str) -> tuple[str, str]:
    name, value = _pair("--env", text)
    if not re.fullmatch(_NAME, name, re.ASCII):
        msg = f"--env {text!r}: {name!r} cannot be the name of a variable"
        raise RequestError(msg)
    return name, value


_NOT_FOR_SBATCH = {
    "wait": "use gpu-submit's own --wait",
    "test-only": "use --dry-run, or --explain --dry-run for the estimated start",
    "wrap": "put the command behind --",
    "parsable": "use gpu-submit's own --parsable",
    "quiet": "gpu-submit must read what sbatch says",
    "help": "see `sbatch --help`",
    "usage": "see `sbatch --usage`",
    "version": "see `sbatch --version`",
}
"""Options that change what sbatch does or prints, and so what we understand of it."""


def _sbatch_arg(text: str) -> tuple[str, str | None]:
    """Return (long name, value) of a ``--sbatch-arg``."""
    if not text.startswith("--") or len(text) < 4:  # noqa: PLR2004
        msg = f"--sbatch-arg {text!r}: write sbatch's long form, such as --sbatch-arg=--switches=1"
        raise RequestError(msg)
    short, sign, value = text[2:].partition("=")
    name = long_name(short) or short  # sbatch takes options cut short, so we must know them
    if name in _NOT_FOR_SBATCH:
        msg = f"--sbatch-arg --{name}: {_NOT_FOR_SBATCH[name]}"
        raise RequestError(msg)
    return name, value if sign else None


def _conflicts(given: Mapping[str, str], own: Mapping[str, str]) -> tuple[Reason, ...]:
    """Rule S-501: every place where an option replaces what the script itself says."""
    found = []
    for name, value in own.items():
        rivals = {other for other in given if name in replaces(other, given[other])}
        rival = name if name in rivals else min(rivals, default=None)
        if rival is None or (rival == name and given[rival] == value):
            continue
        shown = f"--{rival}={given[rival]}" if given[rival] else f"--{rival}"
        found.append(
            Reason(
                rules.SCRIPT_CONFLICT,
                f"{shown} replaces the script's own `#SBATCH --{name}"
                f"{'=' + value if value else ''}`",
                value=f"--{name}={value}" if value else f"--{name}",
                limit=shown,
            )
        )
    return tuple(found)
