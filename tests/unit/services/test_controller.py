"""The controller put together: who leads, who answers, and what the rules' order decides."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.errors import (
    ControllerUnavailable,
    RecordsUnavailable,
    SlurmUnavailable,
    SlurmUnreadable,
)
from slurm_gpu_policy.model.caller import Caller
from slurm_gpu_policy.model.cluster import ClusterConfig
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.services.controller import Controller
from slurm_gpu_policy.services.directory import Directory
from tests.builders import make_policy
from tests.fakes.clock import FakeClock
from tests.fakes.records import FakeRecords
from tests.fakes.slurm import FakeSlurm
from tests.unit.services.controlled import submitted

ROOT = Caller(0, "root")


class People:
    """Nobody coordinates anything."""

    def operators(self):
        return frozenset()

    def coordinators(self):
        return {}


class Heard:
    """Implements ObserverPort."""

    def __init__(self):
        self.reports = []
        self.problems = []

    def ticked(self, report):
        self.reports.append(report)

    def policy_loaded(self, now, problems):
        self.problems.append(problems)


class World:
    def __init__(self, **policy):
        self.clock = FakeClock()
        self.slurm = FakeSlurm(clock=self.clock, user="root")
        self.records = FakeRecords()
        self.heard = Heard()
        self.opened = []
        self.policy = make_policy(
            **({"enforcement": "enforce", "ordering": {"kind": "fcfs"}} | policy)
        )

    def controller(self, name="one", **more):
        def open_records(cluster):
            self.opened.append(cluster)
            return self.records

        return Controller(
            policy=self.policy,
            slurm=self.slurm,
            open_records=open_records,
            clock=self.clock,
            directory=Directory(People(), lambda _user: (), self.clock),
            observers=(self.heard,),
            actor="gpu-policyd@test",
            holder=name,
            **more,
        )


@pytest.fixture
def world():
    return World()


def test_the_records_are_those_of_the_cluster_that_slurm_names(world):
    controller = world.controller()
    assert controller.keep_lead()
    assert controller.keep_lead()
    assert world.opened == ["fake"]


def test_it_waits_for_slurm_and_for_the_database(world):
    controller = world.controller()
    world.slurm.unavailable()
    with pytest.raises(SlurmUnavailable):
        controller.keep_lead()
    world.records.fail_next()
    with pytest.raises(RecordsUnavailable):
        controller.keep_lead()
    assert controller.keep_lead()


def test_a_cluster_without_a_name_is_unreadable(world):
    world.slurm.config = ClusterConfig("", "22.05.8")
    with pytest.raises(SlurmUnreadable):
        world.controller().keep_lead()


def test_one_of_two_leads_and_the_other_follows_within_two_ticks(world):
    one, two = world.controller("one"), world.controller("two")
    assert (one.keep_lead(), two.keep_lead()) == (True, False)
    assert one.lease_seconds == 90
    waited = 0.0
    while not two.keep_lead():
        world.clock.advance(two.heartbeat_seconds)
        waited += two.heartbeat_seconds
    assert waited <= 2 * 60
    assert not one.keep_lead()


def test_one_that_resigns_is_followed_at_once(world):
    one, two = world.controller("one"), world.controller("two")
    one.keep_lead()
    two.keep_lead()
    one.resign()
    assert two.keep_lead()


def test_the_pace_may_be_given_beside_the_policy(world):
    controller = world.controller(tick_seconds=0.4)
    assert (controller.tick_seconds, controller.lease_seconds) == (0.4, pytest.approx(0.6))


def test_a_tick_orders_the_queue_and_the_observers_hear_of_it(world):
    jobs = [submitted(world.slurm, "wait") for _ in range(3)]
    controller = world.controller()
    controller.keep_lead()
    controller.run_tick()
    sites = {one.job_id: one.site for one in world.slurm.read(Part.PRIORITIES).priorities}
    assert sorted(jobs, key=lambda job: -sites[job]) == jobs
    assert [len(report.actions) for report in world.heard.reports] == [3]
    controller.run_tick()
    assert world.heard.reports[-1].actions == ()


def test_a_preview_needs_no_lead_and_changes_nothing(world):
    submitted(world.slurm, "wait")
    _, wanted = world.controller().preview()
    assert len(wanted.orders) == 1
    assert world.records.calls == []
    assert {call[0] for call in world.slurm.calls} <= {"submit", "read"}


def test_a_job_that_approvals_hold_is_not_also_ordered(world):
    world = World(
        approvals={"thresholds": [{"gpus": 1}], "approvers": {"users": ["boss"]}},
    )
    job = submitted(world.slurm, "wait", gres="gpu:h100:2")
    controller = world.controller()
    controller.keep_lead()
    controller.run_tick()
    assert world.slurm.records[job].is_held
    entries = [entry for entry in world.records.entries() if entry.outcome == "done"]
    assert "hold" in [entry.action.verb for entry in entries]
    for _ in range(3):
        controller.run_tick()
    before = len(world.records.entries())
    controller.run_tick()
    assert len(world.records.entries()) == before


def test_only_the_leader_answers_requests_and_anybody_tells_its_state(world):
    one, two = world.controller("one"), world.controller("two")
    with pytest.raises(ControllerUnavailable, match="nobody leads"):
        two.handle(ROOT, {"request": "audit"})
    one.keep_lead()
    two.keep_lead()
    assert one.handle(ROOT, {"request": "audit"}) == {"entries": []}
    with pytest.raises(ControllerUnavailable, match="one leads"):
        two.handle(ROOT, {"request": "audit"})
    assert (one.status()["leading"], two.status()["leading"]) == (True, False)
    assert two.status()["leader"] == "one"


def test_one_that_lost_its_lease_does_not_call_itself_the_leader(world):
    controller = world.controller()
    controller.keep_lead()
    world.clock.advance(91)
    controller.failed(0, 0.0, RecordsUnavailable("the disk is full"))
    assert (controller.status()["leading"], controller.status()["leader"]) == (False, "")
    with pytest.raises(
        ControllerUnavailable, match=r"nobody leads at the moment: the disk is full"
    ):
        controller.handle(ROOT, {"request": "audit"})


def test_a_wrong_policy_file_is_told_and_the_good_one_stays(world):
    controller = world.controller()
    controller.not_loaded(["policy.yaml:1: wrong"])
    assert controller.policy is world.policy
    assert controller.status()["policy_problems"] == ["policy.yaml:1: wrong"]
    other = make_policy()
    controller.loaded(other)
    assert controller.policy is other
    assert [bool(problems) for problems in world.heard.problems] == [True, False]


def test_what_was_known_as_a_leader_is_forgotten_with_the_lead(world):
    world.policy = make_policy(ordering={"kind": "fcfs"})
    submitted(world.slurm, "wait")
    one, two = world.controller("one"), world.controller("two")
    one.keep_lead()
    two.keep_lead()
    one.run_tick()
    one.resign()
    assert two.keep_lead()
    two.run_tick()
    two.resign()
    assert one.keep_lead()
    one.run_tick()
    assert [len(report.actions) for report in world.heard.reports] == [1, 0, 0]


class NobodyKnows:
    """slurmdbd has never answered."""

    def operators(self):
        raise SlurmUnavailable

    coordinators = operators


def test_what_needs_an_approval_is_held_also_while_nobody_can_say_who_may_approve():
    world = World(
        ordering=None,
        approvals={
            "thresholds": [{"gpus": 0}],
            "approvers": {"coordinators": True},
        },
    )
    controller = world.controller()
    controller._directory = Directory(NobodyKnows(), lambda _user: (), world.clock)
    waiting = submitted(world.slurm, "wait")
    assert controller.keep_lead()
    controller.run_tick()
    (job,) = world.slurm.jobs([str(waiting)])
    assert (job.priority, job.reason) == (0, "JobHeldAdmin")
