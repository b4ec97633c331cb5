"""squeue's records, written as squeue writes them and read back."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_gpu_policy.adapters.slurm import parse_jobs
from slurm_gpu_policy.adapters.slurm.parse_jobs import (
    DETAIL_FREE_FIELDS,
    FIELDS,
    FREE_FIELDS,
    JobReader,
    squeue_format,
)
from slurm_gpu_policy.errors import SlurmUnreadable
from slurm_gpu_policy.model.job import Job, JobState

MARK = "0123456789ab"
TYPICAL = {
    "jobid": "7", "jobarrayid": "7", "username": "u1", "account": "nlp", "partition": "gpu,cpu",
    "qos": "normal", "state": "PENDING", "reason": "Resources", "numnodes": "1", "numcpus": "2",
    "numtasks": "1", "timelimit": "1:00:00", "submittime": "1800000000",
    "eligibletime": "1800000001", "starttime": "N/A", "endtime": "N/A", "timeused": "0:00",
    "prioritylong": "4294967295", "nice": "-5", "nodelist": "", "dependency": "(null)",
    "reservation": "(null)", "arrayjobid": "7", "arraytaskid": "N/A", "hetjobid": "N/A",
    "feature": "(null)", "tres-alloc": "cpu=2,mem=16000M,node=1,gres/gpu=2,gres/gpu:h100=2",
    "tres-per-job": "N/A", "tres-per-node": "gres:gpu:h100:2", "tres-per-socket": "N/A",
    "tres-per-task": "N/A", "accruetime": "1800000001", "restartcnt": "0", "exit_code": "0",
    "deadline": "1800009999",
}  # fmt: skip
# Anything a user can put into a name: no NUL, and bytes that are no UTF-8 as surrogates.
HOSTILE = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"])
    | st.sampled_from("\x1f\x1e\n|\udcff")
).filter(lambda text: text not in parse_jobs.q.UNSET and MARK not in text)


def written(free, fields=None, table=FREE_FIELDS):
    """Return one record as squeue prints it."""
    values = TYPICAL | (fields or {})
    own = "".join(f"{values[name]}\x1f" for name, _field, _read in FIELDS) + MARK
    texts = [free.get(field, "(null)") for _name, field in table]
    return own + f"\x1f{MARK}".join(texts) + f"\x1e{MARK}\n"


def read(text, table=FREE_FIELDS, step=None):
    reader = JobReader(MARK, table)
    data = text.encode("utf-8", "surrogateescape")
    step = step or max(1, len(data))
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
    return reader.close(), reader


def test_a_typical_record():
    (job,), reader = read(written({"name": "train", "comment": "(null)"}))
    assert job == Job(
        job_id=7, display_id="7", name="train", user="u1", account="nlp",
        partitions=("gpu", "cpu"), qos="normal", state=JobState.PENDING, reason="Resources",
        gpus=2, gpu_type="h100", nodes=1, cpus=2, memory_mb=16000, time_limit_seconds=3600,
        submit_time=1800000000, eligible_time=1800000001, start_time=None, end_time=None,
        elapsed_seconds=0, priority=4294967295, nice=-5, node_list="", accrue_time=1800000001,
        deadline=1800009999,
        tres={"cpu": 2, "mem": 16000, "node": 1, "gres/gpu": 2, "gres/gpu:h100": 2},
    )  # fmt: skip
    assert reader.unknown_states == 0


def test_jobs_are_frozen_and_compare_like_any_other():
    (job,), _ = read(written({"name": "x", "comment": ""}))
    assert dataclasses.replace(job, name="y").name == "y"
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.name = "y"


def test_every_field_asked_for_is_read_and_no_other():
    asked = [part.partition(":")[0] for part in squeue_format(MARK).split(",")]
    assert asked == [name for name, _f, _r in FIELDS] + [name for name, _f in FREE_FIELDS]
    read_fields = {field for _n, field, _r in FIELDS if field} | {f for _n, f in FREE_FIELDS}
    derived = {"gpus", "gpu_type", "memory_mb", "array_job_id"}
    assert read_fields | derived == set(Job.__match_args__)


@settings(max_examples=300)
@given(
    st.lists(
        st.fixed_dictionaries({field: HOSTILE for _n, field in DETAIL_FREE_FIELDS}), max_size=5
    ),
    st.integers(1, 400),
)
def test_no_text_of_a_user_shifts_a_field(texts, step):
    table = DETAIL_FREE_FIELDS
    record = "".join(
        written(free, {"jobid": str(number)}, table) for number, free in enumerate(texts, 1)
    )
    jobs, reader = read(record, table, step)
    assert [job.job_id for job in jobs] == list(range(1, len(texts) + 1))
    own = [(job.name, job.comment, job.admin_comment) for job in jobs]
    assert own == [(t["name"], t["comment"], t["admin_comment"]) for t in texts]
    assert {job.user for job in jobs} <= {"u1"}
    assert reader.texts == [
        tuple(
            free[field] for _n, field in table if field not in {"name", "comment", "admin_comment"}
        )
        for free in texts
    ]


def test_a_user_cannot_forge_a_record_without_the_mark():
    forged = written({"name": "x", "comment": "y"}, {"username": "root"}).replace(MARK, "f" * 12)
    jobs, _ = read(written({"name": forged, "comment": forged}))
    assert [(job.user, job.name, job.comment) for job in jobs] == [("u1", forged, forged)]


def test_marks_are_never_the_same_twice():
    assert len({parse_jobs.draw_mark() for _ in range(100)}) == 100


def test_a_state_of_a_later_release_is_unknown_and_counted():
    text = written({"name": "", "comment": ""}, {"state": "TELEPORTING"})
    jobs, reader = read(text * 3)
    assert {job.state for job in jobs} == {JobState.UNKNOWN}
    assert reader.unknown_states == 3


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("REQUEUE_HOLD", JobState.REQUEUED),
        ("SPECIAL_EXIT", JobState.REQUEUED),
        ("POWER_UP_NODE", JobState.CONFIGURING),
        ("STOPPED", JobState.SUSPENDED),
        ("RESIZING", JobState.RUNNING),
    ],
)
def test_flags_in_place_of_states_are_understood(text, state):
    (job,), _ = read(written({"name": "", "comment": ""}, {"state": text}))
    assert job.state is state


@pytest.mark.parametrize(
    ("fields", "seen"),
    [
        ({"timelimit": "UNLIMITED"}, {"time_limit_seconds": None}),
        ({"jobarrayid": "7_[1-3%2]", "arraytaskid": "1-3%2"}, {"array_job_id": 7}),
        ({"jobid": "9", "jobarrayid": "7_2", "arraytaskid": "2"}, {"array_task": "2"}),
        ({"jobarrayid": "7+1", "hetjobid": "7"}, {"het_job_id": 7, "array_job_id": None}),
        ({"tres-alloc": "cpu=2,mem=62.50G"}, {"memory_mb": 64000, "gpus": 2, "gpu_type": "h100"}),
        ({"tres-alloc": "cpu=4,gres/gpu=12", "tres-per-node": "gres:gpu:6"}, {"gpus": 12}),
        (
            {"tres-alloc": "cpu=4,gres/gpu=12", "tres-per-node": "gres:gpu:h100:6"},
            {"gpus": 12, "gpu_type": "h100"},
        ),
        ({"tres-alloc": "N/A", "tres-per-node": "N/A"}, {"gpus": 0, "memory_mb": 0}),
        ({"numnodes": "1K", "numcpus": "1.50K"}, {"nodes": 1024, "cpus": 1536}),
        ({"timeused": "INVALID"}, {"elapsed_seconds": 0}),
        ({"reason": "None"}, {"reason": ""}),
    ],
)
def test_slurms_odd_values(fields, seen):
    (job,), _ = read(written({"name": "", "comment": ""}, fields))
    assert {field: getattr(job, field) for field in seen} == seen


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("timelimit", "soon"),
        ("jobid", "x"),
        ("nice", ""),
        ("numcpus", "many"),
        ("tres-alloc", "gres/gpu=x"),
        ("submittime", "2027-01-01T00:00:00"),
    ],
)
def test_an_unreadable_field_is_named_with_its_job(name, text):
    with pytest.raises(SlurmUnreadable) as caught:
        read(written({"name": "", "comment": ""}, {name: text}))
    assert name.partition("-")[0] in str(caught.value)


def test_an_answer_that_is_cut_off_is_no_shorter_queue():
    text = written({"name": "a", "comment": ""}) * 2
    with pytest.raises(SlurmUnreadable, match="end of record"):
        read(text[:-20])


def test_no_jobs_are_no_output():
    assert read("")[0] == ()
