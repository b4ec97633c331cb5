"""``gpu-policy explain JOB``: why it waits, where it runs, how it ended."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.policy.queue import entry_json, state_counts
from slurm_gpu_policy.services.explain import explain
from slurm_gpu_policy.services.queue import Entry, gpu_indexes, node_names
from slurm_gpu_policy.terminal.table import Column, print_table
from slurm_gpu_policy.terminal.text import NOTHING, iso, print_json, ranges, safe, say, when
from slurm_gpu_policy.units import counted, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurm_gpu_policy.model.job import AccountingRecord, Job, JobDetail
    from slurm_gpu_policy.services.explain import Explanation

_MOST_ROWS = 20
_LABEL_WIDTH = 11
_MEMORY = re.compile(r"(?:^|,)mem=(\d+(?:\.\d+)?)([KMGTP]?)", re.ASCII)
_MEBIBYTES = {"K": 1 / 1024, "": 1.0, "M": 1.0, "G": 1024.0, "T": 1024.0**2, "P": 1024.0**3}

_TASK_COLUMNS = (
    Column("JOB", style="bold"),
    Column("STATE"),
    Column("TIME", right=True),
    Column("NODES", wraps=True),
)
_RUN_COLUMNS = (
    Column("JOB", style="bold"),
    Column("STATE"),
    Column("START"),
    Column("END"),
    Column("EXIT", right=True),
    Column("NODES", wraps=True),
)


@click.command("explain")
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object (see docs/cli.md).")
def command(*, job: str, as_json: bool) -> None:
    """Say all about one job: `123`, `123_4` for an array task, `123+1` for a part of a group.

    For a whole array one record speaks: its waiting rest, else a running task, else the last.

    `--json` prints an object: the fields of `queue --json`, and `source` (`memory` or
    `accounting`), `advice`, `facts` (list), `qos`, `cpus`, `memory_mb` (MiB), `time_limit_seconds`,
    `elapsed_seconds`, `priority`, `places` (list of `partition`, `place`, `of`), `eligible_time`,
    `start_time`, `end_time`, `exit_code`, `exit_signal`, `ending`, `restarts`, `dependency`,
    `reservation`, `work_dir`, `std_out`, `std_err`, `tasks` (list of `job_id`, `display_id`,
    `state`, for the records of an array or group) and `runs` (list, for jobs from accounting).
    What is not known is null.
    """
    explanation = explain(bootstrap.connect(bootstrap.load_policy()), job)
    if as_json:
        print_json(explanation_json(explanation))
    elif explanation.job is not None:
        _show(explanation, explanation.job)
    else:
        _show_records(explanation)


def explanation_json(found: Explanation) -> dict[str, Any]:
    """Return the documented JSON object; scripts rely on it."""
    if found.job is None:
        return _record_json(found)
    job, detail = found.job, found.detail
    held = detail.allocations if detail else ()
    started = None if job.state.is_pending else job.start_time
    return {
        **entry_json(Entry(job, found.words, held)),
        "estimated_start": iso(found.estimated_start),
        "source": "memory",
        "advice": found.words.advice,
        "facts": list(found.words.facts),
        "qos": job.qos,
        "cpus": job.cpus,
        "memory_mb": asked_memory_mb(job, detail),
        "time_limit_seconds": job.time_limit_seconds,
        "elapsed_seconds": job.elapsed_seconds,
        "priority": job.priority,
        "places": [
            {"partition": place.partition, "place": place.place, "of": place.of}
            for place in found.places
        ],
        "eligible_time": iso(job.eligible_time),
        "start_time": iso(started),
        "end_time": iso(job.end_time if job.state.is_over else None),
        "exit_code": detail.exit_code if detail and job.state.is_over else None,
        "exit_signal": detail.exit_signal if detail and job.state.is_over else None,
        "ending": found.ending,
        "restarts": detail.restarts if detail else None,
        "dependency": job.dependency,
        "reservation": job.reservation,
        "work_dir": detail.work_dir if detail else None,
        "std_out": detail.std_out if detail else None,
        "std_err": detail.std_err if detail else None,
        "tasks": [
            {"job_id": one.job_id, "display_id": one.display_id, "state": one.state.value}
            for one in found.group
        ],
        "runs": [],
    }


def _record_json(found: Explanation) -> dict[str, Any]:
    record = found.records[-1]
    gpus, gpu_type = _record_gpus(record)
    return {
        "job_id": record.job_id,
        "display_id": record.display_id,
        "name": record.name,
        "user": record.user,
        "account": record.account,
        "partition": record.partition,
        "state": record.state.value,
        "reason": "",
        "reason_text": "",
        "gpus": gpus,
        "gpu_type": gpu_type,
        "nodes": [],
        "gpu_indexes": {},
        "submit_time": iso(record.submit_time),
        "estimated_start": None,
        "source": "accounting",
        "advice": "",
        "facts": [],
        "qos": record.qos,
        "cpus": record.allocated_tres.get("cpu"),
        "memory_mb": record.allocated_tres.get("mem"),
        "time_limit_seconds": record.time_limit_seconds,
        "elapsed_seconds": record.elapsed_seconds,
        "priority": None,
        "places": [],
        "eligible_time": iso(record.eligible_time),
        "start_time": iso(record.start_time),
        "end_time": iso(record.end_time),
        "exit_code": record.exit_code,
        "exit_signal": record.exit_signal,
        "ending": found.ending,
        "restarts": record.restarts,
        "dependency": "",
        "reservation": "",
        "work_dir": None,
        "std_out": None,
        "std_err": None,
        "tasks": [],
        "runs": [
            {
                "job_id": one.job_id,
                "display_id": one.display_id,
                "state": one.state.value,
                "start_time": iso(one.start_time),
                "end_time": iso(one.end_time),
                "elapsed_seconds": one.elapsed_seconds,
                "exit_code": one.exit_code,
                "exit_signal": one.exit_signal,
                "node_list": one.node_list,
            }
            for one in found.records
        ],
    }


def asked_memory_mb(job: Job, detail: JobDetail | None) -> int | None:
    """Return the memory a job has or asks for in MiB; ``None`` where Slurm does not say."""
    if job.memory_mb:
        return job.memory_mb
    match = _MEMORY.search(detail.requested_tres) if detail else None
    return round(float(match[1]) * _MEBIBYTES[match[2]]) if match else None


def _record_gpus(record: AccountingRecord) -> tuple[int, str]:
    kinds = [
        name.removeprefix("gres/gpu:")
        for name, count in record.allocated_tres.items()
        if name.startswith("gres/gpu:") and count
    ]
    counts = [n for name, n in record.allocated_tres.items() if name.startswith("gres/gpu:")]
    total = record.allocated_tres.get("gres/gpu", sum(counts))
    return total, kinds[0] if len(kinds) == 1 else ""


def _show(found: Explanation, job: Job) -> None:
    if found.group:
        word = "array" if job.array_job_id is not None else "group"
        say(f"{word} {job.array_job_id or job.het_job_id}: {state_counts(found.group)}")
        _show_group(found.group)
        say()
    say(f"job {job.display_id}: {safe(job.name)} is {job.state.value.lower()}")
    if job.state.is_pending:
        _fields("why", found.words.text, *found.words.facts)
        _fields("what to do", found.words.advice)
        _fields("start", _start(found))
        for place in found.places:
            _fields("place", f"{place.place} of {place.of} waiting in partition {place.partition}")
    elif job.state.is_active:
        _fields("runs on", *_held(found, job))
        _fields("time", _elapsed(job))
    else:
        _fields("end", f"{found.ending} ({when(job.end_time)})" if found.ending else "")
        _fields("time", _elapsed(job))
    _fields("asked for", _asked(job, found.detail))
    _fields("as", f"user {job.user}, account {job.account or NOTHING}, QOS {job.qos or NOTHING}")
    _fields("partition", " or ".join(job.partitions))
    _fields("priority", str(job.priority))
    _fields("submitted", when(job.submit_time))
    if found.detail:
        _fields("restarts", str(found.detail.restarts) if found.detail.restarts else "")
        _fields("output", found.detail.std_out)


def _fields(label: str, *texts: str) -> None:
    """Print a label and its texts, one a line; nothing where there is nothing to say."""
    for text in filter(None, texts):
        say(f"  {label:<{_LABEL_WIDTH}}{safe(text)}")
        label = ""


def _start(found: Explanation) -> str:
    if found.estimated_start is None:
        return "Slurm has no plan yet"
    return f"Slurm plans {when(found.estimated_start)}"


def _held(found: Explanation, job: Job) -> Iterator[str]:
    held = found.detail.allocations if found.detail else ()
    indexes = gpu_indexes(held)
    names = node_names(job, held)
    if not names:
        yield job.node_list or "nodes that Slurm does not name yet"
    for name in names:
        yield f"{name}: GPUs {ranges(indexes[name])}" if name in indexes else name


def gpu_words(count: int, gpu_type: str) -> str:
    """Return ``4 h100 GPUs``, ``1 GPU`` or ``no GPU``."""
    return counted(count, f"{gpu_type} GPU".strip()) if count else "no GPU"


def _elapsed(job: Job | AccountingRecord) -> str:
    limit = job.time_limit_seconds
    of = "no limit" if limit is None else f"the limit {format_duration(limit)}"
    return f"{format_duration(job.elapsed_seconds)} of {of}"


def _asked(job: Job, detail: JobDetail | None) -> str:
    memory = asked_memory_mb(job, detail)
    limit = job.time_limit_seconds
    parts = [
        gpu_words(job.gpus, job.gpu_type),
        counted(job.nodes, "node"),
        counted(job.cpus, "CPU"),
        f"{memory} MiB of memory" if memory is not None else "",
        f"{format_duration(limit)} of time" if limit is not None else "no time limit",
        f"features {job.features}" if job.features else "",
        f"reservation {job.reservation}" if job.reservation else "",
    ]
    return ", ".join(filter(None, parts))


def _show_group(jobs: Sequence[Job]) -> None:
    rows = [
        (
            job.display_id,
            job.state.value.lower(),
            format_duration(job.elapsed_seconds),
            job.node_list or NOTHING,
        )
        for job in jobs[:_MOST_ROWS]
    ]
    print_table(_TASK_COLUMNS, rows)
    _say_rest(len(jobs))


def _show_records(found: Explanation) -> None:
    record = found.records[-1]
    say(f"job {record.display_id}: {safe(record.name)} is over ({record.state.value.lower()})")
    _fields("end", f"{found.ending} ({when(record.end_time)})")
    _fields("time", _elapsed(record))
    gpus, gpu_type = _record_gpus(record)
    held = f"{gpu_words(gpus, gpu_type)} on {record.node_list}" if record.node_list else ""
    _fields("had", held)
    _fields("as", f"user {record.user}, account {record.account}, QOS {record.qos or NOTHING}")
    _fields("partition", record.partition)
    _fields("submitted", when(record.submit_time))
    _fields("source", "Slurm's accounting: it left the controller's memory")
    if len(found.records) > 1:
        say()
        rows = [
            (
                one.display_id,
                one.state.value.lower(),
                when(one.start_time),
                when(one.end_time),
                f"{one.exit_code}:{one.exit_signal}",
                one.node_list or NOTHING,
            )
            for one in found.records[:_MOST_ROWS]
        ]
        print_table(_RUN_COLUMNS, rows)
        _say_rest(len(found.records))


def _say_rest(count: int) -> None:
    if count > _MOST_ROWS:
        say(f"… and {count - _MOST_ROWS} more")
