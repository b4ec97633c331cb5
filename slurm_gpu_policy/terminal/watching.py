"""The live view of jobs: a table that moves on a terminal, lines of news elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

import click

from slurm_gpu_policy.adapters.clock import SystemClock
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.policy.explaining.waiting import reason_words
from slurm_gpu_policy.services.selecting import is_range
from slurm_gpu_policy.services.watch import exit_code, watch
from slurm_gpu_policy.terminal.following import Follower, tail
from slurm_gpu_policy.terminal.text import ranges, safe, when
from slurm_gpu_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from slurm_gpu_policy.model.job import Job, NodeAllocation
    from slurm_gpu_policy.services.ports import Clock, SlurmPort
    from slurm_gpu_policy.services.watch import Sight

_MOST_ROWS = 20
"""Jobs that the table shows one by one; an array may have thousands of tasks."""


def stay(
    slurm: SlurmPort,
    job_ids: Sequence[str],
    *,
    show: bool,
    follow: bool = False,
    prose_to_stderr: bool = False,
) -> int:
    """Wait for the end of jobs, showing them if *show*, and return their exit code.

    With *prose_to_stderr* all that is shown goes to standard error: a program reads the other.
    Ctrl-C leaves the jobs alone and says how to come back before it passes on.
    """
    clock = SystemClock()
    stream = sys.stderr if prose_to_stderr else sys.stdout
    try:
        if not show:
            for _ in watch(slurm, clock, job_ids):
                pass
        elif stream.isatty():
            _live(watch(slurm, clock, job_ids, outputs=follow), stream, follow=follow)
        else:
            follower = Follower(job_ids, lambda line: click.echo(line, file=stream))
            between = _Between(clock, follower.look) if follow else clock
            sights = watch(slurm, between, job_ids, outputs=follow)
            _lines(sights, stream, follower)
        return exit_code(slurm, clock, job_ids)
    except KeyboardInterrupt:
        ids = " ".join(job_ids)
        several = len(job_ids) > 1
        click.echo(
            f"\n{'jobs' if several else 'job'} {ids} {'go' if several else 'goes'} on; "
            f"come back with: gpu-policy watch {ids}\n"
            f"cancel with: scancel {ids}",
            err=True,
        )
        raise


class _Between:
    """A clock whose waiting is used: every second of it *look* is called."""

    def __init__(self, clock: Clock, look: Callable[[], object]) -> None:
        self._clock = clock
        self._look = look
        self.now = clock.now
        self.monotonic = clock.monotonic

    def sleep(self, seconds: float) -> None:
        """Wait, looking meanwhile."""
        while seconds > 0:
            self._clock.sleep(min(1.0, seconds))
            seconds -= 1.0
            self._look()


def job_words(job: Job, sight: Sight) -> str:
    """Return what a job does, in words: why it waits, where it runs, how it ended."""
    if job.state.is_pending:
        words = [f"waits: {reason_words(job).text}"]
        words += [
            f"place {at.place} of {at.of} in {at.partition}"
            for at in sight.places.get(job.display_id, ())
        ]
        if job.start_time:
            words.append(f"starts about {when(job.start_time)}")
        return ", ".join(words)
    held = sight.allocations.get(job.display_id, ())
    if job.state.is_active:
        limit = f" of {format_duration(job.time_limit_seconds)}" if job.time_limit_seconds else ""
        verb = "runs" if job.state is JobState.RUNNING else job.state.value.lower()
        where = _places_held(held) or job.node_list
        return f"{verb} on {where}, {format_duration(job.elapsed_seconds)}{limit}"
    return (
        f"{job.state.value.lower().replace('_', ' ')} after {format_duration(job.elapsed_seconds)}"
    )


def _places_held(held: Sequence[NodeAllocation]) -> str:
    """Return ``gpu01 GPUs 0-3; gpu02 GPUs 0,2``."""
    return "; ".join(
        f"{one.node} GPUs {ranges(one.gpu_indexes)}" if one.gpu_indexes else one.node
        for one in held
    )


def _lines(sights: Iterator[Sight], stream: TextIO, follower: Follower) -> None:
    """Print a line whenever a job has news: a terminal is not needed, a log stays readable."""
    told: dict[str, str] = {}
    trouble = ""
    for sight in sights:
        if sight.trouble and sight.trouble != trouble:
            click.echo(f"Slurm does not answer: {safe(sight.trouble)}", err=True)
        trouble = sight.trouble
        follower.note(sight)
        for job in sight.jobs:
            news = f"{job.state.value} {job.reason} {sight.places.get(job.display_id)}"
            # The rest of an array shrinks with each start, and the starts are told already.
            name = f"{job.array_job_id}_[]" if is_range(job.array_task) else job.display_id
            if told.get(name) != news:
                told[name] = news
                if job.state.is_over:  # its last words before its end
                    follower.finish(job.display_id)
                click.echo(safe(f"job {job.display_id}: {job_words(job, sight)}"), file=stream)
        for job_id in sight.gone:
            if told.get(job_id) != "gone":
                told[job_id] = "gone"
                click.echo(safe(f"job {job_id}: {_GONE.format(job_id)}"), file=stream)
        follower.look()


_GONE = "not in Slurm's memory: it ended a while ago, or never was; ask: gpu-policy explain {}"


def _live(sights: Iterator[Sight], stream: TextIO, *, follow: bool) -> None:
    from rich.console import Console  # noqa: PLC0415 - 50 ms, for terminals only
    from rich.live import Live  # noqa: PLC0415

    with Live(console=Console(file=stream), refresh_per_second=4) as live:
        for sight in sights:
            live.update(_picture(sight, follow=follow))


def _picture(sight: Sight, *, follow: bool) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for title in ("job", "name", "GPUs", "state"):
        table.add_column(title)
    shown, rest = _shown(sight.jobs)
    for job in shown:
        gpus = f"{job.gpus} x {job.gpu_type}" if job.gpu_type else str(job.gpus or "-")
        cells = (job.display_id, job.name, gpus, job_words(job, sight))
        table.add_row(*(Text(safe(cell)) for cell in cells))
    parts: list[RenderableType] = [table]
    if rest:
        parts.append(Text(rest))
    parts += [Text(safe(f"{job_id}  {_GONE.format(job_id)}")) for job_id in sight.gone]
    if sight.trouble:
        parts.append(Text(f"Slurm does not answer: {safe(sight.trouble)}", style="yellow"))
    if follow:
        for job in shown:
            lines = tail(sight.outputs.get(job.display_id, ""))
            parts += [Text(f"{job.display_id}| {safe(line)}", style="dim") for line in lines]
    return Group(*parts)


def _shown(jobs: Sequence[Job]) -> tuple[Sequence[Job], str]:
    """Return the jobs that have a row, and words for the others: ``and 31 more: 31 completed``.

    Where there are too many, those that hold nodes come first, then those that wait.
    """
    if len(jobs) <= _MOST_ROWS:
        return jobs, ""
    ranked = sorted(jobs, key=lambda job: (not job.state.is_active, job.state.is_over))
    states = [job.state.value.lower().replace("_", " ") for job in ranked[_MOST_ROWS:]]
    words = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return ranked[:_MOST_ROWS], f"and {len(states)} more: {words}"
