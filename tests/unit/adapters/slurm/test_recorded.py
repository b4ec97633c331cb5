"""The parsers on what real clusters printed (tests/data/slurm, written by record.py)."""

from __future__ import annotations

import pathlib

import pytest

from slurm_gpu_policy.adapters.slurm import (
    parse_accounting,
    parse_accounts,
    parse_cluster,
    parse_detail,
    parse_jobs,
    parse_priority,
)
from slurm_gpu_policy.errors import SlurmUnreadable
from slurm_gpu_policy.model.job import JobState

DATA = pathlib.Path(__file__).parents[3] / "data" / "slurm"
MARK = "0123456789ab"
HOSTILE = "a|b \x1f\x1e c\n   UserId=root(0)\né=✓"


@pytest.fixture(params=["22.05", "26.05"])
def recorded(request):
    """A reader of one release's recordings."""

    def read_text(name):
        path = DATA / request.param / f"{name}.txt"
        return path.read_bytes().decode("utf-8", "surrogateescape")

    return read_text


@pytest.fixture
def queue(recorded):
    reader = parse_jobs.JobReader(MARK, parse_jobs.DETAIL_FREE_FIELDS)
    reader.feed(recorded("jobs").encode("utf-8", "surrogateescape"))
    return reader.close(), reader


def test_nodes_have_their_gpus_and_what_is_used(recorded):
    nodes = {node.name: node for node in parse_cluster.nodes(recorded("nodes"))}
    assert set(nodes) == {"cpu01", "gpu01", "gpu02"}
    assert [(g.type, g.total) for g in nodes["gpu01"].gpus] == [("h100", 8)]
    assert nodes["gpu01"].gpus[0].used > 0
    assert nodes["gpu01"].state in {"MIXED", "ALLOCATED"}
    assert nodes["gpu01"].usable
    assert nodes["cpu01"].partitions == ("cpu",)


def test_partitions(recorded):
    found = parse_cluster.partitions(recorded("partitions"))
    assert [one.name for one in found] == ["gpu", "interactive", "cpu"]
    assert found[0].default
    assert found[1].max_time_seconds == 8 * 3600


def test_jobs_of_every_kind(queue):
    jobs, reader = queue
    assert reader.unknown_states == 0
    by_kind = {(job.gpus, job.gpu_type, job.nodes, job.array_task) for job in jobs}
    assert {
        (2, "h100", 1, ""),
        (2, "h100", 2, ""),
        (3, "h100", 1, ""),
        (4, "", 2, ""),
        (1, "", 1, "1,3,5-9%2"),
        (16, "h100", 2, ""),
    } <= by_kind
    assert [job.comment for job in jobs if job.name == HOSTILE] == ["it's |x|"]
    het = [job for job in jobs if job.het_job_id is not None]
    assert sorted(job.display_id[-2:] for job in het) == ["+0", "+1"]
    assert {job.user for job in jobs} == {"u1"}


def test_each_running_job_has_its_indexes(recorded, queue):
    jobs, _ = queue
    active = [job for job in jobs if job.state.is_active]
    held = parse_detail.held(recorded("detail"), active)
    assert len(held) == len(active) > 0
    for job in active:
        indexes = sum(len(one.gpu_indexes) for one in held[job.job_id])
        assert indexes == job.gpus


def test_each_job_has_its_detail(recorded, queue):
    jobs, reader = queue
    for job, free in zip(jobs, reader.texts, strict=True):
        detail = parse_detail.detail(recorded("detail"), job, free)
        assert detail.job is job
        assert detail.work_dir == "/tmp"
        assert detail.submit_host == "localhost"
        assert detail.requested_tres.startswith("cpu=")


def test_a_record_under_another_name_is_not_taken(recorded, queue):
    job = next(job for job in queue[0] if job.name == HOSTILE)
    other = type(job)(**{f: getattr(job, f) for f in job.__match_args__} | {"name": "other"})
    with pytest.raises(SlurmUnreadable, match="JobName"):
        parse_detail.detail(recorded("detail"), other, ("",) * 5)
    assert parse_detail.held(recorded("detail"), [other]) == {}


def test_accounts_their_users_and_defaults(recorded):
    name = recorded("associations").partition("|")[0]
    cluster = parse_accounts.associations(recorded("associations"), name)
    found = parse_accounts.mark_defaults(cluster, parse_accounts.defaults(recorded("users")))
    found = parse_accounts.with_shares(found, parse_accounts.shares(recorded("shares")))
    by_place = {(one.account, one.user): one for one in found}
    assert by_place["nlp-pretrain", "u1"].is_default
    assert by_place["nlp", ""].norm_shares == pytest.approx(60 / 101, abs=1e-5)
    assert by_place["nlp-pretrain", "u1"].fair_share is not None
    assert by_place["root", ""].parent == ""
    assert sum(one.is_default for one in found) == 5


def test_qos(recorded):
    found = {one.name: one for one in parse_accounts.qos(recorded("qos"))}
    assert dict(found["debug"].max_tres_per_user) == {"gres/gpu": 2}
    assert found["high"].preempts == {"low"}


def test_priorities_one_for_each_job_and_partition(recorded):
    found = parse_priority.priorities(recorded("priorities"))
    assert found
    for one in found:
        parts = (one.age, one.association, one.fair_share, one.job_size, one.partition_factor,
                 one.qos_factor, *one.tres.values())  # fmt: skip
        assert abs(sum(parts) + one.site - one.nice - one.priority) <= len(parts)


def test_the_accounting(recorded):
    found = parse_accounting.records(recorded("accounting"), "\x1f" + MARK)
    assert found
    assert {one.user for one in found} == {"u1"}
    assert {one.state for one in found} <= {JobState.CANCELLED, JobState.PENDING}
    held = [one for one in found if one.allocated_tres.get("gres/gpu")]
    assert held
    assert all(one.elapsed_seconds > 0 for one in held)
