"""From a decided request to sbatch's options: each once, none empty, no two of a family."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.rendering.sbatch_grammar import GPU_FORMS, PER_GPU, family
from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.model.request import UNLIMITED
from slurm_gpu_policy.model.tag import write_tag
from slurm_gpu_policy.units import format_duration, parse_duration, parse_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slurm_gpu_policy.model.decision import Decision
    from slurm_gpu_policy.model.request import Request

Option = tuple[str, str | None]

_GPU = re.compile(r"(?:gres/)?gpu(?:[:=].*)?", re.ASCII | re.DOTALL)
_MARKABLE = re.compile(r"[^A-Za-z0-9_.:-]")
_DURATIONS = frozenset({"time", "time-min"})
_MEMORIES = frozenset({"mem", "mem-per-cpu", "mem-per-gpu"})


@record
class Asked:
    """What we ask of sbatch, and which of the user's own directives that replaces.

    ``replaced`` are options of the user's script that must not survive beside ours: another
    way of asking for the same thing, where sbatch would take both (or refuse both).
    """

    options: tuple[Option, ...]
    replaced: frozenset[str] = frozenset()


def sbatch_options(
    request: Request,
    decision: Decision,
    token: str,
    *,
    template: str = "",
    extra: Iterable[Option] = (),
) -> Asked:
    """Return all options for sbatch, in the order a reader expects.

    What the user's own script has already, with the same meaning, is left to the script.
    *extra* are options the template needs.

    Raises:
        RequestError: two options that exclude each other, or the mark cannot be written.
    """
    script = dict(request.script_options)
    passed = _unique(request.options)
    taken = request.wants_gpus and not decision.gpus
    if taken:  # to CPUs: what was asked for each GPU means nothing there, and Slurm refuses it
        passed = {name: value for name, value in passed.items() if name not in {*PER_GPU, "nodes"}}
    wanted: dict[str, str | None] = {}

    def ask(name: str, value: str | int | None) -> None:
        if value not in {None, ""}:
            wanted[name] = str(value)

    ask("job-name", request.name)
    ask("account", decision.account or request.account)
    ask("partition", decision.partition or request.partition)
    ask("qos", decision.qos or request.qos)
    ask("reservation", request.reservation)
    needed = dict(extra)
    evenly = bool(request.gpus_per_node) or "ntasks-per-node" in needed
    gpus = _gpu_options(request, decision, passed, script, evenly=evenly)
    if (
        (request.nodes and not taken)
        or decision.nodes > 1
        or "gres" in gpus
        or "gpus-per-node" in gpus
    ):
        # A count per node is a count only with the number of nodes.
        ask("nodes", passed.get("nodes") or _nodes(request, decision))
    ask("ntasks", request.ntasks)
    ask("cpus-per-task", decision.cpus or request.cpus_per_task)
    wanted.update(gpus)
    _ask_memory(request, passed, script, wanted)
    seconds = decision.time_seconds or request.time_seconds
    unlimited = "UNLIMITED" if request.time_seconds == UNLIMITED else None
    ask("time", format_duration(seconds) if seconds else unlimited)
    ask("array", request.array)
    ask("constraint", _constraint(decision, passed.get("constraint") or script.get("constraint")))
    wanted |= needed
    wanted |= {name: value for name, value in passed.items() if name not in wanted}
    _ask_requeue(request, script, wanted)
    if decision.kind == "hold":
        wanted["hold"] = None
    ask(
        "comment",
        _comment(
            request, decision, token, template, passed.get("comment") or script.get("comment")
        ),
    )
    _refuse_pairs(wanted)
    return _beside_script(wanted, script, gpus_taken=taken)


def _unique(options: Iterable[Option]) -> dict[str, str | None]:
    """Return *options* without repetitions; the last one counts, as with sbatch.

    Raises:
        RequestError: an empty value, or two options that exclude each other.
    """
    found: dict[str, str | None] = {}
    for name, value in options:
        if value == "":
            msg = f"--{name} has an empty value: leave it out"
            raise RequestError(msg)
        for other in (family(name) & found.keys()) - {name}:
            if name not in GPU_FORMS:
                msg = f"--{other} and --{name} exclude each other: give one of them"
                raise RequestError(msg)
        found.pop(name, None)
        found[name] = value
    return found


def _nodes(request: Request, decision: Decision) -> int:
    return decision.nodes if decision.nodes > 1 else request.nodes or 1


# --- GPUs -----------------------------------------------------------------------------------


def _gpu_options(
    request: Request,
    decision: Decision,
    passed: Mapping[str, str | None],
    script: Mapping[str, str | None],
    *,
    evenly: bool,
) -> dict[str, str | None]:
    """Return the one option that asks for the decided GPUs, or none where one stands already."""
    other_gres = _without_gpu(passed.get("gres") or script.get("gres") or "")
    rest_of_gres: dict[str, str | None] = {"gres": other_gres} if other_gres else {}
    if any(asks_gpus(name, value) for name, value in passed.items()):
        return {} if "gres" in passed else rest_of_gres
    if not decision.gpus:
        # The decision may have taken GPUs away (CPU fallback), but not the other resources.
        return rest_of_gres if request.wants_gpus else {}
    nodes = _nodes(request, decision)
    if _same_gpus(script, decision, nodes):
        return {}
    kind = f"{decision.gres_type}:" if decision.gres_type else ""
    form = decision.gpu_request
    per_node, rest = divmod(decision.gpus, nodes)
    if "nodes" in passed and not evenly:
        form = "gpus"  # over a range of nodes only a total is certain
    elif form == "gpus" and nodes > 1 and evenly:
        # Slurm may spread --gpus=4 over two nodes as 3 and 1 (22.05.8 does).
        form = "gpus-per-node"
    if form == "gpus" or rest:
        return {"gpus": f"{kind}{decision.gpus}", **rest_of_gres}
    if form == "gpus-per-node":
        return {"gpus-per-node": f"{kind}{per_node}", **rest_of_gres}
    gres = f"gpu:{kind}{per_node}"
    return {"gres": f"{gres},{other_gres}" if other_gres else gres}


def asks_gpus(name: str, value: str | None) -> bool:
    """Whether this option of sbatch asks for GPUs."""
    if name == "gres":
        return any(map(_GPU.fullmatch, (value or "").split(",")))
    return name in GPU_FORMS


def _without_gpu(gres: str) -> str:
    parts = [part for part in gres.split(",") if part and not _GPU.fullmatch(part)]
    return ",".join(part for part in parts if part != "none")


def _same_gpus(script: Mapping[str, str | None], decision: Decision, nodes: int) -> bool:
    """Whether the script's own request is, as it stands, what was decided."""
    asking = [(name, value or "") for name, value in script.items() if asks_gpus(name, value)]
    if len(asking) != 1:
        return False
    name, value = asking[0]
    if name == "gres":
        parts = [part for part in value.split(",") if _GPU.fullmatch(part)]
        value = parts[0].removeprefix("gres/").removeprefix("gpu").lstrip(":=") or "1"
        if len(parts) != 1:
            return False
    elif name not in {"gpus", "gpus-per-node"}:
        return False
    kind, _, count = value.rpartition(":")
    if not count.isdecimal():
        kind, count = value, "1"
    total = int(count) * (1 if name == "gpus" else nodes)
    return total == decision.gpus and (kind or None) == decision.gres_type


