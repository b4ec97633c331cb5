"""From option values, a script's own #SBATCH lines and defaults to one :class:`Request`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.model.decision import Reason
from slurm_gpu_policy.model.request import Request
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.units import parse_duration, parse_memory, parse_money

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurm_gpu_policy.config.schema import Policy

    Options = Sequence[tuple[str, str | None]]

# Patterns are texts: re compiles and keeps those that are used, and most calls use none.
_GPUS = (
    r"(?:(?P<type>(?=[0-9_.-]*[A-Za-z])[A-Za-z0-9][A-Za-z0-9_.-]*)(?::|=|$))?(?P<count>\d{1,6})?"
)
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_NODES = r"(\d{1,6})(?:-(\d{1,6}))?"
_UNLIMITED = frozenset({"0", "unlimited", "infinite"})

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
) -> tuple[Request, tuple[Reason, ...]]:
    """Return the request, and the places where an option contradicts the script (rule S-501).

    *values* holds the options given, by sbatch's long name (a flag has the value ``""``);
    *script_options* what the user's script says itself. Where both speak the option wins, as
    it does with sbatch.

    Raises:
        RequestError: a value that cannot be understood, or two that contradict each other.
    """
    extra = [_sbatch_arg(text) for text in many.get("sbatch-arg", ())]
    given = {**values, **{name: value or "" for name, value in extra}}
    own = {name: value or "" for name, value in script_options}
    merged = _without_rivals(own, given) | given
    workload = merged.get("workload") or policy.defaults.workload
    gpus = _Gpus(merged, policy, is_command=script is None)
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
        name=merged.get("job-name", ""),
        command=tuple(words),
        script=script,
        script_options=tuple(script_options),
        gpus=gpus.total,
        gpus_per_node=gpus.per_node,
        gpu_types=gpus.types,
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
_RIVALS = (
    ("gpus", "gpus-per-node", "gres", "gpus-per-task"),
    ("mem", "mem-per-gpu", "mem-per-cpu"),
    ("requeue", "no-requeue"),
)
"""Options that say the same thing in different forms: one given replaces the script's others."""


def _without_rivals(own: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    gone = {name for family in _RIVALS for name in family if any(n in given for n in family)}
    return {name: value for name, value in own.items() if name not in gone}


class _Gpus:
    """The GPU part of a request, out of whichever option asks for them."""

    def __init__(self, merged: Mapping[str, str], policy: Policy, *, is_command: bool) -> None:
        self.total: int | None = None
        self.per_node: int | None = None
        self.other_gres = ""
        named: list[str] = []
        asked = False
        for option in ("gpus", "gpus-per-node", "gpus-per-task"):
            if option not in merged:
                continue
            if asked:
                msg = f"--{option} and another option both ask for GPUs: give one of them"
                raise RequestError(msg)
            asked = True
            kind, count = _gpu_count(option, merged[option])
            named += [kind] if kind else []
            if option == "gpus":
                self.total = count
            elif option == "gpus-per-node":
                self.per_node = count
            else:
                tasks = _count("ntasks", merged.get("ntasks")) or 1
                self.total = count * tasks
        if (gres := self._read_gres(merged.get("gres", ""))) is not None:
            if asked:
                msg = "--gres and another option both ask for GPUs: give one of them"
                raise RequestError(msg)
            asked = True
            kind, self.per_node = gres
            named += [kind] if kind else []
        types = [name for name in merged.get("gpu-type", "").split(",") if name]
        if named and types and named != types:
            msg = f"--gpu-type {','.join(types)} contradicts the type {named[0]} in the GPU count"
            raise RequestError(msg)
        self.types = tuple(named or types)
        if not asked and (is_command or types):
            self.total = max(policy.defaults.gpus, 1 if types else 0)
        self.total = self.total or None
        self.per_node = self.per_node or None

    def _read_gres(self, text: str) -> tuple[str, int] | None:
        """Return (type, GPUs per node) of a ``--gres`` list and keep its other entries."""
        found: tuple[str, int] | None = None
        others = []
        for entry in text.split(",") if text and text.lower() != "none" else ():
            entry_text = entry.removeprefix("gres:").removeprefix("gres/")
            name, _, rest = entry_text.partition(":")
            if name != "gpu":
                others.append(entry)
                continue
            if found:
                msg = f"--gres={text} asks for GPUs twice: a job has one GPU type"
                raise RequestError(msg)
            found = _gpu_count("gres", rest or "1")
        self.other_gres = ",".join(others)
        return found


def _gpu_count(option: str, text: str) -> tuple[str, int]:
    """Return (type or ``""``, count) of ``4``, ``h100`` or ``h100:4``."""
    if text.isascii() and text.isdigit() and len(text) <= 6:  # noqa: PLR2004 - needs no pattern
        return "", int(text)
    match = re.fullmatch(_GPUS, text.strip(), re.ASCII)
    if match is None or not text.strip():
        what = "one GPU type a job" if "," in text else "a count, or a type and a count"
        msg = f"--{option}={text} is not understood: write {what}, such as 4 or h100:4"
        raise RequestError(msg)
    return match["type"] or "", int(match["count"] or 1)


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
    if not text or text.strip().lower() in _UNLIMITED:
        return None
    return parse_duration(text)


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


def _sbatch_arg(text: str) -> tuple[str, str | None]:
    """Return (long name, value) of a ``--sbatch-arg``."""
    if not text.startswith("--") or len(text) < 4:  # noqa: PLR2004
        msg = f"--sbatch-arg {text!r}: write sbatch's long form, such as --sbatch-arg=--switches=1"
        raise RequestError(msg)
    name, sign, value = text[2:].partition("=")
    return name, value if sign else None


def _conflicts(given: Mapping[str, str], own: Mapping[str, str]) -> tuple[Reason, ...]:
    """Rule S-501: every place where an option replaces what the script itself says."""
    found = []
    for name, value in own.items():
        family = next((names for names in _RIVALS if name in names), (name,))
        rival = next((other for other in family if other in given), None)
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
