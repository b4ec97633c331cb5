"""``gpu-policy explain JOB``: why it waits, where it runs, how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.policy.explain_json import (
    asked_memory_mb,
    explanation_json,
    record_gpus,
)
from slurm_gpu_policy.apps.policy.explain_line import approval_lines, attempt_lines, prospect_lines
from slurm_gpu_policy.apps.policy.queue import state_counts
from slurm_gpu_policy.errors import PolicyLayerError
from slurm_gpu_policy.services.explain import explain
from slurm_gpu_policy.services.queue import gpu_indexes, node_names
from slurm_gpu_policy.terminal.table import Column, print_table
from slurm_gpu_policy.terminal.text import NOTHING, print_json, ranges, safe, say, when
from slurm_gpu_policy.units import counted, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.job import AccountingRecord, Job, JobDetail
    from slurm_gpu_policy.services.explain import Explanation

_MOST_ROWS = 20
_LABEL_WIDTH = 11

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

    Of a waiting job it says why it waits and when it will start: as Slurm plans it or, where
    Slurm has no plan, by our own estimate (nobody overtakes, everybody uses their whole time
    limit). Then what its priority is made of, the weightiest first; who stands directly ahead
    and by what; and what would help, with the points it gains and the place it leads to. All of
    that is computed as Slurm does it.

    `--json` prints an object: the fields of `queue --json`, and `source` (`memory` or
    `accounting`), `advice`, `facts` (list), `qos`, `cpus`, `memory_mb` (MiB), `time_limit_seconds`,
    `elapsed_seconds`, `priority`, `places` (list of `partition`, `place`, `of`), `eligible_time`,
    `start_time`, `end_time`, `exit_code`, `exit_signal`, `ending`, `restarts`, `dependency`,
    `reservation`, `work_dir`, `std_out`, `std_err`, `tasks` (list of `job_id`, `display_id`,
    `state`, for the records of an array or group) and `runs` (list, for jobs from accounting).

    Of a waiting job also: `estimated_start_source` (`slurm`, `ours`), `priority_terms` (list, as
    `priority --json` has it, the best place first), `priority_words` (list of sentences, one a
    term of the first), `priority_missing` (why there is less than that, or ""), `ahead` (who
    stands directly ahead in the first of these places: `job_id`, `display_id`, `user`, `account`,
    `partition`, `priority`, `difference` in points, `decided_by`: a name of a term, `direct` for
    a priority set by hand, `job_id` between equals; `text`; `count` and `gpus` of all that stand
    ahead), `changes` (list of `what`, `gain_points`, `place` and `partition`, `note`, `how`) and
    `approval` (what a held job waits for: `state`, `rule`, `asks_for`, `approvals_needed`,
    `approvers`, `expires`, and `votes` as `approvals --json` has them, null where gpu-policyd
    was not reached). Of every job: `attempts` (list of `number`, `start_time`, `end_time`,
    `nodes`, `state`, `words`) and `retries` (`made`, `allowed`, `next_time`, `words`).
    What is not known is null.
    """
    policy = bootstrap.load_policy()
    explanation = explain(
        bootstrap.connect(policy), job, policy, lambda asked: bootstrap.ask_ledger(policy, asked)
    )
    votes = _votes(explanation, policy)
    if as_json:
        print_json(explanation_json(explanation, votes))
    elif explanation.job is not None:
        _show(explanation, explanation.job, votes)
    else:
        _show_records(explanation)


def _votes(found: Explanation, policy: Policy) -> list[dict[str, Any]] | None:
    """Return the votes on a job that waits for approvals; ``None`` where nobody can tell."""
    if found.approval is None or found.job is None:
        return None
    asked = found.job.array_job_id or found.job.het_job_id or found.job.job_id
    try:
        waiting = bootstrap.ask_controller(policy, {"request": "approvals"})["approvals"]
    except PolicyLayerError:
        return None
    return next((one["votes"] for one in waiting if one["job_id"] == asked), None)


def _show(found: Explanation, job: Job, votes: list[dict[str, Any]] | None) -> None:
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
        places = [
            f"{one.place} of {one.of} waiting in partition {one.partition}" for one in found.places
        ]
        _fields("place", *places)
        _fields("approval", *approval_lines(found, votes))
        for label, lines in prospect_lines(found.prospects):
            _fields(label, *lines)
    elif job.state.is_active:
        _fields("runs on", *_held(found, job))
        _fields("time", _elapsed(job))
    else:
        _fields("end", f"{found.ending} ({when(job.end_time)})" if found.ending else "")
        _fields("time", _elapsed(job))
    _fields("asked for", _asked(job, found.detail))
    _fields("as", f"user {job.user}, account {job.account or NOTHING}, QOS {job.qos or NOTHING}")
    _fields("partition", " or ".join(job.partitions))
    if not found.prospects.ranked:
        _fields("priority", str(job.priority), found.prospects.missing)
    _fields("submitted", when(job.submit_time))
    _fields("attempts", *attempt_lines(found.attempts))
    if found.detail:
        _fields("restarts", str(found.detail.restarts) if found.detail.restarts else "")
        _fields("output", found.detail.std_out)


def _fields(label: str, *texts: str) -> None:
    """Print a label and its texts, one a line; nothing where there is nothing to say."""
    for text in filter(None, texts):
        say(f"  {label:<{_LABEL_WIDTH}}{safe(text)}")
        label = ""


def _start(found: Explanation) -> str:
    if found.start_source == "slurm":
        return f"Slurm plans {when(found.estimated_start)}"
    if found.start_source == "ours":
        return f"our estimate: {when(found.estimated_start)} (Slurm has no plan yet)"
    return "Slurm has no plan yet" + (f": {found.start_words}" if found.start_words else "")


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
    gpus, gpu_type = record_gpus(record)
    held = f"{gpu_words(gpus, gpu_type)} on {record.node_list}" if record.node_list else ""
    _fields("had", held)
    _fields("as", f"user {record.user}, account {record.account}, QOS {record.qos or NOTHING}")
    _fields("partition", record.partition)
    _fields("submitted", when(record.submit_time))
    _fields("attempts", found.attempts.words)
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
