"""Charging, from the queue and the accounting to entries."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from slurm_gpu_policy.errors import RecordsUnavailable
from slurm_gpu_policy.model.job import AccountingRecord, JobState
from slurm_gpu_policy.model.ledger import Claim
from slurm_gpu_policy.model.prices import Cost, Use
from slurm_gpu_policy.policy.ledger.budget import Funds
from slurm_gpu_policy.services.ledger.charge import Charging
from slurm_gpu_policy.units import MICRO
from tests.builders import make_association, make_job, make_policy, make_snapshot
from tests.fakes.books import FakeLedger
from tests.fakes.clock import FakeClock
from tests.unit.services.slurm_of_runs import FakeAccounting

NOW = 1_800_000_000  # 2027-01-15T08:00:00Z
JANUARY = 1_798_761_600
FEBRUARY = 1_801_440_000
HOUR = 3600
GPU = MappingProxyType({"cpu": 8, "mem": 1000, "gres/gpu": 1, "gres/gpu:h100": 1})


def make_run(number=1, **fields):
    defaults = {
        "display_id": str(number),
        "user": "u1",
        "account": "nlp",
        "partition": "gpu",
        "qos": "normal",
        "name": "job",
        "state": JobState.COMPLETED,
        "submit_time": NOW,
        "eligible_time": NOW,
        "start_time": NOW,
        "end_time": NOW + HOUR,
        "suspended_seconds": 0,
        "time_limit_seconds": 2 * HOUR,
        "exit_code": 0,
        "exit_signal": 0,
        "node_list": "gpu01",
        "allocated_tres": GPU,
    }
    fields = {**defaults, **fields}
    if "elapsed_seconds" not in fields:
        end = fields["end_time"]
        fields["elapsed_seconds"] = end - fields["start_time"] if end else 0
    return AccountingRecord(job_id=number, **fields)


def waiting_job(number=1, **fields):
    defaults = {"state": JobState.PENDING, "start_time": None, "node_list": "", "tres": GPU}
    return make_job(number, **{**defaults, "time_limit_seconds": 2 * HOUR, **fields})


def running_job(number=1, **fields):
    return make_job(number, **{"time_limit_seconds": 2 * HOUR, "tres": GPU, **fields})


PRICES = {"gpu_types": {"h100": {"price_per_hour": "2"}}, "currency": "EUR"}
ASSOCIATIONS = (
    make_association("root", "", parent=""),
    make_association("science", "", parent="root"),
    make_association("nlp", "", parent="science"),
    make_association("nlp", "u1"),
    make_association("nlp", "u2"),
)


class World:
    """A ledger, an accounting, a clock, and charging over them."""

    def __init__(self, **policy) -> None:
        self.ledger = FakeLedger()
        self.slurm = FakeAccounting()
        self.clock = FakeClock(NOW)
        self.policy = make_policy(**{**PRICES, "pricing": {}, **policy})
        self.charging = Charging(self.ledger, self.slurm, self.clock, "policyd")

    def tick(self, *jobs, at=None):
        if at is not None:
            self.clock.seconds = float(at)
        snapshot = make_snapshot(time=self.clock.now(), jobs=jobs, associations=ASSOCIATIONS)
        state = self.charging.run(snapshot, self.policy)
        assert self.ledger.problems() == ()
        return state

    def restart(self, **policy):
        if policy:
            self.policy = make_policy(**{**PRICES, "pricing": {}, **policy})
        self.charging = Charging(self.ledger, self.slurm, self.clock, "policyd")

    def entries(self, *kinds):
        with self.ledger.reading() as books:
            return [
                entry
                for entry in books.entries(kinds=kinds or None)
                if self.fund(entry.posting.fund_id).budget
            ]

    def fund(self, fund_id):
        with self.ledger.reading() as books:
            return next(fund for fund in books.funds() if fund.fund_id == fund_id)

    def funds(self, budget):
        with self.ledger.reading() as books:
            return [fund for fund in books.funds() if fund.budget == budget]

    def claims(self):
        with self.ledger.reading() as books:
            return list(books.claims_between(0, 2**40)) + [
                claim for claim in books.open_claims() if claim.start_time is None
            ]


BUDGET = {"budgets": {"nlp": {"amount": "100"}}}


def test_a_budget_becomes_a_fund_of_its_period_and_is_granted_once():
    world = World(**BUDGET)
    world.tick()
    world.restart()
    world.tick(at=NOW + 60)
    (fund,) = world.funds("nlp")
    assert (fund.start, fund.end) == (JANUARY, FEBRUARY)
    assert fund.available == 100 * MICRO


def test_a_project_that_is_over_has_nothing_left_and_carries_nothing_on():
    dates = {"amount": "100", "period": "month", "roll_over": 100, "end": "2027-02-01"}
    world = World(budgets={"nlp": dates})
    world.tick()
    state = world.tick(waiting_job(submit_time=FEBRUARY + 60), at=FEBRUARY + 7200)
    world.tick(at=FEBRUARY + 7260)
    first, after = world.funds("nlp")
    assert (first.closed, first.available) == (True, 0)
    assert (after.start, after.end, after.available, after.closed) == (FEBRUARY, None, 0, False)
    assert list(state.uncovered) == [1]


def test_a_requeued_job_is_not_uncovered_by_its_own_last_run():
    """The budget has room for one run; the accounting of the first comes in the same tick."""
    world = World(budgets={"nlp": {"amount": "4"}})
    world.tick(running_job(submit_time=NOW, start_time=NOW))
    ended = make_run(state=JobState.REQUEUED, end_time=NOW, elapsed_seconds=0)
    world.slurm.runs[1] = ended
    state = world.tick(waiting_job(submit_time=NOW + 60, restarts=1), at=NOW + 61)
    assert not state.uncovered


def test_what_a_period_carries_over_covers_jobs_in_the_first_tick_of_the_next():
    world = World(budgets={"nlp": {"amount": "3", "roll_over": 100}})
    world.tick()
    state = world.tick(waiting_job(submit_time=FEBRUARY + 60), at=FEBRUARY + 7200)
    assert not state.uncovered


def test_a_pending_job_has_its_whole_time_limit_set_aside():
    world = World(**BUDGET)
    state = world.tick(waiting_job())
    (fund,) = world.funds("nlp")
    assert (fund.available, fund.reserved, fund.spent) == (96 * MICRO, 4 * MICRO, 0)
    assert state.views[-1].committed == 4 * MICRO
    assert not state.uncovered


def test_waiting_alone_makes_no_entries():
    world = World(**BUDGET)
    world.tick(waiting_job())
    before = world.entries()
    world.tick(waiting_job(), at=NOW + 5000)
    assert world.entries() == before


def test_a_run_that_ended_is_charged_and_the_rest_released():
    world = World(**BUDGET)
    world.tick(waiting_job())
    world.tick(running_job(elapsed_seconds=60), at=NOW + 60)
    (fund,) = world.funds("nlp")
    assert (fund.reserved, fund.spent) == (4 * MICRO, 0)
    world.slurm.runs[1] = make_run()
    world.tick(at=NOW + HOUR + 10)
    (fund,) = world.funds("nlp")
    assert (fund.available, fund.reserved, fund.spent) == (98 * MICRO, 0, 2 * MICRO)
    (charge,) = world.entries("charge")
    assert (charge.posting.rule, charge.posting.gpu_seconds) == ("C-410", HOUR)
    assert (charge.job_id, charge.submit_time) == (1, NOW)


def test_reading_the_accounting_again_charges_nothing_again():
    world = World(**BUDGET)
    world.slurm.runs[1] = make_run()
    for minute in range(5):
        world.restart()
        world.tick(at=NOW + HOUR + 60 * minute)
    assert len(world.entries("charge")) == 1


def test_what_no_budget_covers_is_said_and_nothing_set_aside():
    world = World(budgets={"nlp": {"amount": "5"}})
    state = world.tick(waiting_job(1), waiting_job(2, submit_time=NOW + 1))
    assert list(state.uncovered) == [2]
    assert "account nlp has 1.00 EUR left" in state.uncovered[2]
    (fund,) = world.funds("nlp")
    assert fund.reserved == 4 * MICRO


def test_a_job_that_starts_is_set_aside_for_whether_it_is_there_or_not():
    world = World(budgets={"nlp": {"amount": "1"}})
    world.tick(running_job())
    (fund,) = world.funds("nlp")
    assert (fund.available, fund.reserved) == (-3 * MICRO, 4 * MICRO)


# --- what ended ----------------------------------------------------------------------------------


def balances(world, budget="nlp"):
    fund = world.funds(budget)[-1]
    return fund.available, fund.reserved, fund.spent


def test_a_run_nobody_saw_in_the_queue_is_charged():
    world = World(**BUDGET)
    world.tick()
    world.slurm.runs[1] = make_run(end_time=NOW + 1)
    world.tick(at=NOW + 60)
    assert balances(world)[2] == 556  # 2 an hour for a second, rounded up


def test_a_job_cancelled_while_it_waited_costs_nothing():
    world = World(**BUDGET)
    world.tick(waiting_job())
    world.slurm.runs[1] = make_run(
        start_time=None,
        end_time=NOW + 5,
        elapsed_seconds=0,
        allocated_tres={},
        node_list="",
        state=JobState.CANCELLED,
    )
    world.tick(at=NOW + 60)
    assert balances(world) == (100 * MICRO, 0, 0)
    assert [entry.posting.rule for entry in world.entries("release")] == ["C-409"]
    with world.ledger.reading() as books:
        assert books.open_claims() == ()


def test_the_queue_alone_may_tell_that_a_job_was_cancelled_before_it_ran():
    world = World(**BUDGET)
    world.tick(waiting_job())
    world.slurm.failing = True
    world.tick(waiting_job(state=JobState.CANCELLED, end_time=NOW + 9), at=NOW + 60)
    assert balances(world) == (100 * MICRO, 0, 0)


def test_a_job_that_both_have_forgotten_is_released_after_a_while():
    world = World(**BUDGET)
    world.tick(waiting_job())
    world.tick(at=NOW + 60)
    assert balances(world)[1] == 4 * MICRO
    world.tick(at=NOW + 60 + HOUR)
    assert balances(world) == (100 * MICRO, 0, 0)


def test_a_run_of_no_time_at_all_is_settled_for_nothing():
    world = World(**BUDGET, pricing={"minimum_charge": "1"})
    world.slurm.runs[1] = make_run(end_time=NOW, state=JobState.FAILED)
    world.tick(at=NOW + 60)
    (claim,) = world.claims()
    assert claim.settled
    assert balances(world)[2] == 0


def test_a_run_costs_the_minimum_at_least():
    world = World(**BUDGET, pricing={"minimum_charge": "1"})
    world.slurm.runs[1] = make_run(end_time=NOW + 1)
    world.tick(at=NOW + 60)
    assert balances(world)[2] == MICRO


@pytest.mark.parametrize(
    ("state", "percent", "rule"),
    [(JobState.NODE_FAIL, 100, "C-406"), (JobState.PREEMPTED, 25, "C-407")],
)
def test_what_slurm_took_away_is_charged_and_given_back(state, percent, rule):
    world = World(**BUDGET, pricing={"refunds": {"preemption": 25}})
    world.slurm.runs[1] = make_run(state=state)
    world.tick(at=NOW + HOUR + 60)
    (claim,) = world.claims()
    assert all(leg.refunded == leg.charged * percent // 100 for leg in claim.legs)
    assert balances(world)[2] == 2 * MICRO * (100 - percent) // 100
    (refund,) = world.entries("refund")
    assert refund.posting.rule == rule


def test_a_node_failure_stays_one_when_slurm_calls_the_run_requeued():
    world = World(**BUDGET)
    world.slurm.runs[1] = make_run(state=JobState.NODE_FAIL)
    world.tick(at=NOW + HOUR + 60)
    world.slurm.runs[1] = make_run(state=JobState.REQUEUED, end_time=NOW + HOUR + 6)
    world.tick(at=NOW + HOUR + 120)
    (claim,) = world.claims()
    assert claim.end_state == "NODE_FAIL"
    assert claim.seconds == HOUR + 6
    assert balances(world)[2] == 0


def test_a_refund_is_taken_back_where_the_accounting_says_otherwise_later():
    world = World(**BUDGET)
    world.slurm.runs[1] = make_run(state=JobState.NODE_FAIL)
    world.tick(at=NOW + HOUR + 60)
    world.slurm.runs[1] = make_run(state=JobState.COMPLETED)
    world.tick(at=NOW + HOUR + 120)
    assert balances(world)[2] == 2 * MICRO


@pytest.mark.parametrize("seconds", [1800, 5400])
def test_a_correction_of_the_accounting_is_entered_as_the_difference(seconds):
    world = World(**BUDGET)
    world.slurm.runs[1] = make_run()
    world.tick(at=NOW + HOUR + 60)
    world.slurm.runs[1] = make_run(end_time=NOW + seconds)
    world.tick(at=NOW + 2 * HOUR)
    assert balances(world)[2] == 2 * MICRO * seconds // HOUR
    kind = "charge" if seconds > HOUR else "refund"
    assert world.entries(kind)[-1].posting.rule == "B-011"


def test_idle_gpu_time_costs_its_surcharge_once_somebody_tells_of_it():
    world = World(**BUDGET, pricing={"idle_surcharge": 50})
    world.slurm.runs[1] = make_run()
    world.clock.seconds = float(NOW + HOUR + 60)
    snapshot = make_snapshot(time=NOW + HOUR + 60, associations=ASSOCIATIONS)
    world.charging.run(snapshot, world.policy, idle={(1, NOW): HOUR // 2})
    assert balances(world)[2] == 2_500_000
    assert [entry.posting.rule for entry in world.entries("charge")] == ["C-408", "C-410"]


def test_a_settled_run_that_slurm_gives_to_the_next_one_is_open_again():
    world = World(**BUDGET)
    world.slurm.runs[1] = make_run(state=JobState.REQUEUED, end_time=NOW + 4)
    world.tick(at=NOW + 60)
    world.slurm.runs[1] = make_run(start_time=NOW + 9, end_time=None, state=JobState.RUNNING)
    world.tick(at=NOW + 70)
    world.slurm.runs[1] = make_run(start_time=NOW + 9, end_time=NOW + 1809)
    world.tick(at=NOW + 2000)
    assert balances(world) == (99 * MICRO, 0, MICRO)


# --- the queue -----------------------------------------------------------------------------------


def test_a_promise_becomes_its_jobs_claim_and_is_not_set_aside_twice():
    world = World(**BUDGET)
    world.tick()
    promise(world, "t1")
    job = waiting_job(comment="gpu-submit(token=t1)")
    before = len(world.entries())
    world.tick(job)
    assert len(world.entries()) == before
    with world.ledger.reading() as books:
        (claim,) = books.open_claims()
    assert (claim.state, claim.job_id, claim.token) == ("pending", 1, "t1")


@pytest.mark.parametrize("fields", [{"user": "u2"}, {"account": "science"}])
def test_a_mark_copied_from_another_job_takes_nobodys_promise(fields):
    world = World(**BUDGET)
    world.tick()
    promise(world, "t1")
    world.tick(waiting_job(comment="gpu-submit(token=t1)", **fields))
    with world.ledger.reading() as books:
        assert [claim.state for claim in books.open_claims()] == ["promised", "pending"]


def test_a_promise_without_a_job_lapses():
    world = World(**BUDGET)
    world.tick()
    promise(world, "t1")
    world.tick(at=NOW + 600)
    assert balances(world)[1] == 4 * MICRO
    world.tick(at=NOW + 601)
    assert balances(world) == (100 * MICRO, 0, 0)


def test_the_promise_to_a_job_that_came_and_went_between_two_ticks_is_its_own():
    world = World(**BUDGET)
    world.tick()
    promise(world, "t1")
    world.slurm.runs[1] = make_run(end_time=NOW + 1800, comment="gpu-submit(token=t1)")
    world.tick(at=NOW + 500)
    assert balances(world) == (99 * MICRO, 0, MICRO)


def test_an_array_has_all_its_waiting_tasks_set_aside_and_each_that_starts_its_own():
    world = World(**BUDGET)
    rest = waiting_job(7, array_job_id=7, array_task="1-10")
    world.tick(rest)
    assert balances(world)[1] == 40 * MICRO
    tasks = [running_job(8 + n, array_job_id=7, array_task=str(n)) for n in range(3)]
    world.tick(replace(rest, array_task="4-10"), *tasks, at=NOW + 60)
    assert balances(world)[1] == 40 * MICRO
    with world.ledger.reading() as books:
        assert sorted((claim.job_id, claim.tasks) for claim in books.open_claims()) == [
            (7, 7), (8, 1), (9, 1), (10, 1),
        ]  # fmt: skip


def test_a_job_moved_to_another_account_takes_its_reservation_along():
    world = World(budgets={"nlp": {"amount": "100"}, "science": {"amount": "50"}})
    world.tick(waiting_job())
    assert balances(world, "nlp")[1] == 4 * MICRO
    world.tick(waiting_job(account="science"), at=NOW + 60)
    assert balances(world, "nlp") == (100 * MICRO, 0, 0)
    assert balances(world, "science")[1] == 4 * MICRO


def test_a_run_is_charged_to_the_account_that_the_accounting_has():
    world = World(budgets={"nlp": {"amount": "100"}, "science": {"amount": "50"}})
    world.tick(running_job())
    world.slurm.runs[1] = make_run(account="science")
    world.tick(at=NOW + HOUR + 60)
    assert balances(world, "nlp") == (100 * MICRO, 0, 0)
    assert balances(world, "science") == (48 * MICRO, 0, 2 * MICRO)


def test_all_levels_or_none_have_something_set_aside():
    world = World(budgets={"nlp": {"amount": "100"}, "science": {"amount": "3"}})
    state = world.tick(waiting_job())
    assert "account science" in state.uncovered[1]
    assert balances(world, "nlp")[1] == 0


def test_a_job_without_any_budget_on_its_line_is_covered_and_charged_to_the_cluster():
    world = World()
    assert not world.tick(waiting_job()).uncovered
    world.slurm.runs[1] = make_run()
    world.tick(at=NOW + HOUR + 60)
    (fund,) = world.funds("")
    assert fund.spent == 2 * MICRO


def test_a_job_without_a_time_limit_has_its_next_hour_set_aside():
    world = World(**BUDGET)
    world.tick(running_job(time_limit_seconds=None))
    assert balances(world)[1] == 2 * MICRO
    job = running_job(time_limit_seconds=None, elapsed_seconds=HOUR + 1)
    world.tick(job, at=NOW + HOUR + 1)
    assert balances(world)[1] == 6 * MICRO


def test_a_requeued_job_that_still_shows_its_ended_runs_submit_time_reserves_nothing():
    world = World(**BUDGET)
    world.tick(running_job())
    world.slurm.runs[1] = make_run(state=JobState.NODE_FAIL, end_time=NOW + 600)
    requeued = waiting_job(restarts=1)
    world.tick(requeued, at=NOW + 610)
    world.tick(requeued, at=NOW + 620)
    assert balances(world) == (100 * MICRO, 0, 0)
    world.tick(replace(requeued, submit_time=NOW + 600), at=NOW + 630)
    assert balances(world)[1] == 4 * MICRO


def test_a_resized_job_goes_on_in_a_claim_of_its_own():
    world = World(**BUDGET)
    world.tick(running_job())
    later = {"submit_time": NOW + 600, "start_time": NOW + 600}
    world.slurm.runs = {
        1: make_run(state=JobState.RESIZING, end_time=NOW + 600),
        2: replace(make_run(1, state=JobState.RUNNING, end_time=None, **later)),
    }
    job = running_job(elapsed_seconds=1200)
    world.tick(job, at=NOW + 1200)
    world.tick(job, at=NOW + 1210)
    with world.ledger.reading() as books:
        (claim,) = books.open_claims()
    assert (claim.submit_time, claim.start_time, claim.seconds) == (NOW + 600, NOW + 600, 600)
    assert balances(world)[1] == 4 * MICRO - 4 * MICRO * 600 // (2 * HOUR)
    world.slurm.runs[2] = make_run(1, end_time=NOW + HOUR, **later)
    world.tick(at=NOW + HOUR + 60)
    assert world.funds("")[0].spent - 2 * MICRO in {0, 1}  # two runs, each rounded up


def test_a_job_id_used_again_is_another_job():
    world = World(**BUDGET)
    world.slurm.runs[1] = make_run()
    world.tick(at=NOW + HOUR + 60)
    world.slurm.runs[2] = replace(
        make_run(1, start_time=NOW + 2 * HOUR, end_time=NOW + 3 * HOUR, submit_time=NOW + 2 * HOUR)
    )
    world.tick(at=NOW + 3 * HOUR + 60)
    assert balances(world)[2] == 4 * MICRO


# --- the accounting ------------------------------------------------------------------------------


def mark(world):
    with world.ledger.reading() as books:
        return books.mark("accounting")


def test_the_queues_part_is_done_while_the_accounting_is_away():
    world = World(**BUDGET)
    world.tick()
    world.slurm.failing = True
    state = world.tick(waiting_job(), at=NOW + 60)
    assert "the accounting cannot be read" in state.problems[0]
    assert balances(world)[1] == 4 * MICRO
    assert mark(world) == NOW


def test_the_mark_stays_where_runs_ended_while_slurmctld_has_messages_left():
    world = World(**BUDGET)
    world.tick()
    world.slurm.backlog = 5
    world.slurm.runs[1] = make_run(end_time=NOW + 60)
    world.tick(at=NOW + 9000)
    assert mark(world) == NOW + 60
    world.slurm.runs[2] = make_run(2, end_time=NOW + 90)
    world.slurm.backlog = 0
    world.tick(at=NOW + 9030)
    assert mark(world) == NOW + 9030
    assert len(world.entries("charge")) == 2


def test_new_books_begin_with_the_present_month():
    world = World(**BUDGET)
    world.slurm.runs[1] = make_run(start_time=JANUARY + 5, end_time=JANUARY + 5 + HOUR)
    world.slurm.runs[2] = make_run(2, start_time=JANUARY - 9000, end_time=JANUARY - 5000)
    world.tick()
    assert [claim.job_id for claim in world.claims()] == [1]
    assert mark(world) == NOW


def test_a_run_that_the_queue_forgot_and_the_accounting_never_ended_is_told_of_after_a_day():
    world = World(**BUDGET)
    world.tick(running_job())
    world.slurm.runs[1] = make_run(state=JobState.RUNNING, end_time=None)
    assert not world.tick(at=NOW + 60).problems
    (problem,) = world.tick(at=NOW + 60 + 86_400).problems
    assert "runawayjobs" in problem
    assert balances(world)[1] == 4 * MICRO


def test_new_books_do_not_reach_back_to_where_a_job_that_runs_began():
    world = World(**BUDGET)
    world.slurm.runs[2] = make_run(2, start_time=JANUARY - 9000, end_time=JANUARY - 5000)
    start = JANUARY - 86_400
    world.tick(running_job(start_time=start, elapsed_seconds=NOW - start, time_limit_seconds=None))
    assert [claim.job_id for claim in world.claims()] == [1]
    january, december = world.funds("")
    assert (december.start, december.spent) == (JANUARY - 31 * 86_400, 48 * MICRO)
    assert january.spent == 0


# --- periods -------------------------------------------------------------------------------------


def test_a_run_across_a_periods_end_is_charged_to_both_by_the_second():
    world = World(**BUDGET)
    world.tick(at=FEBRUARY - 7200)
    start = FEBRUARY - 1800
    job = running_job(submit_time=start, start_time=start, elapsed_seconds=1200)
    world.tick(job, at=FEBRUARY - 600)
    world.tick(replace(job, elapsed_seconds=1860), at=FEBRUARY + 60)
    old, new = world.funds("nlp")
    assert (old.spent, old.reserved, old.closed) == (MICRO, 0, True)
    assert (new.spent, new.reserved) == (0, 3 * MICRO)
    world.slurm.runs[1] = make_run(submit_time=start, start_time=start, end_time=start + HOUR)
    world.tick(at=FEBRUARY + 2000)
    old, new = world.funds("nlp")
    assert (old.spent, new.spent, new.reserved) == (MICRO, MICRO, 0)
    assert [fund.spent for fund in world.funds("")] == [MICRO, MICRO]


def test_what_is_left_goes_on_as_far_as_the_budget_says_and_the_rest_expires():
    world = World(budgets={"nlp": {"amount": "100", "roll_over": 30}})
    world.tick()
    world.tick(at=FEBRUARY + 60)
    world.tick(at=FEBRUARY + 120)
    old, new = world.funds("nlp")
    assert (old.available, old.closed) == (0, True)
    assert new.available == 130 * MICRO
    assert {entry.posting.rule for entry in world.entries("expire")} == {"B-005"}


def test_an_end_that_comes_to_be_known_late_leaves_a_closed_fund_as_it_was():
    world = World(**BUDGET)
    world.tick()
    world.tick(at=FEBRUARY + 60)
    world.slurm.runs[1] = make_run(start_time=FEBRUARY - HOUR, end_time=FEBRUARY)
    world.tick(at=FEBRUARY + 120)
    old, new = world.funds("nlp")
    assert (old.available, old.spent) == (0, 2 * MICRO)
    assert new.available == 100 * MICRO


def test_what_is_set_aside_for_a_run_that_nobody_knows_the_end_of_moves_on_too():
    world = World(**BUDGET)
    world.tick(running_job())
    world.tick(at=FEBRUARY + 60)
    old, new = world.funds("nlp")
    assert (old.reserved, old.closed, new.reserved) == (0, False, 4 * MICRO)
    world.tick(at=FEBRUARY + 86_400)
    assert world.funds("nlp")[0].closed


def test_months_in_which_no_controller_ran_have_their_funds_too():
    world = World(**BUDGET)
    world.tick()
    world.tick(at=FEBRUARY + 40 * 86_400)
    starts = [fund.start for fund in world.funds("nlp")]
    assert len(starts) == 3
    assert [fund.end for fund in world.funds("nlp")][:2] == starts[1:]


def test_a_changed_amount_is_adjusted_by_the_difference():
    world = World(**BUDGET)
    world.tick()
    world.restart(budgets={"nlp": {"amount": "80"}})
    world.tick(at=NOW + 60)
    world.tick(at=NOW + 120)
    assert balances(world)[0] == 80 * MICRO
    (adjusted,) = world.entries("adjust")
    assert adjusted.posting.amount == 20 * MICRO


def test_a_budget_that_comes_later_is_not_charged_for_what_was_settled_without_it():
    world = World()
    world.slurm.runs[1] = make_run()
    world.tick(at=NOW + HOUR + 60)
    world.restart(**BUDGET)
    world.tick(at=NOW + HOUR + 120)
    (fund,) = world.funds("nlp")
    assert (fund.start, fund.end, fund.spent) == (NOW + HOUR + 60, FEBRUARY, 0)


def test_a_budget_by_the_hour_takes_the_place_of_one_in_money():
    world = World(**BUDGET)
    world.tick()
    world.restart(budgets={"nlp": {"gpu_hours": 10}})
    world.tick(waiting_job(), at=NOW + 60)
    old, new = world.funds("nlp")
    assert (old.end, new.start, new.unit) == (NOW + 60, NOW + 60, "gpu_seconds")
    assert new.reserved == 2 * HOUR


def test_a_price_change_counts_from_when_it_was_read():
    world = World(**BUDGET)
    world.tick(running_job(time_limit_seconds=HOUR))
    world.restart(gpu_types={"h100": {"price_per_hour": "4"}}, **BUDGET)
    world.tick(running_job(time_limit_seconds=HOUR, elapsed_seconds=1800), at=NOW + 1800)
    world.slurm.runs[1] = make_run()
    world.tick(at=NOW + HOUR + 60)
    assert balances(world)[2] == 3 * MICRO


# --- what is told --------------------------------------------------------------------------------


def test_a_level_is_overspent_by_what_ran_and_runs_beyond_its_funds():
    world = World(budgets={"nlp": {"amount": "1", "overdraft": "0.5"}})
    assert not world.tick(running_job(elapsed_seconds=2700), at=NOW + 2700).overspent
    state = world.tick(running_job(elapsed_seconds=HOUR), at=NOW + HOUR)
    assert state.overspent == {("nlp", ""): MICRO // 2}


def test_the_qos_for_idle_gpus_needs_no_budget_and_its_runs_are_charged_at_its_factor():
    world = World(
        **{**PRICES, "budgets": {"nlp": {"gpu_hours": 1}}},
        submission={"over_budget_qos": "idle"},
        pricing={"qos": {"idle": "0"}},
    )
    state = world.tick(waiting_job(1, qos="idle"), running_job(2, qos="idle"))
    assert not state.uncovered
    assert balances(world)[1] == 0
    world.slurm.runs[2] = make_run(2, qos="idle")
    world.tick(at=NOW + HOUR + 60)
    assert balances(world) == (HOUR, 0, 0)


def test_books_that_nobody_wants_are_not_kept():
    world = World()
    world.policy = make_policy()
    world.tick(waiting_job())
    assert world.ledger.calls == []


def test_a_run_that_breaks_off_anywhere_is_made_good_by_the_next():
    jobs = (waiting_job(1), running_job(2))
    for calls in range(60):
        world = World(**BUDGET)
        world.slurm.runs[3] = make_run(3, start_time=NOW - HOUR, end_time=NOW - 1800)
        world.ledger.fail_after(calls)
        try:
            world.tick(*jobs)
        except RecordsUnavailable:
            world.ledger.fail_after(10**9)
            world.tick(*jobs)
        assert balances(world) == (91 * MICRO, 8 * MICRO, MICRO)


def promise(world, token):
    with world.ledger.writing() as books:
        claim = Claim(
            account="nlp", user="u1", state="promised", token=token, use=Use({"h100": 1}),
            seconds=2 * HOUR, known_since=world.clock.now(),
        )  # fmt: skip
        (claim,) = books.save([claim])
        funds = Funds(books.funds(open_only=True), {}, actor="u1")
        cost = Cost(4 * MICRO, 2 * HOUR)
        line = funds.line("nlp", "u1")
        funds.reserve(claim.claim_id, line, cost, world.clock.now(), rule="B-003")
        books.post(world.clock.now(), funds.postings)


def test_a_budget_closed_by_hand_is_not_granted_again_in_the_fund_that_takes_its_place():
    world = World(**BUDGET)
    world.tick(running_job())
    with world.ledger.writing() as books:
        (fund,) = [one for one in books.funds() if one.budget]
        books.change_funds([replace(fund, end=NOW + 60)])
        (empty,) = books.open_funds([replace(fund, start=NOW + 60, fund_id=0)])
        books.set_mark(f"policy:{empty.fund_id}", 100 * MICRO)
        books.set_mark(f"policy:{fund.fund_id}", 0)
    world.tick(running_job(elapsed_seconds=120), at=NOW + 120)
    assert balances(world) == (-4 * MICRO + 33_334, 4 * MICRO - 33_334, 0)
