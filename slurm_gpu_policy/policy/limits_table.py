"""The table that slurm_conf/job_submit.lua reads: the policy, as far as slurmctld applies it.

Everything is written out so that a look-up is one step: each account has the limits of those
above it, each partition its default GPU type. Amounts are integers: seconds, GPUs, and
micro-units of currency per GPU-hour.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.ledger.keeping import keeps_books
from slurm_gpu_policy.policy.prices.pricing import price_book, prices_at

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from slurm_gpu_policy.config.approvals import Threshold
    from slurm_gpu_policy.config.schema import Limit, Policy
    from slurm_gpu_policy.model.snapshot import Snapshot

RULES: Final = (
    rules.GPU_TYPE_KNOWN,
    rules.WORKLOAD,
    rules.LIMIT_GPUS_PER_JOB,
    rules.LIMIT_GPUS,
    rules.LIMIT_TIME,
    rules.GPU_TYPE_NAMED,
    rules.TIME_NAMED,
    rules.ACCOUNT_CLOSED,
    rules.ACCOUNT_OVER_BUDGET,
    rules.ROUTE_TIME,
    rules.APPROVAL_NEEDED,
    rules.APPROVAL_HOLD,
    rules.APPROVAL_CHANGED,
    rules.BUDGET_HOLD,
    rules.BUDGET_QOS,
)
"""The rules that job_submit.lua applies; docs/policy.md has them."""
PARTS: Final = (Part.PARTITIONS, Part.NODES, Part.ASSOCIATIONS, Part.CONFIG)
"""What :func:`table_text` must know of the cluster."""
_UNMARKABLE = re.compile(r"[^A-Za-z0-9_.:-]")
_NEW_PREFIX_SINCE = (23, 11)
"""Slurm's release that writes ``gres/gpu`` where it wrote ``gres:gpu`` before."""

Lua = str | int | bool | dict[Any, Any] | list[Any]


def table_text(
    policy: Policy,
    snapshot: Snapshot,
    *,
    closed: Collection[str] = (),
) -> str:
    """Return the text of limits.lua.

    *snapshot* holds :data:`PARTS`, with everybody's associations. *closed* are accounts, besides
    those that the policy closes; those below them are so as well. Equal inputs give the same
    text, and the first line differs exactly where the rest does.
    """
    shut = {name for name, account in policy.accounts.items() if account.closed}
    return file_text(_table(policy, snapshot, frozenset(closed) | shut))


def file_text(table: Lua) -> str:
    """Return the text of a file that job_submit.lua reads anew when its first line changes."""
    body = f"return {lua(table)}\n"
    return f"-- generation {sha256(body.encode()).hexdigest()[:32]}\n{body}"


def _table(policy: Policy, snapshot: Snapshot, closed: frozenset[str]) -> dict[Any, Any]:
    config = snapshot.config
    cluster = policy.clusters.get(config.name if config else "", policy.cluster_defaults)
    types, prices = _types(policy, snapshot)
    release = config.release if config else (0, 0)
    workloads = {
        # As gpu-submit's mark carries the name.
        _UNMARKABLE.sub("_", name): {
            **_limit(policy.limits.workloads.get(name)),
            **_given(default_seconds=entry.default_time),
        }
        for name, entry in policy.workloads.items()
    }
    return {
        "level": policy.enforcement,
        "levels": {rule: policy.rules[rule] for rule in RULES if rule in policy.rules},
        "on_failure": policy.on_failure,
        "exempt": dict.fromkeys(_operators(snapshot), True),
        "prefix": "gres/" if release >= _NEW_PREFIX_SINCE else "gres:",
        "untyped": policy.submission.untyped if cluster.typed else "pass",
        "missing_time": policy.submission.missing_time,
        "types": dict.fromkeys(types, True) if cluster.typed else {},
        "type_names": list(types),
        "prices": prices,
        **_given(
            default_partition=next((p.name for p in snapshot.partitions if p.default), None),
            default_seconds=policy.defaults.time,
            default_workload=_UNMARKABLE.sub("_", policy.defaults.workload),
            budgets=policy.ledger.table if keeps_books(policy) else None,
        ),
        "partitions": _partitions(policy, snapshot, typed=cluster.typed),
        "everyone": _limit(policy.limits.everyone),
        "users": {name: _limit(limit) for name, limit in policy.limits.users.items()},
        "accounts": dict(_accounts(policy, snapshot, closed)),
        "workloads": workloads,
        "thresholds": [_threshold(entry, snapshot) for entry in policy.approvals.thresholds],
    }


def _given(**fields: Lua | None) -> dict[str, Lua]:
    return {name: value for name, value in fields.items() if value is not None}


def _limit(limit: Limit | None) -> dict[str, Lua]:
    if limit is None:
        return {}
    return _given(gpus_per_job=limit.gpus_per_job, gpus=limit.gpus, seconds=limit.time)


