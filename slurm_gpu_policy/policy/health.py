"""Whether a cluster's own settings let GPUs be scheduled, counted and limited well."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_gpu_policy.model.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.cluster import ClusterConfig, Node
    from slurm_gpu_policy.model.snapshot import Snapshot

OLDEST_RELEASE = (22, 5)
"""The oldest release this program is tested with."""
_SHORTEST_JOB_AGE = 60
_MOST_NODES_NAMED = 4


def cluster_findings(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Return what there is to say of a cluster's settings and nodes.

    *snapshot* must hold the controller's settings and the nodes.
    """
    config = snapshot.config
    if config is None:
        return (*_nodes(snapshot.nodes),)
    return (
        _release(config),
        *_scheduling(config.settings),
        *_accounting(config.settings),
        *_nodes(snapshot.nodes),
    )


def _release(config: ClusterConfig) -> Finding:
    if (0, 0) < config.release < OLDEST_RELEASE:
        oldest = f"{OLDEST_RELEASE[0]}.{OLDEST_RELEASE[1]:02d}"
        return Finding(
            "warn",
            "release",
            f"cluster {config.name} runs Slurm {config.version}, and this program is tested "
            f"from {oldest} on",
            "upgrade Slurm",
        )
    return Finding("ok", "release", f"cluster {config.name} runs Slurm {config.version}")


def _scheduling(settings: Mapping[str, str]) -> Iterator[Finding]:
    gres = _words(settings, "GresTypes")
    if "gpu" in gres:
        yield Finding("ok", "GPUs", "Slurm schedules GPUs (GresTypes has gpu)")
    else:
        yield Finding(
            "fail",
            "GPUs",
            f"Slurm does not schedule GPUs: GresTypes is {settings.get('GresTypes') or 'empty'}",
            "set GresTypes=gpu in slurm.conf and describe the GPUs in gres.conf",
        )
    select = settings.get("SelectType", "")
    if select and "cons_tres" not in select:
        yield Finding(
            "fail",
            "node sharing",
            f"SelectType is {select}, which cannot hand out single GPUs by --gpus",
            "set SelectType=select/cons_tres in slurm.conf",
        )
    else:
        yield Finding("ok", "node sharing", "jobs can share a node, GPU by GPU")
    defaults = [settings.get(name, "") for name in ("DefMemPerCPU", "DefMemPerNode")]
    if any(text.isdigit() and int(text) for text in defaults) or "DefMemPerGPU" in (
        settings.get("JobDefaults", "")
    ):
        yield Finding("ok", "memory", "a job that names no memory gets a default share")
    else:
        yield Finding(
            "warn",
            "memory",
            "a job that names no memory gets a whole node's, and its other GPUs stand idle",
            "set DefMemPerCPU in slurm.conf",
        )
    if "multifactor" in settings.get("PriorityType", ""):
        yield Finding("ok", "priority", "Slurm orders jobs by priority factors")
    else:
        yield Finding(
            "warn",
            "priority",
            "Slurm starts jobs in the order they came: fair share has no effect",
            "set PriorityType=priority/multifactor in slurm.conf",
        )
    yield from _steering(settings)


def _steering(settings: Mapping[str, str]) -> Iterator[Finding]:
    """Look for what undoes the site factors by which orderings act."""
    if "incr_only" in _words(settings, "PriorityFlags"):
        yield Finding(
            "warn",
            "priority flags",
            "Slurm never lowers a job's priority (INCR_ONLY): an ordering can only raise jobs",
            "take INCR_ONLY out of PriorityFlags in slurm.conf",
        )
    plugin = settings.get("PrioritySiteFactorPlugin", "")
    if plugin not in {"", "(null)", "site_factor/none"}:
        yield Finding(
            "warn",
            "site factors",
            f"{plugin} sets the site factors of jobs, and overwrites those that orderings give",
            "take PrioritySiteFactorPlugin out of slurm.conf, or `ordering` out of the policy file",
        )


