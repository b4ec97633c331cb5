"""The live view of jobs: a table that moves on a terminal, lines of news elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from slurm_gpu_policy.adapters.clock import SystemClock
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.policy.waiting import reason_words
from slurm_gpu_policy.services.watch import exit_code, watch
from slurm_gpu_policy.terminal.text import ranges, safe, when
from slurm_gpu_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from slurm_gpu_policy.model.job import Job, NodeAllocation
    from slurm_gpu_policy.services.ports import SlurmPort
    from slurm_gpu_policy.services.watch import Sight

_TAIL_LINES = 10
_TAIL_BYTES = 16 * 1024


def stay(slurm: SlurmPort, job_ids: Sequence[str], *, show: bool, follow: bool = False) -> int:
    """Wait for the end of jobs, showing them if *show*, and return their exit code.

    Ctrl-C leaves the jobs alone and says how to come back before it passes on.
    """
    clock = SystemClock()
    sights = watch(slurm, clock, job_ids)
    try:
        if not show:
            for _ in sights:
                pass
        elif sys.stdout.isatty():
            _live(sights, follow=follow)
        else:
            _lines(sights)
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


def _lines(sights: Iterator[Sight]) -> None:
    """Print a line whenever a job has news: a terminal is not needed, a log stays readable."""
    told: dict[str, str] = {}
    trouble = ""
    for sight in sights:
        if sight.trouble and sight.trouble != trouble:
            click.echo(f"Slurm does not answer: {safe(sight.trouble)}", err=True)
        trouble = sight.trouble
        for job in sight.jobs:
            words = job_words(job, sight)
            news = f"{job.state.value} {job.reason} {sight.places.get(job.display_id)}"
            if told.get(job.display_id) != news:
                told[job.display_id] = news
                click.echo(safe(f"job {job.display_id}: {words}"))
        for job_id in sight.gone:
            if told.get(job_id) != "gone":
                told[job_id] = "gone"
                click.echo(safe(f"job {job_id}: ended; ask gpu-policy explain {job_id}"))


def _live(sights: Iterator[Sight], *, follow: bool) -> None:
    from rich.live import Live  # noqa: PLC0415 - 50 ms, for terminals only

    with Live(refresh_per_second=4) as live:
        for sight in sights:
            live.update(_picture(sight, follow=follow))


def _picture(sight: Sight, *, follow: bool) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for title in ("job", "name", "GPUs", "state"):
        table.add_column(title)
    for job in sight.jobs:
        gpus = f"{job.gpus} x {job.gpu_type}" if job.gpu_type else str(job.gpus or "-")
        cells = (job.display_id, job.name, gpus, job_words(job, sight))
        table.add_row(*(Text(safe(cell)) for cell in cells))
    parts: list[RenderableType] = [table]
    if sight.trouble:
        parts.append(Text(f"Slurm does not answer: {safe(sight.trouble)}", style="yellow"))
    if follow:
        for job in sight.jobs:
            lines = tail(sight.outputs.get(job.display_id, ""))
            parts += [Text(f"{job.display_id}| {safe(line)}", style="dim") for line in lines]
    return Group(*parts)


def tail(path: str) -> list[str]:
    """Return the last lines of a job's output; empty while it cannot be read from here."""
    if not path:
        return []
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path of Slurm's, not ours to reshape
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            data = file.read()
    except OSError:
        return []
    return data.decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]