def _operators(snapshot: Snapshot) -> tuple[int, ...]:
    """Return the uids that no rule binds: root's and SlurmUser's (``slurm(64030)``)."""
    settings = snapshot.config.settings if snapshot.config else {}
    found = re.search(r"\((\d+)\)", settings.get("SlurmUser", ""))
    return (0, *((int(found[1]),) if found and int(found[1]) else ()))


def _types(policy: Policy, snapshot: Snapshot) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return Slurm's names of the cluster's GPU types, and what an hour of each costs now.

    Factors by QOS, partition and hour are left out: the controller counts them when it looks at
    the job. Under ``""`` stands the price of a request that names no type.
    """
    names = {gpus.type for node in snapshot.nodes for gpus in node.gpus if gpus.type}
    by_type = prices_at(price_book(policy), snapshot.time).gpus
    listed = {entry.gres_type or name for name, entry in policy.gpu_types.items()}
    prices = {
        name: by_type[name.lower()]
        for name in (*sorted(listed | names), "")
        if name.lower() in by_type
    }
    return tuple(sorted(names)), prices


def _partitions(policy: Policy, snapshot: Snapshot, *, typed: bool) -> dict[str, Lua]:
    found: dict[str, Lua] = {}
    nodes = {node.name: node for node in snapshot.nodes}
    wanted = policy.defaults.gpu_type or ""
    entry = policy.gpu_types.get(wanted)
    default = (entry.gres_type if entry else None) or wanted
    for partition in snapshot.partitions:
        members = [nodes[name] for name in partition.nodes if name in nodes]
        counts = [sum(gpus.total for gpus in node.gpus) for node in members] or [0]
        types = {gpus.type for node in members for gpus in node.gpus if gpus.type}
        own = policy.submission.default_types.get(partition.name, "")
        chosen = own or (default if default in types else min(types) if len(types) == 1 else "")
        found[partition.name] = {
            "least_gpus": min(counts),
            "most_gpus": max(counts),
            **_given(
                cpus=max((node.cpus for node in members), default=None),
                type=(chosen or None) if typed else None,
            ),
        }
    return found


def _lineage(snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
    """Return each account with those above it, itself first, up to the root."""
    parents = {item.account: item.parent for item in snapshot.associations if not item.user}
    found = {}
    for account in parents:
        line = [account]
        while (above := parents.get(line[-1])) and above not in line:
            line.append(above)
        found[account] = tuple(line)
    return found


def _accounts(
    policy: Policy, snapshot: Snapshot, closed: frozenset[str]
) -> Iterator[tuple[str, dict[str, Lua]]]:
    """Yield the accounts that anything limits; Slurm keeps their names in lower case."""
    limits = {name.lower(): limit for name, limit in policy.limits.accounts.items()}
    lines: dict[str, tuple[str, ...]] = {
        name.lower(): (name.lower(),) for name in (*limits, *closed)
    }
    lines |= {
        name.lower(): tuple(map(str.lower, line)) for name, line in _lineage(snapshot).items()
    }
    closed = frozenset(map(str.lower, closed))
    for account, line in sorted(lines.items()):
        entry: dict[str, Lua] = {}
        for above in line:
            for name, value in _limit(limits.get(above)).items():
                entry[name] = min(entry.get(name, value), value)  # type: ignore[type-var]
        if closed.intersection(line):
            entry["closed"] = True
        if entry:
            yield account, entry


def _threshold(entry: Threshold, snapshot: Snapshot) -> dict[str, Lua]:
    """Rule V-901: one threshold; the accounts with those below them."""
    names = {name.lower() for name in entry.accounts}
    below = {
        account.lower(): True
        for account, line in _lineage(snapshot).items()
        if names.intersection(map(str.lower, line))
    }
    return _given(
        gpus=entry.gpus,
        seconds=entry.time,
        gpu_hours=entry.gpu_hours,
        cost=entry.cost,
        accounts={**dict.fromkeys(names, True), **below} if names else None,
        workloads={_UNMARKABLE.sub("_", name): True for name in entry.workloads} or None,
    )


# --- Lua ------------------------------------------------------------------------------------


def lua(value: Lua, indent: int = 0) -> str:
    """Return *value* as a Lua expression, keys in order, one to a line.

    Any text is safe: whatever is not a plain printable character is escaped byte by byte.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return "{ " + ", ".join(lua(item, indent + 1) for item in value) + " }" if value else "{}"
    return _braces(value, indent)


def _braces(value: Mapping[Any, Any], indent: int) -> str:
    if not value:
        return "{}"
    pad = "  " * (indent + 1)
    items = (f"{pad}[{lua(key)}] = {lua(item, indent + 1)},\n" for key, item in value.items())
    return "{\n" + "".join(items) + "  " * indent + "}"


def _quoted(text: str) -> str:
    return '"' + "".join(_escaped(byte) for byte in text.encode("utf-8", "surrogateescape")) + '"'


def _escaped(byte: int) -> str:
    character = chr(byte)
    if " " <= character <= "~" and character not in '"\\':
        return character
    return f"\\{byte:03d}"