def controller_finding(
    policy: Policy, where: str, answer: Mapping[str, Any] | None, trouble: str
) -> Finding:
    """Return what there is to say of gpu-policyd, looked for at *where*.

    *answer* is to its request ``status``; where there is none, *trouble* says why.
    """
    if answer is None:
        if not _wants_controller(policy):
            return Finding("ok", "gpu-policyd", "not here, and the policy file needs none")
        return Finding(
            "warn",
            "gpu-policyd",
            trouble,
            "systemctl status gpu-policyd on its machine; from others, look at controller.reach",
        )
    problems = [*answer["policy_problems"], *answer["last_errors"]]
    if problems:
        return Finding(
            "warn",
            "gpu-policyd",
            f"{answer['actor']} answers {where} and has trouble: {problems[0]}",
            "gpu-policy status",
        )
    role = "leads" if answer["leading"] else "stands by"
    return Finding("ok", "gpu-policyd", f"{answer['actor']} answers {where}, and {role}")


def _wants_controller(policy: Policy) -> bool:
    """Whether the policy file has something that only gpu-policyd does, or says where it is."""
    return bool(
        policy.ordering
        or policy.over_quota
        or policy.approvals.thresholds
        or policy.budgets
        or policy.controller.reach
        or policy.controller.listen
    )


def _accounting(settings: Mapping[str, str]) -> Iterator[Finding]:
    kind = settings.get("AccountingStorageType", "")
    if not kind or kind.endswith("none"):
        yield Finding(
            "warn",
            "accounting",
            "Slurm keeps no accounting: no accounts, no limits, no history",
            "set up slurmdbd and AccountingStorageType=accounting_storage/slurmdbd",
        )
        return
    yield Finding("ok", "accounting", f"Slurm keeps accounts ({kind})")
    if any(name.startswith("gres/gpu") for name in _words(settings, "AccountingStorageTRES")):
        yield Finding("ok", "GPU accounting", "GPUs are counted")
    else:
        yield Finding(
            "warn",
            "GPU accounting",
            "GPUs are not counted: no GPU limits, no GPU hours in the history",
            "add gres/gpu to AccountingStorageTRES in slurm.conf",
        )
    enforced = _words(settings, "AccountingStorageEnforce")
    if enforced & {"limits", "safe", "all"}:
        yield Finding("ok", "limits", "Slurm enforces the limits of accounts and QOS")
    else:
        yield Finding(
            "warn",
            "limits",
            "Slurm does not enforce limits of accounts and QOS",
            "set AccountingStorageEnforce=associations,limits,qos,safe in slurm.conf",
        )
    age = re.match(r"\d+", settings.get("MinJobAge", ""))
    if age and int(age[0]) < _SHORTEST_JOB_AGE:
        yield Finding(
            "warn",
            "job age",
            f"Slurm forgets a job {age[0]} s after its end, before a watcher may have seen it",
            "set MinJobAge=300 in slurm.conf",
        )


def _nodes(nodes: Iterable[Node]) -> Iterator[Finding]:
    with_gpus = [node for node in nodes if any(gpus.total for gpus in node.gpus)]
    broken = [node for node in with_gpus if not node.usable]
    if not with_gpus:
        yield Finding(
            "fail", "GPU nodes", "no node has GPUs", "describe them in gres.conf and nodes.conf"
        )
    elif broken:
        named = ", ".join(
            f"{node.name} is {'+'.join([node.state, *sorted(node.flags)]).lower()}"
            + (f" ({node.reason})" if node.reason else "")
            for node in broken[:_MOST_NODES_NAMED]
        )
        more = ", …" if len(broken) > _MOST_NODES_NAMED else ""
        yield Finding(
            "warn" if len(broken) < len(with_gpus) else "fail",
            "GPU nodes",
            f"{len(broken)} of {len(with_gpus)} nodes with GPUs are out of order: {named}{more}",
            "scontrol show node NAME; scontrol update nodename=NAME state=resume",
        )
    else:
        yield Finding("ok", "GPU nodes", f"all {len(with_gpus)} nodes with GPUs are up")


def _words(settings: Mapping[str, str], name: str) -> set[str]:
    return {word.strip().lower() for word in settings.get(name, "").split(",") if word.strip()}
