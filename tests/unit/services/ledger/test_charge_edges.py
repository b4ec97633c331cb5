"""Charging where clocks, Slurm and people do what they seldom do."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.ledger import Claim, Fund, Posting
from slurm_gpu_policy.services.ledger.funding import READ_UNTIL
from slurm_gpu_policy.units import MICRO
from tests.unit.services.ledger.test_charge import (
    BUDGET,
    FEBRUARY,
    HOUR,
    NOW,
    World,
    balances,
    make_run,
    running_job,
    waiting_job,
)

DAY = 86_400
MARCH = 1_803_859_200


def refund_by_hand(world, amount):
    """As an operator's refund does it (rule C-411), on every fund that the run was charged on."""
    (claim,) = world.claims()
    with world.ledger.writing() as books:
        books.post(
            world.clock.now(),
            [
                Posting(
                    "refund", leg.fund_id, "spent", "available", amount, "C-411", "oper",
                    "sorry", claim_id=claim.claim_id,
                )
                for leg in claim.legs
            ],
        )  # fmt: skip


# --- the end of a period -------------------------------------------------------------------------


@pytest.mark.parametrize("before", [2, 0])
def test_what_runs_over_a_periods_end_is_charged_before_what_is_left_goes_on(before):
    """The queue was read in the last seconds of January, the books are written in February."""
    world = World(budgets={"nlp": {"amount": "1000", "roll_over": 100}})
    start = FEBRUARY - 100 * HOUR
    world.tick(running_job(start_time=start, submit_time=start, elapsed_seconds=60,
                           time_limit_seconds=200 * HOUR), at=start + 60)  # fmt: skip
    seen = 100 * HOUR - before
    world.tick(running_job(start_time=start, submit_time=start, elapsed_seconds=seen,
                           time_limit_seconds=200 * HOUR), at=FEBRUARY + 1)  # fmt: skip
    world.tick(running_job(start_time=start, submit_time=start, elapsed_seconds=100 * HOUR + 60,
                           time_limit_seconds=200 * HOUR), at=FEBRUARY + 60)  # fmt: skip
    january, february = world.funds("nlp")
    assert january.spent == 200 * MICRO
    assert february.granted == 1800 * MICRO


def test_a_run_that_stays_suspended_does_not_keep_a_period_open_for_ever():
    world = World(budgets={"nlp": {"amount": "1000", "roll_over": 100}})
    start = FEBRUARY - 100 * HOUR
    job = running_job(start_time=start, submit_time=start, elapsed_seconds=60,
                      state=JobState.SUSPENDED, time_limit_seconds=200 * HOUR)  # fmt: skip
    world.tick(job, at=start + 60)
    world.tick(job, at=FEBRUARY + HOUR)
    assert not world.funds("nlp")[0].closed
    world.tick(job, at=FEBRUARY + 2 * DAY)
    assert world.funds("nlp")[0].closed


def test_a_budget_granted_ahead_by_hand_does_not_keep_the_present_period_from_its_own():
    world = World(**BUDGET)
    world.tick()
    with world.ledger.writing() as books:
        books.open_funds([Fund("nlp", "nlp", start=MARCH, end=MARCH + 30 * DAY, position=1000)])
    world.tick(at=FEBRUARY + 60)
    assert [fund.start for fund in world.funds("nlp")] == [1_798_761_600, MARCH, FEBRUARY]
    state = world.tick(waiting_job(time_limit_seconds=51 * HOUR), at=FEBRUARY + 120)
    assert state.uncovered


def test_a_zone_that_changes_in_a_months_last_hours_takes_no_month_from_a_budget():
    world = World(**BUDGET)
    world.tick()
    world.restart(pricing={"timezone": "Asia/Tokyo"}, **BUDGET)
    world.tick(at=FEBRUARY - HOUR)
    world.tick(at=FEBRUARY + HOUR)
    for budget in ("nlp", ""):
        january, february = world.funds(budget)
        assert (january.end, february.start, february.end) == (FEBRUARY, FEBRUARY, MARCH - 9 * HOUR)
    assert world.funds("nlp")[1].available == 100 * MICRO


def test_a_promise_made_in_one_month_waits_for_its_job_in_the_next():
    world = World(**BUDGET)
    world.tick(at=FEBRUARY - 60)
    promised = Claim("nlp", "u1", "promised", token="t1", known_since=FEBRUARY - 60)
    with world.ledger.writing() as books:
        (claim,) = books.save([promised])
        (fund,) = [one for one in books.funds() if one.budget]
        books.post(FEBRUARY - 60, [Posting("reserve", fund.fund_id, "available", "reserved",
                   4 * MICRO, "B-003", "u1", claim_id=claim.claim_id)])  # fmt: skip
    job = waiting_job(submit_time=FEBRUARY - 50, comment="gpu-submit(token=t1)")
    world.tick(job, at=FEBRUARY + 10)
    january, february = world.funds("nlp")
    assert (january.reserved, february.reserved) == (0, 4 * MICRO)
    world.tick(job, at=FEBRUARY + 3600)
    january, february = world.funds("nlp")
    assert (january.closed, february.reserved) == (True, 4 * MICRO)


# --- two controllers -----------------------------------------------------------------------------


