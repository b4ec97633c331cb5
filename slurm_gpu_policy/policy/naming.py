"""Names in the policy file that the live cluster does not know.

Warnings, never errors: a partition may come back tomorrow, and one file may serve several
clusters. What the file did not say (the built-in workload classes) is not warned about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.config.builtin import WORKLOADS
from slurm_gpu_policy.model.record import record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.snapshot import Snapshot

_MOST_NAMED = 8
_LOWER_CASE = frozenset({"account", "QOS"})
"""What Slurm keeps in lower case."""


@record
class UnknownName:
    """A name at ``where`` in the file (as keys) that is no ``kind`` of this cluster."""

    where: tuple[str | int, ...]
    name: str
    kind: str
    known: str
    """The names that would be right, as text."""

    @property
    def message(self) -> str:
        """The warning in a sentence."""
        return f"this cluster has no {self.kind} {self.name}; it has: {self.known}"


class _Names:
    """The names a cluster has, by kind."""

    def __init__(self, snapshot: Snapshot, templates: Iterable[str]) -> None:
        nodes = snapshot.nodes
        self.by_kind: dict[str, frozenset[str]] = {
            "partition": frozenset(item.name for item in snapshot.partitions),
            "GPU type": frozenset(gpus.type for node in nodes for gpus in node.gpus if gpus.type),
            "node feature": frozenset(name for node in nodes for name in node.features),
            "account": frozenset(item.account for item in snapshot.associations),
            "user": frozenset(item.user for item in snapshot.associations if item.user),
            "QOS": frozenset(item.name for item in snapshot.qos),
            "script template": frozenset(templates),
            "name": frozenset({snapshot.config.name} if snapshot.config else ()),
        }

    def missing(self, kind: str, name: str | None, *where: str | int) -> Iterator[UnknownName]:
        known = self.by_kind[kind]
        if name is None or name in known or (kind in _LOWER_CASE and name.lower() in known):
            return
        names = sorted(known)
        text = ", ".join(names[:_MOST_NAMED]) + (", …" if len(names) > _MOST_NAMED else "")
        yield UnknownName(where, name, kind, text or "none")


def unknown_names(
    policy: Policy, snapshot: Snapshot, templates: Iterable[str]
) -> tuple[UnknownName, ...]:
    """Return every name in the policy that the cluster in *snapshot* does not have.

    *snapshot* must hold partitions, nodes, associations, QOS and the controller's settings.
    """
    names = _Names(snapshot, templates)
    return (
        *_clusters(policy, names),
        *_gpu_types(policy, snapshot, names),
        *_workloads(policy, names),
        *_limits(policy, names),
        *_defaults(policy, names),
        *_ordering(policy, names),
        *_submission(policy, names),
        *_prices(policy, names),
        *_budgets(policy, snapshot, names),
    )


def _clusters(policy: Policy, names: _Names) -> Iterator[UnknownName]:
    """One file may name many clusters; it is worth a word only where this one is missing."""
    here = names.by_kind["name"]
    if policy.clusters and here and here.isdisjoint(policy.clusters):
        for name in policy.clusters:
            yield from names.missing("name", name, "clusters", name)


def _gpu_types(policy: Policy, snapshot: Snapshot, names: _Names) -> Iterator[UnknownName]:
    cluster_name = snapshot.config.name if snapshot.config else ""
    cluster = policy.clusters.get(cluster_name, policy.cluster_defaults)
    for name, entry in policy.gpu_types.items():
        at = ("gpu_types", name)
        if cluster.typed:
            where = (*at, "gres_type") if entry.gres_type else at
            yield from names.missing("GPU type", entry.gres_type or name, *where)
        for partition in entry.partitions:
            yield from names.missing("partition", partition, *at, "partitions")
        for feature in entry.features:
            yield from names.missing("node feature", feature, *at, "features")


def _workloads(policy: Policy, names: _Names) -> Iterator[UnknownName]:
    types = names.by_kind["GPU type"] | set(policy.gpu_types) | {"*"}
    for name, entry in policy.workloads.items():
        at, built_in = ("workloads", name), WORKLOADS.get(name, {})
        if list(entry.pools) != built_in.get("pools", ["*"]):
            for pool in entry.pools:
                if pool not in types:
                    yield from names.missing("GPU type", pool, *at, "pools")
        if list(entry.partitions) != built_in.get("partitions", []):
            for partition in entry.partitions:
                yield from names.missing("partition", partition, *at, "partitions")
        for partition in entry.cpu_fallback.partitions:
            yield from names.missing("partition", partition, *at, "cpu_fallback", "partitions")
        yield from names.missing("script template", entry.template, *at, "template")
        yield from names.missing("QOS", entry.qos, *at, "qos")


def _limits(policy: Policy, names: _Names) -> Iterator[UnknownName]:
    for user in policy.limits.users:
        yield from names.missing("user", user, "limits", "users", user)
    for account in policy.limits.accounts:
        yield from names.missing("account", account, "limits", "accounts", account)


def _defaults(policy: Policy, names: _Names) -> Iterator[UnknownName]:
    defaults = policy.defaults
    if defaults.gpu_type not in policy.gpu_types:
        yield from names.missing("GPU type", defaults.gpu_type, "defaults", "gpu_type")
    yield from names.missing("account", defaults.account, "defaults", "account")
    yield from names.missing("partition", defaults.partition, "defaults", "partition")
    yield from names.missing("QOS", defaults.qos, "defaults", "qos")


def _submission(policy: Policy, names: _Names) -> Iterator[UnknownName]:
    at = ("submission", "default_types")
    for partition, gpu_type in policy.submission.default_types.items():
        yield from names.missing("partition", partition, *at, partition)
        yield from names.missing("GPU type", gpu_type, *at, partition)


def _prices(policy: Policy, names: _Names) -> Iterator[UnknownName]:
    """Yield the factors and prices of what the cluster does not have: nobody pays by them."""
    pricing = policy.pricing
    if pricing is None:
        return
    types = {name.lower() for name in (*names.by_kind["GPU type"], *policy.gpu_types)}
    changes = ((("pricing", "changes", n), each) for n, each in enumerate(pricing.changes))
    for at, each in ((("pricing",), pricing), *changes):
        for gpu_type in each.gpu_types:
            if gpu_type.lower() not in types:
                yield from names.missing("GPU type", gpu_type, *at, "gpu_types", gpu_type)
        for qos in each.qos:
            yield from names.missing("QOS", qos, *at, "qos", qos)
        for partition in each.partitions:
            yield from names.missing("partition", partition, *at, "partitions", partition)


def _budgets(policy: Policy, snapshot: Snapshot, names: _Names) -> Iterator[UnknownName]:
    """Yield the accounts and users of budgets that nobody can spend from."""
    members: dict[str, set[str]] = {}
    for one in snapshot.associations:
        members.setdefault(one.account, set()).add(one.user or "")
    for name, budget in policy.budgets.items():
        account = budget.account or name
        at = ("budgets", name, "account") if budget.account else ("budgets", name)
        yield from names.missing("account", account, *at)
        known = sorted(filter(None, members.get(account.lower(), ())))
        if known and budget.user and budget.user not in known:
            text = ", ".join(known[:_MOST_NAMED]) + (", …" if len(known) > _MOST_NAMED else "")
            where = ("budgets", name, "user")
            yield UnknownName(where, budget.user, f"user in account {account}:", text)
    idle = policy.submission.over_budget_qos
    yield from names.missing("QOS", idle, "submission", "over_budget_qos")


def _ordering(policy: Policy, names: _Names) -> Iterator[UnknownName]:
    ordering = policy.ordering
    if ordering is None:
        return
    for qos in ordering.classes.qos:
        yield from names.missing("QOS", qos, "ordering", "classes", "qos", qos)
    for account in ordering.classes.accounts:
        yield from names.missing("account", account, "ordering", "classes", "accounts", account)
    for partition in ordering.terms.interactive.partitions:
        at = ("ordering", "terms", "interactive", "partitions")
        yield from names.missing("partition", partition, *at)
