"""What ``sacct`` remembers.

The delimiter is drawn at random for each call and ends every field (``sacct -p``), so that
records are found by counting fields: a job's name may hold line breaks, bars, anything.
"""

from __future__ import annotations

from time import gmtime, strftime
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.adapters.slurm import quantities as q
from slurm_gpu_policy.adapters.slurm.states import run_state
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import AccountingRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

FIELDS: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
    ("JobIDRaw", "job_id", int),
    ("JobID", "display_id", str),
    ("User", "user", str),
    ("Account", "account", str),
    ("Partition", "partition", str),
    ("QOS", "qos", q.word),
    ("State", "state", run_state),
    ("Submit", "submit_time", q.epoch),
    ("Eligible", "eligible_time", q.epoch),
    ("Start", "start_time", q.epoch),
    ("End", "end_time", q.epoch),
    ("ElapsedRaw", "elapsed_seconds", q.count),
    ("Suspended", "suspended_seconds", lambda text: q.seconds(text) or 0),
    ("TimelimitRaw", "time_limit_seconds", q.minutes),
    ("ExitCode", "exit", q.exit_status),
    ("NodeList", "node_list", lambda text: "" if text == "None assigned" else q.word(text)),
    ("AllocTRES", "allocated_tres", q.tres),
    ("JobName", "name", str),
    ("Comment", "comment", str),
    ("AdminComment", "admin_comment", str),
)
_BACKLOG = "DBD Agent queue size"
FORMAT = ",".join(name for name, _field, _read in FIELDS)


def selection(
    start: int | None, end: int | None, users: Sequence[str], accounts: Sequence[str]
) -> list[str]:
    """Return sacct's filters; times are UTC, which is what it runs under."""
    argv = ["-u", ",".join(users)] if users else ["-a"]
    if accounts:
        argv += ["-A", ",".join(accounts)]
    if start is not None:
        argv += ["-S", _utc(start)]
    if end is not None:
        argv += ["-E", _utc(end)]
    return argv


def _utc(seconds: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds))


def overlapping(
    found: Iterable[AccountingRecord], start: int | None, end: int | None
) -> tuple[AccountingRecord, ...]:
    """Return the runs in [start, end): sacct also tells of jobs that only waited then."""
    if start is None and end is None:
        return tuple(found)
    return tuple(
        one
        for one in found
        if one.start_time is not None
        and (end is None or one.start_time < end)
        and (start is None or one.end_time is None or one.end_time > start)
    )


def first_ids(found: Iterable[AccountingRecord]) -> list[JobId]:
    """Return the ids of these jobs, oldest first; an array's own id for its tasks."""
    ids = {
        JobId(int(head)) if (head := one.display_id.partition("_")[0]).isdigit() else one.job_id
        for one in found
    }
    return sorted(ids)


def backlog(text: str) -> int | None:
    """Return from ``sdiag`` what slurmctld has to tell slurmdbd; ``None`` where it does not say."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == _BACKLOG:
            try:
                return q.optional_count(value.strip())
            except ValueError:
                q.unreadable(name, value, "sdiag's answer")
    return None


def records(text: str, delimiter: str) -> tuple[AccountingRecord, ...]:
    """Read ``sacct -n -X -D -p`` in the form of :data:`FORMAT`.

    A requeued job has one record a run; ``restarts`` numbers them in the order of their
    submission, from 0. When a short job's end reaches the database before its start, its
    record has for a moment neither partition nor name nor TRES; such ones are left out.
    """
    *fields, rest = text.split(delimiter)
    width = len(FIELDS)
    if rest.strip() or len(fields) % width:
        q.unreadable(f"count of fields ({len(fields)})", rest, "sacct's answer")
    rows = [_row(fields[start : start + width]) for start in range(0, len(fields), width)]
    rows = [row for row in rows if row["partition"]]
    rows.sort(key=lambda row: (row["submit_time"] or 0, row["start_time"] or 0))
    runs: dict[int, int] = {}
    for row in rows:
        row["restarts"] = runs.get(row["job_id"], 0)
        runs[row["job_id"]] = row["restarts"] + 1
    return tuple(AccountingRecord(**row) for row in rows)


def _row(fields: list[str]) -> dict[str, Any]:
    fields[0] = fields[0].removeprefix("\n")  # the end of the record before
    row: dict[str, Any] = {}
    for (name, field, read), text in zip(FIELDS, fields, strict=True):
        try:
            row[field] = read(text)
        except ValueError:
            q.unreadable(name, text, f"the accounting of job {fields[0]}")
    row["exit_code"], row["exit_signal"] = row.pop("exit")
    _count_once(row)
    return row


def _count_once(row: dict[str, Any]) -> None:
    """Let the second record of a resized job begin when it was resized.

    Its submit time is that moment. Slurm 22.05 has it start with the job, so that the time before
    would be in both records; later releases do as this does.
    """
    submitted, started = row["submit_time"], row["start_time"]
    if submitted is not None and started is not None and started < submitted:
        row["start_time"] = submitted
        row["elapsed_seconds"] = max(0, row["elapsed_seconds"] - (submitted - started))
