"""The line of an ordering holds, and is written as rarely as can be."""

from __future__ import annotations

import itertools
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_gpu_policy.policy.line import MOST_SITE
from slurm_gpu_policy.policy.ordering import standing
from slurm_gpu_policy.policy.scoring import base_spread
from tests.builders import NOW, make_snapshot
from tests.queues import MOST, WEIGHTS, Queue, row, shares, sure_order, waiting

RANKED = ("fcfs", "sjf", "fair_share")


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(RANKED),
    st.lists(
        st.fixed_dictionaries({
            "user": st.sampled_from(["u1", "u2", "u3"]),
            "gpus": st.integers(0, 8),
            "submit_time": st.integers(NOW - 5000, NOW),
            "time_limit_seconds": st.none() | st.integers(1, 10**6),
            "nice": st.integers(-200, 200) | st.sampled_from([-(2**31), 2**31 - 2, 10**7]),
        }),
        min_size=1, max_size=12,
    ),
    st.integers(1, 14),
    st.dictionaries(st.integers(1, 12), st.integers(-MOST_SITE, MOST_SITE)),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_the_line_holds_whatever_stood_there_and_whatever_slurm_adds(
    kind, fields, depth, sites, rng
):
    jobs = [waiting(n, **each) for n, each in enumerate(fields, 1)]
    queue = Queue(*jobs, kind=kind, depth=depth)
    queue.fields["associations"] = shares(u1=0.9, u2=0.5, u3=0.1)
    queue.sites = {n: site for n, site in sites.items() if n <= len(jobs)}
    queue.tick()
    snapshot = queue.snapshot()
    places = {n: standing(n, snapshot, queue.policy).place for n in range(1, len(jobs) + 1)}
    able = sorted((j for j in jobs if abs(j.nice) <= 10**7), key=lambda job: places[job.job_id])
    head, rest = able[:depth], able[depth:]
    for _ in range(3):
        sums = {
            j.job_id: rng.uniform(0, MOST) + queue.sites.get(j.job_id, 0) - j.nice for j in able
        }
        line = [sums[job.job_id] for job in head]
        assert all(int(a) > int(b) for a, b in itertools.pairwise(line))
        assert all(1 <= value <= 2**32 - 1 for value in line)
        assert all(sums[job.job_id] + min(0, job.nice) < min(line) for job in rest)
    assert all(abs(site) <= MOST_SITE for site in queue.sites.values())
    assert queue.tick() == ()


def test_only_the_head_of_a_long_line_is_labelled():
    queue = Queue(*(waiting(n) for n in range(1, 21)), kind="fcfs", depth=5)
    queue.bases = {20: 20_000.0}
    assert len(queue.tick()) == 5
    assert queue.order()[:6] == [1, 2, 3, 4, 5, 20]
    found = standing(20, queue.snapshot(), queue.policy)
    assert (found.place, found.wanted_site) == (20, 0)
    assert found.words == "behind those that have a place in the line, in Slurm's own order"
    queue.remove(1)
    assert [action.job_id for action in queue.tick()] == [6]


def test_a_job_pushed_out_of_the_head_loses_its_label():
    queue = Queue(*(waiting(n) for n in range(1, 4)), kind="sjf", depth=3)
    queue.tick()
    queue.jobs.append(waiting(4, time_limit_seconds=60))
    actions = {action.job_id: action.site_factor for action in queue.tick()}
    assert actions.keys() == {3, 4}
    assert actions[3] == 0
    assert queue.order() == [4, 1, 2, 3]


def test_arrivals_and_starts_write_only_what_arrived():
    queue = Queue(*(waiting(n) for n in range(1, 101)), kind="fcfs")
    queue.tick()
    for number in range(101, 161):
        queue.remove(number - 100)
        queue.jobs.append(waiting(number))
        assert [action.job_id for action in queue.tick()] == [number]


def test_nice_counts_as_points_and_huge_nice_is_left_to_slurm():
    queue = Queue(
        waiting(1, submit_time=NOW - 100, nice=60),
        waiting(2, submit_time=NOW - 50),
        waiting(3, submit_time=NOW - 900, nice=2_000_000_000),
        kind="fcfs",
    )
    assert {action.job_id for action in queue.tick()} == {1, 2}
    assert sure_order(queue) == [2, 1, 3]
    found = standing(3, queue.snapshot(), queue.policy)
    assert found.words == "where its nice of 2000000000 puts it"


@pytest.mark.parametrize("flag", ["NO_NORMAL_TRES", "NO_NORMAL_ALL"])
def test_where_factors_are_not_normalised_the_spread_is_what_is_seen(flag):
    queue = Queue(waiting(1), waiting(2), settings={**WEIGHTS, "PriorityFlags": flag}, kind="fcfs")
    rows = tuple(row(job, tres=MappingProxyType({"mem": 400_000.0})) for job in queue.jobs)
    queue.fields["priorities"] = rows
    spread = base_spread(queue.snapshot())
    assert spread >= 800_000
    assert spread & (spread - 1) == 0
    queue.tick()
    assert queue.sites[1] - queue.sites[2] > spread


@pytest.mark.parametrize(
    ("flag", "column"),
    [
        ("NO_NORMAL_ASSOC", "association"),
        ("NO_NORMAL_PART", "partition_factor"),
        ("NO_NORMAL_QOS", "qos_factor"),
    ],
)
def test_each_factor_that_is_not_normalised_counts_as_it_is_seen(flag, column):
    queue = Queue(waiting(1), settings={**WEIGHTS, "PriorityFlags": flag}, kind="fcfs")
    queue.fields["priorities"] = (row(queue.jobs[0], **{column: 400_000.0}),)
    assert base_spread(queue.snapshot()) >= 800_000


def test_the_spread_of_normalised_factors_is_the_sum_of_the_weights():
    queue = Queue(waiting(1), kind="fcfs")
    assert MOST <= base_spread(queue.snapshot()) <= MOST + 50
    assert base_spread(make_snapshot(config=None, priorities=(row(waiting(1), 5000),))) >= 10_000


def test_where_slurms_sum_leaves_no_room_no_place_is_given():
    queue = Queue(waiting(1), settings={"PriorityWeightAge": "4294967295"}, kind="fcfs")
    queue.sites = {1: 5}
    (action,) = queue.tick()
    assert action.site_factor == 0
