"""``gpu-policy queue``: everyone's jobs, with reasons in words and the GPUs that are free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.services.queue import Wanted, read_queue
from slurm_gpu_policy.terminal.table import Column, print_table
from slurm_gpu_policy.terminal.text import NOTHING, iso, print_json, ranges, say, when
from slurm_gpu_policy.units import counted, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from slurm_gpu_policy.model.job import Job
    from slurm_gpu_policy.services.queue import Entry, GpuCount, QueueView

_SHORT = {"PD": "PENDING", "R": "RUNNING", "S": "SUSPENDED", "CF": "CONFIGURING"}
_SHORT |= {"CG": "COMPLETING", "RQ": "REQUEUED"}
_LIVING = [state for state in JobState if not state.is_over]
_LONGEST_NAME = 32

_COLUMNS = (
    Column("JOB", style="bold"),
    Column("USER"),
    Column("ACCOUNT", rank=3),
    Column("PARTITION", rank=1),
    Column("STATE"),
    Column("GPUS"),
    Column("TIME", right=True),
    Column("WHERE, OR WHY NOT YET", wraps=True),
    Column("NAME", rank=2),
)


@click.command("queue")
@click.option("--me", is_flag=True, help="Only your own jobs.")
@click.option("-u", "--user", "users", multiple=True, help="Only this user's jobs.")
@click.option("-A", "--account", "accounts", multiple=True, help="Only this account's jobs.")
@click.option("-p", "--partition", "partitions", multiple=True, help="Only this partition's.")
@click.option(
    "-t", "--state", "states", multiple=True, help="Only jobs in this state, such as `pending`."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list (see docs/cli.md).")
def command(
    *,
    me: bool,
    users: tuple[str, ...],
    accounts: tuple[str, ...],
    partitions: tuple[str, ...],
    states: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show the queue: who runs where on which GPUs, and why others wait.

    Jobs that hold nodes come first, then waiting ones by priority. Options may be given several
    times, or with a list (`-u ann,bob`).

    `--json` prints a list of objects: `job_id` (int), `display_id` (with array task), `name`,
    `user`, `account`, `partition` (comma-separated while undecided), `state`, `reason` (Slurm's
    word, "" for none), `reason_text` (in plain words), `gpus` (int, of one task), `gpu_type`,
    `nodes` (list of names), `gpu_indexes` (object: node to list of ints; {} unless it holds
    GPUs), `submit_time` and `estimated_start` (ISO-8601 with UTC offset, or null).
    """
    mine: set[str] = set()
    if me:
        from slurm_gpu_policy.adapters.identity import current_user  # noqa: PLC0415

        mine = {current_user()}
    wanted = Wanted(
        users=frozenset({*_listed(users), *mine}),
        accounts=frozenset(name.lower() for name in _listed(accounts)),
        partitions=frozenset(_listed(partitions)),
        states=frozenset(_states(states)),
    )
    view = read_queue(bootstrap.connect(bootstrap.load_policy()), wanted)
    if as_json:
        print_json([entry_json(entry) for entry in view.entries])
    else:
        _show(view)


def _listed(values: Iterable[str]) -> list[str]:
    """Return the names in options that may each hold a list.

    Raises:
        RequestError: an option that names nothing, which would let everything pass.
    """
    names = [name.strip() for value in values for name in value.split(",")]
    if not all(names):
        msg = "an option with a name has an empty one: leave it out to see all"
        raise RequestError(msg)
    return names


def _states(values: Iterable[str]) -> Iterator[JobState]:
    """Return the states that ``--state`` names.

    Raises:
        RequestError: a name that no job in the queue can have.
    """
    known = {state.value: state for state in _LIVING}
    for value in _listed(values):
        name = value.upper()
        if name == "ALL":
            yield from _LIVING
        elif (state := known.get(_SHORT.get(name, name))) is not None:
            yield state
        else:
            names = ", ".join(state.value.lower() for state in _LIVING)
            msg = f"{value!r} is no state of jobs in the queue: use one of {names}, all"
            raise RequestError(msg)


def entry_json(entry: Entry) -> dict[str, Any]:
    """Return the documented JSON object of one job; scripts rely on it."""
    job = entry.job
    return {
        "job_id": job.job_id,
        "display_id": job.display_id,
        "name": job.name,
        "user": job.user,
        "account": job.account,
        "partition": ",".join(job.partitions),
        "state": job.state.value,
        "reason": job.reason,
        "reason_text": entry.words.text,
        "gpus": job.gpus,
        "gpu_type": job.gpu_type,
        "nodes": list(entry.nodes),
        "gpu_indexes": entry.gpu_indexes,
        "submit_time": iso(job.submit_time),
        "estimated_start": iso(job.start_time if job.state.is_pending else None),
    }


def _show(view: QueueView) -> None:
    for line in gpu_lines(view.gpus):
        say(line)
    jobs = [entry.job for entry in view.entries]
    say(state_counts(jobs))
    if jobs:
        say()
        print_table(_COLUMNS, [_row(entry) for entry in view.entries])


def gpu_lines(counts: Sequence[GpuCount]) -> Iterator[str]:
    """Return a line per GPU type: how many there are, and how many are free."""
    if not counts:
        yield "this cluster has no GPUs"
    for count in counts:
        yield (
            f"{count.type or 'gpu'}: {counted(count.total, 'GPU')}, {count.used} used, "
            f"{count.free} free, {count.down} down"
        )


def state_counts(jobs: Sequence[Job]) -> str:
    """Return such as ``7 jobs: 5 running, 2 pending``."""
    states = [job.state.value.lower() for job in jobs]
    each = ", ".join(f"{states.count(name)} {name}" for name in dict.fromkeys(states))
    return f"{counted(len(jobs), 'job')}" + (f": {each}" if each else "")


def _row(entry: Entry) -> tuple[str, ...]:
    job = entry.job
    name = job.name if len(job.name) <= _LONGEST_NAME else job.name[: _LONGEST_NAME - 1] + "…"
    limit = "no limit" if job.time_limit_seconds is None else short_time(job.time_limit_seconds)
    time = f"{short_time(job.elapsed_seconds)}/{limit}"
    return (
        job.display_id,
        job.user,
        job.account,
        ",".join(job.partitions),
        job.state.value.lower(),
        f"{job.gpus} {job.gpu_type}".strip() if job.gpus else NOTHING,
        time if job.state.is_active else limit,
        where(entry) or _why(entry),
        name,
    )


def short_time(seconds: int) -> str:
    """Return seconds the way squeue does: ``0:07``, ``10:00``, ``1-02:00:00``."""
    text = format_duration(seconds)
    if "-" in text:
        return text
    return text.removeprefix("00:").removeprefix("0")


def where(entry: Entry) -> str:
    """Return the nodes a job holds, each with its GPU indexes: ``gpu01:0-3 gpu02:0,2``."""
    held = entry.gpu_indexes
    parts = [f"{node}:{ranges(held[node])}" if node in held else node for node in entry.nodes]
    return " ".join(parts) or (entry.job.node_list if entry.job.state.is_active else "")


def _why(entry: Entry) -> str:
    start = entry.job.start_time
    planned = f"; starts about {when(start)}" if start and entry.job.state.is_pending else ""
    return entry.words.text + planned
