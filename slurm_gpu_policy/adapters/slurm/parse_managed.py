"""What sacctmgr says of accounts, users and QOS, each with its own values (nothing inherited).

Unlike ``parse_accounts``, which reads what *holds* for an association. Free text (a description)
stands last in its line, where ``|`` in it does no harm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.slurm import quantities as q
from slurm_gpu_policy.model.plan import INHERITED, NONE, UNLIMITED, YES, ObjectId, Present

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Table = Sequence[tuple[str, str, Callable[[str], str]]]


def _same(text: str) -> str:
    return text


def _lower(text: str) -> str:
    return text.lower()


def _number(text: str) -> str:
    value = q.optional_count(text)
    return UNLIMITED if value is None else str(value)


def _seconds(text: str) -> str:
    value = q.seconds(text)
    return UNLIMITED if value is None else str(value)


def _grace(text: str) -> str:
    return str(q.seconds(text) or 0)


def _zero(text: str) -> str:
    return text or "0"


def _gpus(text: str) -> str:
    value = q.tres(text).get("gres/gpu")
    return UNLIMITED if value is None else str(value)


def _names(text: str) -> str:
    return ",".join(sorted(text.lower().split(","))) if text else NONE


def _qos_list(text: str) -> str:
    return _names(text) if text else INHERITED


def _default_qos(text: str) -> str:
    return text.lower() or INHERITED


def _shares(text: str) -> str:
    return "parent" if text in {"parent", "2147483647"} else text


_PLACE: Table = (
    ("cluster", "", _lower),
    ("account", "", _same),
    ("user", "", _lower),
    ("partition", "", _same),
)
_ASSOCIATION: Table = (
    *_PLACE,
    ("parentname", "parent", _same),
    ("fairshare", "shares", _shares),
    ("priority", "priority", _zero),
    ("qos", "qos", _qos_list),
    ("defaultqos", "default_qos", _default_qos),
    ("grptres", "gpus", _gpus),
    ("maxtresperjob", "gpus_per_job", _gpus),
    ("maxwall", "time", _seconds),
    ("grpjobs", "running_jobs", _number),
    ("grpsubmit", "submitted_jobs", _number),
    ("maxjobs", "running_jobs_per_user", _number),
    ("maxsubmit", "submitted_jobs_per_user", _number),
)
_USER: Table = (*_PLACE, ("defaultaccount", "default", _same))
_ACCOUNT: Table = (
    ("account", "", _same),
    ("coordinators", "", _lower),
    ("organization", "organization", _same),
    ("description", "description", _same),
)
_QOS: Table = (
    ("name", "", _lower),
    ("priority", "priority", _zero),
    ("usagefactor", "usage_factor", _same),
    ("flags", "flags", _names),
    ("preempt", "preempts", _names),
    ("preemptmode", "preempt_mode", _lower),
    ("preemptexempttime", "min_run_time", _seconds),
    ("gracetime", "grace_seconds", _grace),
    ("maxwall", "time", _seconds),
    ("maxtresperjob", "gpus_per_job", _gpus),
    ("maxtresperuser", "gpus_per_user", _gpus),
    ("maxtresperaccount", "gpus_per_account", _gpus),
    ("grptres", "gpus", _gpus),
    ("grpjobs", "running_jobs", _number),
    ("grpsubmit", "submitted_jobs", _number),
    ("maxjobsperuser", "running_jobs_per_user", _number),
    ("maxsubmitjobsperuser", "submitted_jobs_per_user", _number),
    ("description", "description", _same),
)


def _form(table: Table) -> str:
    return "format=" + ",".join(name for name, _field, _read in table)


QUESTIONS = (
    ("assoc", "wopl", "withrawqoslevel", _form(_ASSOCIATION)),
    ("user", "withassoc", _form(_USER)),
    ("account", "withcoord", _form(_ACCOUNT)),
    ("qos", _form(_QOS)),
)
"""After ``sacctmgr -nP show``: all that :func:`present` reads, in its order."""


def present(cluster: str, associations: str, users: str, accounts: str, qos: str) -> Present:
    """Read the answers to :data:`QUESTIONS`; of associations, those of *cluster*."""
    here = cluster.lower()
    objects: dict[ObjectId, dict[str, str]] = {}
    bound: set[tuple[str, str]] = set()
    for (where, account, user, partition), row in _rows(associations, _ASSOCIATION):
        if where == here and partition:
            bound.add((account, user))
        elif where == here:
            what = ("user", account, user) if user else ("account", account)
            objects[what] = _own(row, is_user=bool(user))
    known: set[str] = set()
    for (where, account, user, partition), row in _rows(users, _USER):
        known.add(user)
        if where == here and not partition and (found := objects.get(("user", account, user))):
            found["default"] = YES if row["default"] == account else "no"
    records: dict[str, dict[str, str]] = {}
    for (account, coordinators), row in _rows(accounts, _ACCOUNT):
        records[account] = row
        if ("account", account) in objects:
            objects["account", account].update(row)
            for user in coordinators.split(","):
                if user:
                    objects["coordinator", account, user] = {}
    objects.update({("qos", name): row for (name,), row in _rows(qos, _QOS)})
    return Present(
        objects=objects,
        records=records,
        users=frozenset(known),
        partition_bound=frozenset(bound),
    )


def _own(row: dict[str, str], *, is_user: bool) -> dict[str, str]:
    """Return an association's values: a user's MaxJobs are their own, an account's each user's."""
    if not is_user:
        return row
    kept = {name: value for name, value in row.items() if name != "parent"}
    kept["running_jobs"] = kept.pop("running_jobs_per_user")
    kept["submitted_jobs"] = kept.pop("submitted_jobs_per_user")
    return {**kept, "default": "no"}


def _rows(text: str, table: Table) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """Yield the names and the values in each line."""
    for line in text.splitlines():
        if not line.strip():
            continue
        has_text = table[-1][0] == "description"
        cells = line.split("|", len(table) - 1 if has_text else -1)
        if len(cells) < len(table) and has_text:
            continue  # the rest of a description of several lines; nothing that we wrote
        if len(cells) != len(table):
            q.unreadable(f"count of fields ({len(cells)} for {len(table)})", line)
        names, values = [], {}
        for (word, field, read), cell in zip(table, cells, strict=True):
            try:
                value = read(cell)
            except ValueError:
                q.unreadable(word, cell, line)
            if field:
                values[field] = value
            else:
                names.append(value)
        yield tuple(names), values