def test_a_former_leader_that_wakes_up_late_changes_nothing():
    """It read the queue, was stopped for hours, and writes after another has led since."""
    world = World(**BUDGET)
    world.tick(waiting_job(1), running_job(2), waiting_job(3))
    world.slurm.runs[2] = make_run(2)
    world.slurm.runs[3] = make_run(3, start_time=None, end_time=NOW + 5, elapsed_seconds=0,
                                   allocated_tres={}, state=JobState.CANCELLED)  # fmt: skip
    world.restart()
    late = world.charging
    world.restart()
    world.tick(running_job(1, start_time=NOW + 60, elapsed_seconds=HOUR), at=NOW + 60 + HOUR)
    before = balances(world), len(world.entries())
    world.charging = late
    world.tick(waiting_job(1), running_job(2), waiting_job(3), at=NOW + 30)
    assert (balances(world), len(world.entries())) == before


# --- refunds -------------------------------------------------------------------------------------


def test_a_refund_by_hand_is_never_more_than_what_a_correction_leaves_of_the_charge():
    world = World(**BUDGET)
    world.slurm.runs[1] = make_run()
    world.tick(at=NOW + HOUR + 60)
    refund_by_hand(world, 2 * MICRO)
    world.slurm.runs[1] = make_run(end_time=NOW + HOUR // 2)
    world.tick(at=NOW + HOUR + 120)
    assert balances(world) == (100 * MICRO, 0, 0)
    world.slurm.runs[1] = make_run(end_time=NOW + HOUR // 2 + 2)
    world.tick(at=NOW + HOUR + 180)
    (claim,) = world.claims()
    assert all(leg.refunded <= leg.charged for leg in claim.legs)


def test_a_refund_by_rule_gives_back_no_more_than_one_by_hand_has_left():
    world = World(**BUDGET)
    world.slurm.runs[1] = make_run()
    world.tick(at=NOW + HOUR + 60)
    refund_by_hand(world, MICRO)
    world.slurm.runs[1] = make_run(state=JobState.NODE_FAIL)
    for minute in (2, 3):
        world.tick(at=NOW + HOUR + 60 * minute)
        assert balances(world) == (100 * MICRO, 0, 0)


def test_a_run_that_takes_over_a_failed_ones_record_has_not_its_refund():
    """Slurm 22.05 gives the record of a run to the next one with the same submit time."""
    world = World(**BUDGET)
    world.slurm.runs[1] = make_run(state=JobState.NODE_FAIL, end_time=NOW + HOUR)
    world.tick(at=NOW + HOUR + 10)
    assert balances(world)[2] == 0
    world.slurm.runs[1] = make_run(start_time=NOW + HOUR + 5, end_time=None, state=JobState.RUNNING)
    world.tick(at=NOW + HOUR + 20)
    world.slurm.runs[1] = make_run(start_time=NOW + HOUR + 5, end_time=NOW + 3 * HOUR + 5)
    world.tick(at=NOW + 3 * HOUR + 60)
    assert balances(world) == (96 * MICRO, 0, 4 * MICRO)


# --- clocks and numbers --------------------------------------------------------------------------


def test_after_a_clock_that_was_ahead_the_accounting_is_read_from_the_present_again():
    world = World(**BUDGET)
    world.tick()
    world.tick(at=NOW + 5 * DAY)
    world.slurm.runs[1] = make_run()
    world.restart()
    world.tick(at=NOW + 2 * HOUR)
    assert balances(world)[2] == 2 * MICRO
    with world.ledger.reading() as books:
        assert books.mark(READ_UNTIL) == NOW + 2 * HOUR


def test_a_clock_that_was_ahead_closes_no_period_that_goes_on():
    world = World(**BUDGET)
    world.tick()
    with world.ledger.writing() as books:
        books.set_mark(READ_UNTIL, FEBRUARY + DAY)
    world.slurm.failing = True  # nobody can put it right by reading on
    world.tick(at=NOW + 60)
    assert not world.funds("nlp")[0].closed


def test_prices_that_were_recorded_by_a_clock_ahead_do_not_come_back():
    world = World(**BUDGET)
    world.tick()
    world.restart(gpu_types={"h100": {"price_per_hour": "9"}}, **BUDGET)
    world.tick(at=NOW + 5 * DAY)
    world.restart(**BUDGET)
    for minute in range(4):
        world.tick(at=NOW + 60 * minute)
    with world.ledger.reading() as books:
        assert len(books.tariffs()) == 3
    world.slurm.runs[1] = make_run(start_time=NOW + 6 * DAY, end_time=NOW + 6 * DAY + HOUR)
    world.tick(at=NOW + 7 * DAY)
    assert balances(world)[2] == 2 * MICRO


def test_a_time_limit_beyond_all_measure_stops_nobodys_books():
    world = World(budgets={"nlp": {"amount": "5"}}, gpu_types={"h100": {"price_per_hour": "50000"}})
    world.slurm.runs[2] = make_run(2)
    tres = {"cpu": 8, "gres/gpu": 8, "gres/gpu:h100": 8}
    world.tick(running_job(time_limit_seconds=60 * (2**32 - 3), tres=tres, elapsed_seconds=HOUR),
               at=NOW + HOUR)  # fmt: skip
    assert balances(world)[2] == 50_000 * MICRO


def test_a_job_that_the_queue_shows_twice_is_one_job():
    """As a federation's does, with the same number and submit time."""
    world = World(**BUDGET)
    state = world.tick(waiting_job(), waiting_job())
    assert balances(world)[1] == 4 * MICRO
    assert not state.uncovered
