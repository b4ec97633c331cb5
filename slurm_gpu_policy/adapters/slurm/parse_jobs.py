"""What ``squeue`` says of jobs.

One table, :data:`FIELDS`, is both what is asked for and what is read. Slurm's own fields come
first, a unit separator after each; then the fields a user may fill with anything (name,
comment, paths). Those are set off by a mark drawn at random for each call, so no text a user
can write shifts a field or forges a record.
"""

from __future__ import annotations

import os
from collections import deque
from itertools import repeat
from operator import is_
from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.adapters.slurm import quantities as q
from slurm_gpu_policy.adapters.slurm.gres import gpus_in_tres, gpus_requested
from slurm_gpu_policy.adapters.slurm.states import job_state
from slurm_gpu_policy.model.job import Job, JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Reader = Callable[[str], Any]


class _Memo(dict[Any, Any]):
    """Reads each different text once: users, accounts and TRES repeat in a queue."""

    __slots__ = ("read",)

    def __init__(self, read: Callable[[Any], Any]) -> None:
        super().__init__()
        self.read = read

    def __missing__(self, text: Any) -> Any:
        if len(self) > _MEMO_MOST:
            self.clear()
        value = self[text] = self.read(text)
        return value


_MEMO_MOST = 50_000

# (field of squeue -O, field of Job or "" where it only feeds another, how to read it)
FIELDS: tuple[tuple[str, str, Reader], ...] = (
    ("jobid", "job_id", int),
    ("jobarrayid", "display_id", str),
    ("username", "user", str),
    ("account", "account", q.word),
    ("partition", "partitions", q.words),
    ("qos", "qos", q.word),
    ("state", "state", job_state),
    ("reason", "reason", q.word),
    ("numnodes", "nodes", q.count),
    ("numcpus", "cpus", q.count),
    ("numtasks", "", str),
    ("timelimit", "time_limit_seconds", q.seconds),
    ("submittime", "submit_time", q.epoch),
    ("eligibletime", "eligible_time", q.epoch),
    ("starttime", "start_time", q.epoch),
    ("endtime", "end_time", q.epoch),
    ("timeused", "elapsed_seconds", lambda text: q.seconds(text) or 0),
    ("prioritylong", "priority", q.count),
    ("nice", "nice", int),
    ("nodelist", "node_list", q.word),
    ("dependency", "dependency", q.word),
    ("reservation", "reservation", q.word),
    ("arrayjobid", "", int),
    ("arraytaskid", "array_task", q.word),
    ("hetjobid", "het_job_id", q.optional_count),
    ("feature", "features", q.word),
    ("accruetime", "accrue_time", q.epoch),
    ("restartcnt", "restarts", q.count),
    ("exit_code", "exit_code", q.wait_status),
    ("deadline", "deadline", q.epoch),
    ("tres-alloc", "tres", q.tres),
    ("tres-per-job", "", str),
    ("tres-per-node", "", str),
    ("tres-per-socket", "", str),
    ("tres-per-task", "", str),
)
FREE_FIELDS: tuple[tuple[str, str], ...] = (
    ("name", "name"),
    ("comment", "comment"),
    ("admin_comment", "admin_comment"),
)
DETAIL_FREE_FIELDS = (
    *FREE_FIELDS,
    ("workdir", "work_dir"),
    ("stdout", "std_out"),
    ("stderr", "std_err"),
    ("command", "command"),
)
_ASKED = (
    "tres-alloc",
    "tres-per-job",
    "tres-per-node",
    "tres-per-socket",
    "tres-per-task",
    "numnodes",
    "numtasks",
)
_UNREPEATED = frozenset({"jobid", "jobarrayid", "submittime"})
_NAMES = tuple(name for name, _field, _read in FIELDS)
_UNIT = "\x1f"
_END = "\x1e"


def draw_mark() -> str:
    """Return a mark that no user can have put into a job's name beforehand."""
    return os.urandom(6).hex()


def squeue_format(mark: str, free: Sequence[tuple[str, str]] = FREE_FIELDS) -> str:
    """Return the value of ``squeue -O`` for :data:`FIELDS` and *free*.

    ``:0`` prints a field at its full length; what follows is a suffix (20.02 and later).
    """
    own = [f"{name}:0{_UNIT}" for name, _field, _read in FIELDS]
    own[-1] += mark
    texts = [f"{name}:0{_UNIT}{mark}" for name, _field in free]
    texts[-1] = f"{free[-1][0]}:0{_END}{mark}"
    return ",".join(own + texts)


