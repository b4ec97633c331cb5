"""What ``sacctmgr`` and ``sshare`` say of accounts, users, their limits and shares, and QOS.

``sacctmgr -P`` puts ``|`` between fields. None of the fields asked for is free text, and Slurm
allows no ``|`` in the names they hold; still the fields are counted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.adapters.slurm import quantities as q
from slurm_gpu_policy.model.account import Association, Qos

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Table = Sequence[tuple[str, str, Callable[[str], Any]]]


def _names(text: str) -> frozenset[str]:
    return frozenset(q.words(text))


def raw_shares(text: str) -> int | None:
    """Return raw shares; ``parent`` has none of its own (Slurm also prints it as 2147483647)."""
    return None if text in {"parent", "2147483647", ""} else int(text)


# (field of sacctmgr's format, field of the model, how to read it)
ASSOCIATION_FIELDS: Table = (
    ("cluster", "cluster", str),
    ("account", "account", str),
    ("user", "user", str),
    ("partition", "partition", str),
    ("parentname", "parent", str),
    ("fairshare", "raw_shares", raw_shares),
    ("qos", "qos", _names),
    ("defaultqos", "default_qos", str),
    ("maxtresperjob", "max_tres_per_job", q.tres),
    ("grptres", "grp_tres", q.tres),
    ("grptresmins", "grp_tres_mins", q.tres),
    ("maxwall", "max_wall_seconds", q.seconds),
    ("maxjobs", "max_jobs", q.optional_count),
    ("maxsubmit", "max_submit_jobs", q.optional_count),
)
QOS_FIELDS: Table = (
    ("name", "name", str),
    ("priority", "priority", q.count),
    ("usagefactor", "usage_factor", lambda text: 1.0 if text in q.UNSET else float(text)),
    ("flags", "flags", _names),
    ("preempt", "preempts", _names),
    ("preemptmode", "preempt_mode", str),
    ("maxwall", "max_wall_seconds", q.seconds),
    ("maxtresperjob", "max_tres_per_job", q.tres),
    ("maxtresperuser", "max_tres_per_user", q.tres),
    ("maxtresperaccount", "max_tres_per_account", q.tres),
    ("grptres", "grp_tres", q.tres),
    ("grptresmins", "grp_tres_mins", q.tres),
    ("maxjobsperuser", "max_jobs_per_user", q.optional_count),
    ("maxsubmitjobsperuser", "max_submit_jobs_per_user", q.optional_count),
)
SHARE_FIELDS: Table = (
    ("Account", "account", str.strip),
    ("User", "user", str),
    ("Partition", "partition", str),
    ("RawShares", "raw_shares", raw_shares),
    ("NormShares", "norm_shares", q.fraction),
    ("RawUsage", "raw_usage", q.optional_count),
    ("NormUsage", "norm_usage", q.fraction),
    ("EffectvUsage", "effective_usage", q.fraction),
    ("LevelFS", "level_fs", q.fraction),
    ("FairShare", "fair_share", q.fraction),
)


def format_of(table: Table) -> str:
    """Return the value of ``format=`` (sacctmgr) or ``-o`` (sshare) that asks for *table*."""
    return ",".join(name for name, _field, _read in table)


def _rows(text: str, table: Table) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        if not line.strip():
            continue
        fields = line.split("|")
        if len(fields) != len(table):
            q.unreadable(f"count of fields ({len(fields)} for {len(table)})", line)
        row = {}
        for (name, field, read), value in zip(table, fields, strict=True):
            try:
                row[field] = read(value)
            except ValueError:
                q.unreadable(name, value, line)
        yield row


def associations(text: str, cluster: str) -> list[Association]:
    """Read *cluster*'s rows of ``sacctmgr -nP show assoc`` (:data:`ASSOCIATION_FIELDS`).

    One database may serve several clusters, and sacctmgr has no word for "this one".
    """
    here = cluster.lower()  # as the database keeps it
    return [
        Association(**row)
        for row in _rows(text, ASSOCIATION_FIELDS)
        if row.pop("cluster").lower() == here
    ]


def above(found: Iterable[Association], tree: Iterable[Association]) -> list[Association]:
    """Return from *tree* the accounts that *found* are in, and those above, up to the root."""
    accounts = {one.account: one for one in tree if not one.user}
    wanted: dict[str, Association] = {}
    for one in found:
        name = one.account
        while name in accounts and name not in wanted:
            wanted[name] = accounts[name]
            name = accounts[name].parent
    return list(wanted.values())


DEFAULT_FIELDS: Table = (("user", "user", str), ("defaultaccount", "account", str))


def defaults(text: str) -> dict[str, str]:
    """Read ``sacctmgr -nP show user`` as each user's default account."""
    return {row["user"]: row["account"] for row in _rows(text, DEFAULT_FIELDS)}


def mark_defaults(
    found: Iterable[Association], default_of: dict[str, str]
) -> tuple[Association, ...]:
    """Return *found* with ``is_default`` where an association is its user's default."""
    return tuple(
        replace(one, is_default=True)
        if one.user and not one.partition and default_of.get(one.user) == one.account
        else one
        for one in found
    )


def qos(text: str) -> tuple[Qos, ...]:
    """Read ``sacctmgr -nP show qos`` in the form of :data:`QOS_FIELDS`."""
    return tuple(Qos(**row) for row in _rows(text, QOS_FIELDS))


def shares(text: str) -> tuple[Association, ...]:
    """Read ``sshare -a -m -h -P`` in the form of :data:`SHARE_FIELDS`."""
    return tuple(Association(**row) for row in _rows(text, SHARE_FIELDS))


def with_shares(
    found: Iterable[Association], read: Iterable[Association]
) -> tuple[Association, ...]:
    """Return *found* with the usage and factors that *read* (``sshare``) has for its places."""
    by_place = {(one.account, one.user, one.partition): one for one in read}
    merged = []
    for one in found:
        share = by_place.get((one.account, one.user, one.partition))
        if share is not None:
            one = replace(  # noqa: PLW2901 - the same association, with more known of it
                one,
                norm_shares=share.norm_shares,
                raw_usage=share.raw_usage,
                norm_usage=share.norm_usage,
                effective_usage=share.effective_usage,
                level_fs=share.level_fs,
                fair_share=share.fair_share,
            )
        merged.append(one)
    return tuple(merged)


def with_usage(
    found: Iterable[Association], read: Iterable[Association]
) -> tuple[Association, ...]:
    """Return *found* with what *read* (the controller) has for its places, in *read*'s order.

    What only one of the two has stays as it is: the database may be ahead by a moment.
    """
    by_place = {(one.account, one.user, one.partition): one for one in found}
    merged = []
    for one in read:
        known = by_place.pop((one.account, one.user, one.partition), None)
        merged.append(
            one
            if known is None
            else replace(
                known,
                parent=known.parent or one.parent,
                raw_shares=one.raw_shares,
                usage=one.usage,
                priority=one.priority,
            )
        )
    return (*merged, *by_place.values())