# --- the others -----------------------------------------------------------------------------


def _ask_memory(
    request: Request,
    passed: Mapping[str, str | None],
    script: Mapping[str, str | None],
    wanted: dict[str, str | None],
) -> None:
    other = next((name for name in ("mem-per-cpu", "mem-per-gpu") if name in passed), None)
    if request.memory_mb is None or "mem" in passed:
        return
    if other is None:
        wanted["mem"] = f"{request.memory_mb}M"
    elif not _same("mem", f"{request.memory_mb}M", script.get("mem")):
        msg = f"--mem and --{other} exclude each other: give one of them"
        raise RequestError(msg)


def _ask_requeue(
    request: Request, script: Mapping[str, str | None], wanted: dict[str, str | None]
) -> None:
    """A job that may be tried again must be one that Slurm may requeue, and keep its output."""
    if not request.retries:
        return
    if "no-requeue" in wanted:
        msg = "--retries and --no-requeue exclude each other: give one of them"
        raise RequestError(msg)
    wanted.setdefault("requeue", None)
    if "open-mode" not in script:
        wanted.setdefault("open-mode", "append")


def _constraint(decision: Decision, own: str | None) -> str | None:
    """Join the features the GPU type needs and the user's own constraint with ``&``."""
    features = "&".join(decision.features)
    if not own or not features:
        return own or features or None
    known = set(re.split(r"[&|,()\[\]*]", own))
    features = "&".join(each for each in decision.features if each not in known)
    if not features:
        return own
    return f"{features}&({own})" if re.search(r"[|,]", own) else f"{features}&{own}"


def _comment(
    request: Request, decision: Decision, token: str, template: str, own: str | None
) -> str:
    facts = {"token": token, "workload": request.workload}
    if decision.kind == "hold":  # so that everybody knows why, before the controller has seen it
        facts["approval"] = "asked"
    if template:
        facts["template"] = template
    if request.retries:
        facts["retries"] = str(request.retries)
    if request.idle_ok_seconds is not None:
        facts["idle_ok"] = str(request.idle_ok_seconds)
    if request.max_cost_micros is not None:
        facts["max_cost"] = str(request.max_cost_micros)
    # A word of the user's own (a workload class has any name) must not break the mark.
    facts = {key: _MARKABLE.sub("_", value) for key, value in facts.items()}
    return write_tag(facts, own or "")


def _refuse_pairs(wanted: Mapping[str, str | None]) -> None:
    for name in wanted:
        if name in GPU_FORMS:
            continue
        if others := (family(name) & wanted.keys()) - {name}:
            msg = f"--{name} and --{min(others)} exclude each other: give one of them"
            raise RequestError(msg)


def _beside_script(
    wanted: dict[str, str | None], script: Mapping[str, str | None], *, gpus_taken: bool
) -> Asked:
    """Leave to the script what it says already, and find what ours replaces in it."""
    asks = {name for name, value in wanted.items() if asks_gpus(name, value)}
    options = tuple(
        (name, value)
        for name, value in wanted.items()
        if not (name in script and _same(name, value, script[name]))
    )
    replaced = {"wait"} & script.keys()  # gpu-submit waits, if anybody does
    for name, _ in options:
        if name not in GPU_FORMS:
            replaced |= (family(name) & script.keys()) - {name}
    if asks or gpus_taken:
        replaced |= {
            name for name, value in script.items() if asks_gpus(name, value) and name not in asks
        }
    if gpus_taken:
        replaced |= PER_GPU & script.keys()
    if "gres" in replaced and "gres" in wanted:
        replaced.discard("gres")  # ours, of the same name, follows it and wins
    return Asked(options, frozenset(replaced))


def _same(name: str, ours: str | None, theirs: str | None) -> bool:
    if ours == theirs:
        return True
    if ours is None or theirs is None:
        return False
    try:
        if name in _DURATIONS:
            return parse_duration(ours) == parse_duration(theirs)
        if name in _MEMORIES:
            return parse_memory(ours) == parse_memory(theirs)
    except RequestError:
        return False
    return False