class JobReader:
    """Takes squeue's output in pieces; :meth:`close` returns the jobs in it."""

    def __init__(self, mark: str, free: Sequence[tuple[str, str]] = FREE_FIELDS) -> None:
        self._mark = mark
        self._width = len(FIELDS) + len(free)
        self._end = (_END + mark + "\n").encode()
        self._free = free
        self._left: list[bytes] = []
        self._left_bytes = 0
        self._jobs: list[Job] = []
        self.texts: list[tuple[str, ...]] = []
        """For each job the free fields beyond those of :class:`Job`."""
        self._reads: dict[str, Reader] = {
            name: read if name in _UNREPEATED else _Memo(read).__getitem__
            for name, _field, read in FIELDS
        }
        self._gpus = _Memo(_gpus).__getitem__
        self.unknown_states = 0

    def feed(self, chunk: bytes) -> None:
        """Read the records that *chunk* completes."""
        self._left.append(chunk)
        self._left_bytes += len(chunk)
        if self._left_bytes >= _BATCH_BYTES:
            self._read_whole()

    def close(self) -> tuple[Job, ...]:
        """Return all jobs.

        Raises:
            SlurmUnreadable: a record that is cut off, or a field in an unknown form.
        """
        self._read_whole()
        rest = b"".join(self._left)
        if rest.strip():
            q.unreadable("end of record", rest.decode("utf-8", "replace"), "squeue's answer")
        return tuple(self._jobs)

    def _read_whole(self) -> None:
        text, sign, rest = b"".join(self._left).rpartition(self._end)
        self._left = [rest]
        self._left_bytes = len(rest)
        if not sign:
            return
        end = self._end.decode()
        records = (text.decode("utf-8", "surrogateescape")).split(end)
        self._read(records)

    def _read(self, records: list[str]) -> None:
        rows = [record.split(_UNIT) for record in records]
        if set(map(len, rows)) != {self._width}:
            rows = [self._careful_row(record) for record in records]
        columns = list(zip(*rows, strict=True))
        raw = dict(zip(_NAMES, columns, strict=False))
        read = self._columns(raw)
        for (_name, field), column in zip(self._free, columns[len(FIELDS) :], strict=True):
            read[field] = _unmarked(column, self._mark, keep=field == "name")
        self.unknown_states += sum(map(is_, read["state"], repeat(JobState.UNKNOWN)))
        self._jobs += _build(read)
        if len(self._free) > len(FREE_FIELDS):
            beyond = (read[field] for _name, field in self._free[len(FREE_FIELDS) :])
            self.texts += zip(*beyond, strict=True)

    def _careful_row(self, record: str) -> list[str]:
        """Split a record in which some user has written a unit separator."""
        own, *free = record.split(_UNIT + self._mark)
        row = own.split(_UNIT)
        if len(row) != len(FIELDS) or len(free) != len(self._free):
            q.unreadable(f"count of fields ({len(row)} and {len(free)})", record, "a job")
        return row + [self._mark + text for text in free]

    def _columns(self, raw: dict[str, tuple[str, ...]]) -> dict[str, Sequence[Any]]:
        columns: dict[str, Sequence[Any]] = {}
        for name, field, _read in FIELDS:
            if field:
                try:
                    columns[field] = list(map(self._reads[name], raw[name]))
                except ValueError:
                    _blame(name, raw)
        # Each different text is read once, so they stand for the whole column.
        keys = zip(*(raw[name] for name in _ASKED), strict=True)
        try:
            columns["gpus"], columns["gpu_type"] = zip(*map(self._gpus, keys), strict=True)
            columns["memory_mb"] = [tres.get("mem", 0) for tres in columns["tres"]]
            columns["array_job_id"] = [
                int(base) if task else None
                for base, task in zip(raw["arrayjobid"], columns["array_task"], strict=True)
            ]
        except ValueError as error:
            q.unreadable("tres or arrayjobid", str(error), "a job")
        return columns


def _unmarked(column: Sequence[str], mark: str, *, keep: bool) -> list[str]:
    """Return texts without the mark before each, and without Slurm's "(null)" unless *keep*."""
    start = len(mark)
    if keep:
        return [text[start:] for text in column]
    unset = {mark + text for text in q.UNSET}
    return ["" if text in unset else text[start:] for text in column]


_BATCH_BYTES = 1 << 17
_JOB_FIELDS = Job.__match_args__
_new = object.__new__
_SLOTS = {name: getattr(Job, name).__set__ for name in _JOB_FIELDS}


def _build(columns: dict[str, Sequence[Any]]) -> list[Job]:
    """Make one job per row, column by column.

    The same as ``Job(*row)`` in a third of the time: a frozen dataclass sets each field through
    two calls in Python, and a queue has a hundred thousand of them.
    """
    jobs: list[Job] = list(map(_new, repeat(Job, len(columns["job_id"]))))
    for name, setter in _SLOTS.items():
        deque(map(setter, jobs, columns[name]), maxlen=0)
    return jobs


def _blame(name: str, raw: dict[str, tuple[str, ...]]) -> None:
    read = next(read for asked, _field, read in FIELDS if asked == name)
    for text, job_id in zip(raw[name], raw["jobid"], strict=True):
        try:
            read(text)
        except ValueError:
            q.unreadable(name, text, f"job {job_id}")


def _gpus(key: tuple[str, str, str, str, str, str, str]) -> tuple[int, str]:
    """Return (GPUs, type): Slurm's own sum where the site tracks it, else the request."""
    held, per_job, per_node, per_socket, per_task, nodes, tasks = key
    total, kind = gpus_in_tres(held)
    if total and kind:
        return (total, kind)
    request = (per_job, per_node, per_socket, per_task)
    asked, asked_kind = gpus_requested(request, q.count(nodes), q.count(tasks))
    return (total or asked, kind or asked_kind)
