"""A cluster that lends idle GPUs keeps its promises, and comes to rest."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.tag import CONTROLLER, change_tag, read_tag
from slurm_gpu_policy.policy.guarantees import Guarantees
from slurm_gpu_policy.policy.over_quota import moves
from tests.builders import NOW, make_snapshot
from tests.quota import HOME, LENT, MIN_RUN, MINE, SETTLE, job, policy_for, tree


class Cluster:
    """One pool of GPUs; starts guaranteed jobs first, and preempts for them as Slurm does."""

    def __init__(self, gpus: int, policy: Any, associations: Any, default: str = MINE) -> None:
        self.gpus, self.policy, self.associations = gpus, policy, associations
        self.default = default
        self.now = NOW
        self.jobs: dict[int, Any] = {}
        self.left: dict[int, int] = {}
        self.preempted_after: list[int] = []
        self.waits: dict[int, int] = {}
        self.fits_since: dict[int, int] = {}
        self.moves: dict[int, list[int]] = {}

    def submit(self, number: int, account: str, gpus: int, seconds: int) -> None:
        self.jobs[number] = job(number, gpus, self.default, account=account, submit_time=self.now)
        self.left[number] = seconds

    def tick(self) -> int:
        snapshot = make_snapshot(
            time=self.now, jobs=tuple(self.jobs.values()), associations=self.associations
        )
        actions = moves(snapshot, self.policy)
        assert len({action.job_id for action in actions}) == len(actions)
        for action in actions:
            one = self.jobs[action.job_id]
            assert one.state.is_pending
            comment = change_tag(one.admin_comment, dict(action.mark))
            qos = dict(action.changes)["qos"]
            self.jobs[action.job_id] = replace(one, qos=qos, admin_comment=comment)
            if "moved" in dict(action.mark):
                self.moves.setdefault(int(action.job_id), []).append(self.now)
        return len(actions)

    def holding(self) -> list[Any]:
        return [one for one in self.jobs.values() if one.state.is_active]

    def free(self) -> int:
        return self.gpus - sum(one.gpus for one in self.holding())

    def run(self, seconds: int) -> None:
        """Let time pass, then start what can start."""
        self.now += seconds
        for one in self.holding():
            self.left[one.job_id] -= seconds
            if self.left[one.job_id] <= 0:
                del self.jobs[one.job_id]
        pending = [one for one in self.jobs.values() if one.state.is_pending]
        blocked = False
        for one in sorted(pending, key=lambda one: (one.qos != MINE, one.submit_time)):
            if one.qos == MINE:
                self._preempt_for(one)
            if one.gpus <= self.free() and (one.qos == MINE or not blocked):
                self.jobs[one.job_id] = replace(one, state=JobState.RUNNING, start_time=self.now)
                self.waits.pop(one.job_id, None)
            elif one.qos == MINE:
                blocked = True
                self.waits.setdefault(int(one.job_id), self.now)

    def _preempt_for(self, wanted: Any) -> None:
        victims = sorted(
            (
                one for one in self.holding()
                if one.qos == LENT and self.now - one.start_time >= MIN_RUN
            ),
            key=lambda one: -one.start_time,
        )  # fmt: skip
        if wanted.gpus > self.free() + sum(one.gpus for one in victims):
            return
        while wanted.gpus > self.free():
            victim = victims.pop(0)
            self.preempted_after.append(self.now - victim.start_time)
            self.jobs[victim.job_id] = replace(
                victim, state=JobState.PENDING, restarts=victim.restarts + 1
            )


STEP = 60


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(0, 8),
    st.integers(0, 8),
    st.integers(0, 6),
    st.sampled_from([MINE, LENT]),
)
def test_under_the_rule_a_busy_cluster_keeps_every_promise_and_comes_to_rest(
    seed, lab, nlp, other, default
):
    rng = random.Random(seed)  # noqa: S311
    policy = policy_for(lab=lab, nlp=nlp, other=other)
    associations = tree("lab", "other", nlp="lab", default_qos=default)
    promised = max(lab, nlp) + other
    cluster = Cluster(promised + rng.randint(0, 6), policy, associations, default)
    number, steps = 0, 300
    for _ in range(steps):
        if default == LENT:  # what comes now may start before it is looked at
            cluster.tick()
        while rng.random() < 0.3 and len(cluster.jobs) < 40:
            number += 1
            account = rng.choice(["lab", "nlp", "other"])
            cluster.submit(number, account, rng.randint(1, 4), rng.randint(1, 120) * STEP)
        if default == MINE:
            cluster.tick()
        cluster.run(STEP)
        _promises_are_kept(cluster)
    assert all(ran >= MIN_RUN for ran in cluster.preempted_after)
    assert len(cluster.preempted_after) <= cluster.gpus * steps * STEP / MIN_RUN
    for times in cluster.moves.values():
        assert all(b - a >= SETTLE for a, b in itertools.pairwise(times))
    # A constant queue: nobody comes, starts or ends.
    count = len(cluster.jobs)
    moves_made = []
    for _ in range(3 * SETTLE // STEP):
        cluster.now += STEP
        moves_made.append(cluster.tick())
    assert sum(moves_made) <= 2 * count
    assert not any(moves_made[2 * SETTLE // STEP + 1 :])


def _promises_are_kept(cluster):
    """Guaranteed jobs start in bounded time, and what fits a guarantee is soon guaranteed."""
    for since in cluster.waits.values():
        assert cluster.now - since <= MIN_RUN + 2 * STEP
    guarantees = Guarantees(cluster.policy, cluster.associations)
    for one in cluster.jobs.values():
        if one.qos == MINE or one.state.is_active:
            guarantees.take(one.account, one.gpus)
    fitting = {
        int(one.job_id)
        for one in cluster.jobs.values()
        if one.state.is_pending and one.qos == LENT and guarantees.room_for(one.account, one.gpus)
    }
    cluster.fits_since = {
        number: since for number, since in cluster.fits_since.items() if number in fitting
    }
    for number in fitting:
        since = cluster.fits_since.setdefault(number, cluster.now)
        assert cluster.now - since <= SETTLE + STEP
    for one in cluster.jobs.values():
        facts = read_tag(one.admin_comment, CONTROLLER)
        assert one.qos in {MINE, cluster.default} or "home" in facts


def test_a_burst_of_one_account_yields_to_the_other_and_comes_back():
    cluster = Cluster(8, policy_for(nlp=4, other=4), tree("nlp", "other"))
    for number in range(1, 9):
        cluster.submit(number, "nlp", 1, 10**6)
    cluster.tick()
    cluster.run(STEP)
    assert cluster.free() == 0
    assert sum(one.qos == LENT for one in cluster.holding()) == 4
    for number in range(11, 15):
        cluster.submit(number, "other", 1, 4 * 3600)
    for _ in range(MIN_RUN // STEP + 2):
        cluster.tick()
        cluster.run(STEP)
    assert sum(one.account == "other" for one in cluster.holding()) == 4
    assert cluster.preempted_after == [MIN_RUN] * 4
    for _ in range(5 * 3600 // STEP):
        cluster.tick()
        cluster.run(STEP)
    assert len(cluster.holding()) == 8
    assert len(cluster.preempted_after) == 4


def test_an_account_that_holds_its_guarantee_does_not_preempt_itself():
    cluster = Cluster(8, policy_for(nlp=4, other=4), tree("nlp", "other", default_qos=LENT), LENT)
    for number in range(1, 13):
        cluster.submit(number, "nlp", 1, 10**6)
    cluster.run(STEP)  # before anybody looks, eight run over quota
    for _ in range(2 * MIN_RUN // STEP):
        cluster.tick()
        cluster.run(STEP)
    assert cluster.preempted_after == []
    for number in range(21, 25):
        cluster.submit(number, "other", 1, 10**6)
    for _ in range(2 * MIN_RUN // STEP):
        cluster.tick()
        cluster.run(STEP)
    assert len(cluster.preempted_after) == 4
    assert sum(one.account == "other" for one in cluster.holding()) == 4


ACCOUNTS = ("lab", "nlp", "deep", "vision", "other")
MARKS = ("", HOME, f"gpu-policy(home=normal;moved={NOW - 60})")


def odd_queue(rng, default):
    """Jobs, arrays whose owner changed some of their tasks, and groups on several accounts."""
    jobs: list[Any] = []

    def some(number, account, **fields):
        if rng.random() < 0.15:
            fields["reason"] = "Dependency"
        qos, mark = rng.choice([MINE, LENT, default, "high"]), rng.choice(MARKS)
        return job(number, rng.randint(0, 5), qos, account=account, admin_comment=mark, **fields)

    for first in range(10, 10 * rng.randint(2, 12), 10):
        account, kind = rng.choice(ACCOUNTS), rng.random()
        if kind < 0.5:
            state = rng.choice([JobState.PENDING, JobState.PENDING, JobState.RUNNING])
            jobs.append(replace(some(first, account), state=state))
        elif kind < 0.75:
            rest = f"3-{rng.randint(3, 9)}" + rng.choice(["", "%1", "%2", "%5"])
            for task, number in ((rest, first), ("0", first + 1), ("1", first + 2)):
                on = rng.choice([account, account, rng.choice(ACCOUNTS)])
                jobs.append(some(number, on, array_job_id=first, array_task=task))
        else:
            jobs += [
                job(number, rng.randint(0, 4), rng.choice([MINE, LENT, default, "high"]),
                    account=rng.choice(ACCOUNTS), het_job_id=first)
                for number in range(first, first + rng.randint(1, 3))
            ]  # fmt: skip
    return jobs


def move_all(jobs, actions):
    """Return *jobs* after *actions*; a group's parts go together."""
    by_id = {action.job_id: action for action in actions}
    by_id |= {
        one.het_job_id: by_id[one.job_id] for one in jobs if one.het_job_id and one.job_id in by_id
    }
    done = []
    for one in jobs:
        action = by_id.get(one.het_job_id or one.job_id)
        if action is not None:
            mark = change_tag(one.admin_comment, dict(action.mark))
            one = replace(one, qos=dict(action.changes)["qos"], admin_comment=mark)  # noqa: PLW2901
        done.append(one)
    return done


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32),
    st.dictionaries(st.sampled_from(["lab", "nlp", "deep", "other"]), st.integers(0, 10)),
    st.sampled_from([MINE, LENT, "normal"]),
)
def test_whatever_waits_comes_to_rest_and_what_is_guaranteed_fits(seed, guaranteed, default):
    policy = policy_for(**guaranteed)
    tree_ = tree("lab", "other", nlp="lab", vision="lab", deep="nlp", default_qos=default)
    jobs = odd_queue(random.Random(seed), default)  # noqa: S311
    last: dict[int, int] = {}
    for now in range(NOW, NOW + 4 * SETTLE, STEP):
        actions = moves(make_snapshot(time=now, jobs=tuple(jobs), associations=tree_), policy)
        assert not actions or now <= NOW + 2 * SETTLE + STEP
        for action in actions:
            if dict(action.mark).get("moved"):
                assert now - last.get(action.job_id, 0) >= SETTLE
                last[action.job_id] = now
        jobs = move_all(jobs, actions)
    guarantees = Guarantees(policy, tree_)
    plain = [one for one in jobs if one.gpus and not one.het_job_id and not one.array_job_id]
    for one in plain:
        if one.state.is_pending and one.qos == MINE and guarantees.way(one.account):
            assert guarantees.room_for(one.account, one.gpus)
            guarantees.take(one.account, one.gpus)
    groups: dict[int, list[Any]] = {}
    for one in jobs:
        if one.het_job_id:
            groups.setdefault(one.het_job_id, []).append(one)
    for parts in groups.values():
        payers = {one.account for one in parts if one.gpus}
        if len(payers) > 1 and any(map(guarantees.way, payers)):
            assert all(one.qos != MINE for one in parts)
