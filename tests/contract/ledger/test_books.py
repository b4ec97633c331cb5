"""What services/ledger/books.py promises, held against the fake, SQLite and PostgreSQL."""

# ruff: noqa: ARG005 - a table of cases, each called alike

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from slurm_gpu_policy.model.ledger import MOVES, FundView, Leg
from slurm_gpu_policy.model.prices import Band, Cost, Prices, Tariff
from tests.contract.ledger.scenes import (
    NOW,
    balances,
    ended,
    everything,
    fund,
    opened,
    posted,
    posting,
    promise,
    run,
    saved,
)

LARGEST = 2**63 - 1


# --- price books ---------------------------------------------------------------------------------


PRICES = Prices(
    gpus={"h100": 2_500_000, "": 1},
    gpus_by_partition={"old": 7},
    cpu=3,
    memory_gib=4,
    qos={"low": 500_000},
    partitions={"gpu": 2_000_000},
    bands=(Band(frozenset({0, 6}), 72_000, 21_600, 500_000), Band(frozenset({5}), 0, 1, 0)),
    timezone="Europe/Berlin",
    minimum=10,
)


def test_there_is_no_price_book_at_first(ledger):
    with ledger.reading() as books:
        assert books.tariffs() == ()


def test_price_books_come_back_with_every_field_as_they_were_recorded(ledger):
    first = (Tariff(0, PRICES), Tariff(NOW, Prices()))
    with ledger.writing() as books:
        books.record_tariffs(0, first)
        books.record_tariffs(NOW, [])
        assert books.tariffs() == ((0, first), (NOW, ()))
    with ledger.reading() as books:
        assert books.tariffs() == ((0, first), (NOW, ()))


def test_of_two_price_books_of_one_moment_the_later_stands_last(ledger):
    with ledger.writing() as books:
        books.record_tariffs(5, (Tariff(0, Prices(cpu=1)),))
        books.record_tariffs(5, (Tariff(0, Prices(cpu=2)),))
    with ledger.reading() as books:
        assert [tariffs[0].prices.cpu for _, tariffs in books.tariffs()] == [1, 2]


def test_a_price_book_recorded_after_a_clock_was_put_back_stands_last(ledger):
    with ledger.writing() as books:
        books.record_tariffs(NOW, (Tariff(0, Prices(cpu=1)),))
        books.record_tariffs(5, (Tariff(0, Prices(cpu=2)),))
    with ledger.reading() as books:
        assert [since for since, _ in books.tariffs()] == [NOW, 5]


# --- funds ---------------------------------------------------------------------------------------


def test_a_new_fund_has_an_id_and_nothing_in_it(ledger):
    given = fund(
        "b", "a", user="u", unit="gpu_seconds", start=5, end=9, position=2, overdraft=3,
        unlimited=True, soft=800_000, closed=True, available=7, reserved=8, spent=9,
    )  # fmt: skip
    with ledger.writing() as books:
        (made,) = books.open_funds([given])
        assert books.funds() == (made,)
    assert made.fund_id > 0
    assert replace(given, available=0, reserved=0, spent=0, fund_id=made.fund_id) == made


def test_a_fund_that_is_there_already_is_returned_as_it_stands(ledger):
    (first,) = opened(ledger, fund(overdraft=1), granted=50)
    (again,) = opened(ledger, fund(overdraft=2))
    assert again == first
    assert (again.overdraft, again.available) == (1, 50)


def test_funds_are_told_apart_by_budget_account_user_and_start_alone(ledger):
    kinds = [
        fund("a", "a"),
        fund("b", "a"),
        fund("a", "b"),
        fund("a", "a", user="u"),
        fund("a", "a", start=1),
        fund("a", "a", end=2, position=3),
    ]
    made = opened(ledger, *kinds)
    assert len({one.fund_id for one in made}) == 5
    assert made[0] == made[5]
    assert [one.budget for one in made] == [one.budget for one in kinds]


def test_funds_come_by_id_and_closed_ones_are_left_out_when_asked(ledger):
    one, two, three = opened(ledger, fund("z"), fund("y"), fund("x"))
    with ledger.writing() as books:
        books.change_funds([replace(two, closed=True)])
        assert [found.fund_id for found in books.funds()] == [
            one.fund_id,
            two.fund_id,
            three.fund_id,
        ]
        assert [found.fund_id for found in books.funds(open_only=True)] == [
            one.fund_id,
            three.fund_id,
        ]


def test_what_is_no_balance_can_be_changed_and_nothing_else(ledger):
    (made,) = opened(ledger, fund(start=5), granted=10)
    changed = replace(made, end=9, position=1, overdraft=2, soft=3, closed=True, unlimited=True)
    nonsense = replace(changed, available=77, reserved=78, spent=79, budget="x", unit="gpu_seconds")
    with ledger.writing() as books:
        books.change_funds([nonsense])
    with ledger.reading() as books:
        assert books.funds() == (changed,)


def test_a_fund_that_does_not_exist_cannot_be_changed(ledger):
    (made,) = opened(ledger)
    with pytest.raises(ValueError, match="there is no fund 99"), ledger.writing() as books:
        books.change_funds([replace(made, position=5), replace(made, fund_id=99)])
    with ledger.reading() as books:
        assert books.funds() == (made,)


# --- claims --------------------------------------------------------------------------------------


def test_every_field_of_a_claim_comes_back(ledger):
    claims = [
        promise(tasks=3, seconds=60, known_since=NOW),
        run(8, NOW - 1, restart=2, token="t", accrued=Cost(3, 4), start_time=5, state="running"),
        ended(9, accrued=Cost(2**62, 2**61)),
        ended(10, start_time=None, end_time=NOW, settled=False, seconds=0),
    ]
    made = saved(ledger, *claims)
    assert [replace(one, claim_id=0) for one in made] == claims
    assert len({one.claim_id for one in made}) == 4
    with ledger.reading() as books:
        assert books.open_claims() == made[:2]
        assert books.claims([(8, NOW - 1), (9, NOW), (10, NOW)]) == made[1:]


def test_claims_are_saved_in_order_new_and_old_together(ledger):
    (first,) = saved(ledger, run(1))
    second, again, third = saved(ledger, run(2), replace(first, state="running"), run(3))
    assert again.claim_id == first.claim_id < second.claim_id < third.claim_id
    with ledger.reading() as books:
        assert [one.job_id for one in books.open_claims()] == [1, 2, 3]
        assert books.claims([(1, NOW)])[0].state == "running"


def test_every_field_of_a_claim_can_be_changed(ledger):
    (made,) = saved(ledger, promise())
    changed = replace(
        ended(5, account="other", user="u2", tasks=9, restart=4, known_since=3),
        claim_id=made.claim_id,
        token="t2",
        end_state="FAILED",
    )
    assert saved(ledger, changed) == (changed,)
    with ledger.reading() as books:
        assert books.claims([(5, NOW)]) == (changed,)
        assert books.open_claims() == ()


def test_saving_a_claim_leaves_its_legs_as_they_are(ledger):
    (one,) = opened(ledger, granted=100)
    (made,) = saved(ledger, replace(run(), legs=(Leg(one.fund_id, 99),)))
    assert made.legs == ()
    posted(ledger, posting("reserve", one.fund_id, 30, claim=made))
    (again,) = saved(ledger, replace(made, state="running", legs=(Leg(one.fund_id, 77),)))
    assert again.legs == (Leg(one.fund_id, 77),)
    with ledger.reading() as books:
        (kept,) = books.open_claims()
    assert (kept.state, kept.legs) == ("running", (Leg(one.fund_id, 30),))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (run(7, NOW), run(7, NOW, user="u2")),
        (promise("t"), promise("t", user="u2")),
    ],
)
def test_there_is_one_claim_for_a_run_and_for_a_token_without_a_job(ledger, first, second):
    with pytest.raises(ValueError, match="claim"):
        saved(ledger, first, second)
    saved(ledger, first)
    with pytest.raises(ValueError, match="claim"):
        saved(ledger, run(100), second)
    with ledger.reading() as books:
        assert [one.user for one in books.open_claims()] == ["u1"]


def test_runs_of_one_job_and_tasks_of_one_token_are_claims_of_their_own(ledger):
    saved(ledger, promise("t"), run(7, NOW, token="t"), run(8, NOW, token="t"), run(7, NOW + 1))
    with ledger.reading() as books:
        assert len(books.open_claims()) == 4


def test_a_promise_that_became_a_job_leaves_its_token_free(ledger):
    (made,) = saved(ledger, promise("t"))
    saved(ledger, replace(made, job_id=7, submit_time=NOW, state="pending"), promise("t"))
    with ledger.reading() as books:
        assert [one.job_id for one in books.open_claims()] == [7, None]


def test_a_claim_cannot_become_another_runs(ledger):
    (made,) = saved(ledger, run(7))
    for other in (replace(made, job_id=8), replace(made, submit_time=1)):
        with pytest.raises(ValueError, match="another run"):
            saved(ledger, other)


def test_a_claim_that_does_not_exist_cannot_be_changed(ledger):
    with pytest.raises(ValueError, match="there is no claim 99"):
        saved(ledger, replace(run(), claim_id=99))


@pytest.mark.parametrize("claim", [run(submit=None), promise(submit_time=5), promise("")])
def test_a_claim_is_a_run_or_a_promise(ledger, claim):
    with pytest.raises(ValueError, match=r"needs a token|both"):
        saved(ledger, claim)


def test_open_claims_are_those_that_have_not_ended_oldest_first(ledger):
    saved(ledger, promise(), run(1), run(2, state="running"), ended(3), run(4, state="ended"))
    with ledger.reading() as books:
        assert [one.state for one in books.open_claims()] == ["promised", "pending", "running"]


def test_claims_of_runs_are_found_in_any_state_and_others_left_out(ledger):
    made = saved(ledger, run(1), ended(2), run(1, NOW + 5), run(3))
    with ledger.reading() as books:
        assert books.claims([(1, NOW), (2, NOW), (2, NOW + 1), (99, NOW)]) == made[:2]
        assert books.claims([]) == ()
        assert books.claims([(2**70, NOW), (1, 2**70)]) == ()


def test_more_claims_are_found_at_once_than_one_question_may_hold(ledger):
    made = saved(ledger, *(run(number) for number in range(1, 2502)))
    with ledger.reading() as books:
        assert books.claims([(number, NOW) for number in range(5000)]) == made
        assert books.open_claims() == made


def test_all_runs_of_a_job_are_found_oldest_first(ledger):
    saved(ledger, run(7, NOW + 9), ended(7, submit=NOW), run(8))
    with ledger.reading() as books:
        assert [one.submit_time for one in books.claims_of(7)] == [NOW + 9, NOW]
        assert books.claims_of(9) == ()
        assert books.claims_of(2**70) == ()


@pytest.mark.parametrize(
    ("start", "end", "jobs"),
    [
        (NOW, NOW + 10, [1, 2, 3, 4]),
        (NOW + 10, NOW + 20, [2, 3, 5]),
        (NOW + 9, NOW + 10, [1, 2, 3]),
        (NOW + 20, NOW + 30, [2]),
        (NOW - 9, NOW, []),
        (NOW + 5, NOW + 6, [1, 2, 3]),
        (0, 2**70, [1, 2, 3, 4, 5]),
    ],
)
def test_runs_between_two_moments_are_those_that_overlap_them(ledger, start, end, jobs):
    saved(
        ledger,
        ended(1, start_time=NOW, end_time=NOW + 10),
        run(2, state="running", start_time=NOW),
        ended(3, start_time=NOW, end_time=NOW + 20),
        ended(4, start_time=NOW, end_time=NOW),
        ended(5, start_time=NOW + 10, end_time=NOW + 11),
        run(6),
        ended(7, start_time=None),
    )
    with ledger.reading() as books:
        assert [one.job_id for one in books.claims_between(start, end)] == jobs


def test_a_promise_is_found_by_its_token_with_and_without_a_job(ledger):
    (made,) = saved(ledger, promise("t"))
    with ledger.reading() as books:
        assert books.promise("t") == made
        assert books.promise("x") is None
        assert books.promise("") is None
    saved(ledger, replace(made, job_id=7, submit_time=NOW), run(8, token="t"))
    with ledger.reading() as books:
        assert books.promise("t").job_id == 7
    saved(ledger, promise("t"))
    with ledger.reading() as books:
        assert books.promise("t").job_id is None


def test_promises_that_wait_for_their_jobs_are_counted_by_user(ledger):
    first, *_ = saved(ledger, promise("a"), promise("b"), promise("c", user="u2"), run(5))
    with ledger.reading() as books:
        assert [books.count_promises(user) for user in ("u1", "u2", "u3")] == [2, 1, 0]
    saved(ledger, replace(first, state="ended"))
    with ledger.reading() as books:
        assert books.count_promises("u1") == 1
    saved(ledger, replace(first, state="promised", job_id=5, submit_time=NOW - 1))
    with ledger.reading() as books:
        assert books.count_promises("u1") == 1


# --- entries -------------------------------------------------------------------------------------


def test_an_entry_comes_back_with_its_job(ledger):
    (one,) = opened(ledger)
    (claim,) = saved(ledger, run(7, NOW - 5, restart=2, user="u9", account="other"))
    given = posting(
        "charge", one.fund_id, 5, claim=claim, gpu_seconds=6, reason="why", batch="b", rule="C-410"
    )
    posted(ledger, given, now=NOW + 1)
    with ledger.reading() as books:
        (entry,) = books.entries()
        assert books.count_entries() == 1
    assert entry.posting == given
    assert (entry.time, entry.sequence, entry.account, entry.user) == (NOW + 1, 0, "other", "u9")
    assert (entry.job_id, entry.submit_time, entry.restart) == (7, NOW - 5, 2)


def test_an_entry_without_a_claim_is_its_funds_accounts(ledger):
    opened(ledger, fund(user="u3"), granted=5)
    with ledger.reading() as books:
        (entry,) = books.entries()
    assert (entry.account, entry.user, entry.job_id, entry.submit_time) == ("lab", "u3", None, None)
    assert (entry.posting.claim_id, entry.restart, entry.sequence) == (None, 0, 0)


def test_entries_of_a_promise_are_its_jobs_as_soon_as_there_is_one(ledger):
    (one,) = opened(ledger, granted=9)
    (claim,) = saved(ledger, promise())
    posted(ledger, posting("reserve", one.fund_id, 5, claim=claim))
    saved(ledger, replace(claim, job_id=7, submit_time=NOW))
    with ledger.reading() as books:
        assert [entry.job_id for entry in books.entries()] == [None, 7]


def test_entries_of_one_kind_on_one_fund_for_one_claim_are_numbered(ledger):
    one, two = opened(ledger, fund("a"), fund("b"), granted=100)
    first, second = saved(ledger, run(1), run(2))
    reserves = [
        posting("reserve", one.fund_id, 1, claim=first),
        posting("reserve", one.fund_id, 2, claim=first),
        posting("release", one.fund_id, 1, claim=first),
        posting("reserve", two.fund_id, 3, claim=first),
        posting("reserve", one.fund_id, 4, claim=second),
    ]
    posted(ledger, *reserves)
    with ledger.writing() as books:
        books.post(NOW, reserves[:1])
        books.post(NOW, reserves[:1])
    with ledger.reading() as books:
        found = [entry.sequence for entry in books.entries() if entry.posting.claim_id]
    assert found == [0, 1, 0, 0, 0, 2, 3]


def test_entries_are_filtered_and_come_oldest_first(ledger):
    one, two = opened(ledger, fund("a"), fund("b"))
    (claim,) = saved(ledger, run(1))
    posted(ledger, posting("grant", one.fund_id, 1), posting("grant", two.fund_id, 2), now=10)
    posted(ledger, posting("charge", one.fund_id, 3, claim=claim), now=20)
    posted(ledger, posting("adjust", two.fund_id, 4), now=15)

    def amounts(**filters):
        with ledger.reading() as books:
            return [entry.posting.amount for entry in books.entries(**filters)]

    assert amounts() == [1, 2, 3, 4]
    assert amounts(fund_ids=[one.fund_id]) == [1, 3]
    assert amounts(fund_ids={one.fund_id, two.fund_id}) == [1, 2, 3, 4]
    assert amounts(fund_ids=()) == []
    assert amounts(fund_ids=[2**70]) == []
    assert amounts(claim_id=claim.claim_id) == [3]
    assert amounts(claim_id=99) == []
    assert amounts(kinds={"grant", "adjust"}) == [1, 2, 4]
    assert amounts(kinds=()) == []
    assert amounts(since=15) == [3, 4]
    assert amounts(since=15, kinds=["adjust"], fund_ids=[two.fund_id], limit=5) == [4]
    assert amounts(limit=2) == [1, 2]
    assert amounts(limit=0) == []
    with ledger.reading() as books:
        second = list(books.entries())[1].entry_id
    assert amounts(after=second) == [3, 4]
    assert amounts(after=second, limit=1) == [3]
    assert amounts(after=2**70) == []


def test_entries_of_many_funds_come_in_one_order(ledger):
    funds = opened(ledger, *(fund(f"f{number}") for number in range(12)))
    for amount in range(1, 40):
        posted(ledger, posting("grant", funds[amount * 7 % 12].fund_id, amount))
    for wanted in (funds, funds[:3], funds[:10]):
        ids = {one.fund_id for one in wanted}
        with ledger.reading() as books:
            found = list(books.entries(fund_ids=ids))
        assert [one.entry_id for one in found] == sorted(one.entry_id for one in found)
        assert {one.posting.fund_id for one in found} == ids
    with ledger.reading() as books:
        assert [one.posting.fund_id for one in books.entries(fund_ids=ids, limit=3)] == [
            funds[amount * 7 % 12].fund_id for amount in (1, 2, 3)
        ]


def test_entries_beyond_a_page_are_yielded_too(ledger):
    one, two = opened(ledger, fund("a"), fund("b"))
    posted(ledger, *(posting("grant", one.fund_id, n) for n in range(2500)))
    posted(ledger, *(posting("grant", two.fund_id, n) for n in range(1500)))
    with ledger.reading() as books:
        assert len(list(books.entries())) == books.count_entries() == 4000
        assert len(list(books.entries(fund_ids=[two.fund_id]))) == 1500
        assert len(list(books.entries(fund_ids=[one.fund_id, two.fund_id], limit=3000))) == 3000


def test_other_things_can_be_asked_while_entries_are_read(ledger):
    (one,) = opened(ledger)
    posted(ledger, *(posting("grant", one.fund_id, n) for n in range(2100)))
    with ledger.writing() as books:
        for entry in books.entries():
            if entry.posting.amount == 1000:
                books.set_mark("half", entry.entry_id)
                assert books.mark("half") == entry.entry_id


# --- what entries do -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "source", "target"),
    sorted((kind, *move) for kind, moves in MOVES.items() for move in moves),
)
def test_an_entry_moves_its_amount_from_one_bucket_to_the_other(ledger, kind, source, target):
    (one,) = opened(ledger, granted=100)
    (claim,) = saved(ledger, run())
    posted(
        ledger,
        posting("reserve", one.fund_id, 40, claim=claim),
        posting("charge", one.fund_id, 30, claim=claim),
    )
    before = dict(zip(("available", "reserved", "spent"), balances(ledger), strict=True))
    assert before == {"available": 30, "reserved": 40, "spent": 30}
    posted(ledger, posting(kind, one.fund_id, 7, claim=claim, move=(source, target)))
    after = dict(zip(("available", "reserved", "spent"), balances(ledger), strict=True))
    for bucket, amount in before.items():
        assert after[bucket] == amount + 7 * ((bucket == target) - (bucket == source))
    assert ledger.problems() == ()


def test_available_may_be_overdrawn(ledger):
    (one,) = opened(ledger, granted=5)
    (claim,) = saved(ledger, run())
    posted(ledger, posting("charge", one.fund_id, 9, claim=claim))
    assert balances(ledger) == (-4, 0, 9)


def leg_of(ledger, job=7):
    with ledger.reading() as books:
        ((leg,),) = [one.legs for one in books.claims_of(job)]
    return leg


def test_legs_follow_from_entries(ledger):
    (one,) = opened(ledger, granted=100)
    (claim,) = saved(ledger, run())

    def after(kind, amount, **fields):
        posted(ledger, posting(kind, one.fund_id, amount, claim=claim, **fields))
        return leg_of(ledger)

    reserved = ("reserved", "spent")
    assert after("reserve", 50) == Leg(one.fund_id, reserved=50)
    assert after("release", 10) == Leg(one.fund_id, reserved=40)
    assert after("charge", 30, move=reserved, gpu_seconds=8) == Leg(one.fund_id, 10, 30, 0, 8)
    assert after("charge", 5, gpu_seconds=2) == Leg(one.fund_id, 10, 35, 0, 10)
    assert after("refund", 4, rule="B-011", gpu_seconds=1) == Leg(one.fund_id, 10, 31, 0, 9)
    assert after("refund", 6, rule="C-406", gpu_seconds=5) == Leg(one.fund_id, 10, 31, 6, 9)
    assert after("refund", 7, rule="C-411") == Leg(one.fund_id, 10, 31, 13, 9)
    assert after("charge", 3, rule="C-407", gpu_seconds=1) == Leg(one.fund_id, 10, 31, 10, 9)
    assert after("charge", 0, gpu_seconds=1) == Leg(one.fund_id, 10, 31, 10, 10)
    assert ledger.problems() == ()


def test_a_claim_has_its_legs_by_fund(ledger):
    one, two = opened(ledger, fund("a"), fund("b"), granted=100)
    first, second = saved(ledger, run(1), run(2))
    posted(
        ledger,
        posting("reserve", two.fund_id, 1, claim=first),
        posting("reserve", one.fund_id, 2, claim=first),
        posting("reserve", one.fund_id, 3, claim=second),
    )
    with ledger.reading() as books:
        legs = [found.legs for found in books.open_claims()]
    assert legs == [(Leg(one.fund_id, 2), Leg(two.fund_id, 1)), (Leg(one.fund_id, 3),)]


REFUSED = {
    "a negative amount": (lambda one, claim: posting("grant", one, -1), "negative"),
    "a move its kind has not": (
        lambda one, claim: posting("grant", one, 1, move=("available", "site")),
        "does not move",
    ),
    "a move to itself": (
        lambda one, claim: posting("charge", one, 1, move=("spent", "spent")),
        "does not move",
    ),
    "more of a claim's reservation than there is": (
        lambda one, claim: posting("release", one, 51, claim=claim),
        "reserv",
    ),
    "more of a fund's reservation than there is": (
        lambda one, claim: posting("release", one, 102),
        "would be negative",
    ),
    "a charge from more than is reserved": (
        lambda one, claim: posting("charge", one, 51, claim=claim, move=("reserved", "spent")),
        "reserv",
    ),
    "a correction of more than was charged": (
        lambda one, claim: posting("refund", one, 21, claim=claim, rule="B-011"),
        "less than nothing",
    ),
    "more than was refunded": (
        lambda one, claim: posting("charge", one, 1, claim=claim, rule="C-406"),
        "more than was refunded",
    ),
    "a fund that is not there": (lambda one, claim: posting("grant", 99, 1), "no fund 99"),
    "a claim that is not there": (
        lambda one, claim: posting("reserve", one, 1, claim=99),
        "no claim 99",
    ),
    "a fund that cannot be": (lambda one, claim: posting("grant", 2**70, 1), "no fund"),
    "a claim that cannot be": (
        lambda one, claim: posting("reserve", one, 1, claim=2**70),
        "no claim",
    ),
    "an amount of 65 bits": (lambda one, claim: posting("grant", one, 2**64), "64 bits"),
    "a sum of 64 bits": (lambda one, claim: posting("grant", one, LARGEST), "64 bits"),
    "GPU-seconds of 65 bits": (
        lambda one, claim: posting("charge", one, 1, claim=claim, gpu_seconds=2**64),
        "64 bits",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_and_the_block_given_up(ledger, case):
    make, words = REFUSED[case]
    (one,) = opened(ledger, granted=200)
    claim, other = saved(ledger, run(1), run(2))
    posted(
        ledger,
        posting("reserve", one.fund_id, 50, claim=claim),
        posting("reserve", one.fund_id, 50, claim=other),
        posting("charge", one.fund_id, 20, claim=claim),
    )
    before = everything(ledger)
    with pytest.raises(ValueError, match=words), ledger.writing() as books:  # noqa: PT012
        books.set_mark("written before", 1)
        books.post(
            NOW,
            [posting("reserve", one.fund_id, 1, claim=other), make(one.fund_id, claim)],
        )
    assert everything(ledger) == before
    assert ledger.problems() == ()


@pytest.mark.parametrize(
    "write",
    [
        lambda books: books.set_mark("x", 2**63),
        lambda books: books.save([run(2**63)]),
        lambda books: books.save([run(seconds=2**64)]),
        lambda books: books.save([run(accrued=Cost(-(2**64), 0))]),
        lambda books: books.open_funds([fund(start=2**63)]),
        lambda books: books.open_funds([fund(overdraft=2**63)]),
        lambda books: books.post(2**63, [posting("grant", 1, 1)]),
        lambda books: books.record_tariffs(2**63, ()),
    ],
)
def test_a_number_of_more_than_64_bits_is_refused_in_words(ledger, write):
    opened(ledger)
    with pytest.raises(ValueError, match="64 bits"), ledger.writing() as books:
        write(books)


def test_the_largest_numbers_come_back_exactly(ledger):
    (one,) = opened(ledger, fund(overdraft=LARGEST), granted=LARGEST)
    (claim,) = saved(ledger, run(LARGEST, -LARGEST, seconds=LARGEST))
    posted(ledger, posting("reserve", one.fund_id, LARGEST - 1, claim=claim))
    assert balances(ledger) == (1, LARGEST - 1, 0)
    with ledger.reading() as books:
        assert books.claims([(LARGEST, -LARGEST)])[0].seconds == LARGEST
    opened(ledger, fund("two"), fund("three"), granted=LARGEST)
    assert ledger.problems() == ()


def test_posting_nothing_changes_nothing(ledger):
    opened(ledger)
    before = everything(ledger)
    with ledger.writing() as books:
        books.post(NOW, [])
        assert books.save([]) == ()
        assert books.open_funds([]) == ()
        books.change_funds([])
    assert everything(ledger) == before


# --- views ---------------------------------------------------------------------------------------


def test_a_view_says_what_is_settled_in_flight_and_committed(ledger):
    one, two = opened(ledger, fund("a"), fund("b"), granted=1000)
    waiting, running, promised = saved(ledger, run(1), run(2, state="running"), promise())
    posted(
        ledger,
        posting("reserve", one.fund_id, 10, claim=waiting),
        posting("reserve", one.fund_id, 20, claim=running),
        posting("reserve", one.fund_id, 40, claim=promised),
        posting("charge", one.fund_id, 5, claim=running),
        posting("refund", one.fund_id, 2, claim=running, rule="C-411"),
        posting("reserve", two.fund_id, 80, claim=running),
    )
    with ledger.reading() as books:
        view, other, *none = books.views([two.fund_id, one.fund_id, one.fund_id, 99, 2**70])
        funds = {found.fund_id: found for found in books.funds()}
    assert none == []
    assert view == FundView(funds[one.fund_id], settled=3, in_flight=20, committed=50)
    assert other == FundView(funds[two.fund_id], settled=0, in_flight=80, committed=0)


def test_what_is_set_aside_is_in_flight_from_when_the_job_runs_until_it_ends(ledger):
    (one,) = opened(ledger, granted=100)

    def view():
        with ledger.reading() as books:
            (found,) = books.views([one.fund_id])
        return found.in_flight, found.committed

    (claim,) = saved(ledger, run())
    posted(ledger, posting("reserve", one.fund_id, 30, claim=claim))
    assert view() == (0, 30)
    (claim,) = saved(ledger, replace(claim, state="running"))
    assert view() == (30, 0)
    with ledger.writing() as books:
        books.post(NOW, [posting("release", one.fund_id, 5, claim=claim)])
        books.save([replace(claim, accrued=Cost(1, 1))])
        books.save([replace(claim, state="pending")])  # requeued, in one and the same second
        assert books.views([one.fund_id])[0].committed == 25
        books.save([claim])
        books.post(NOW, [posting("reserve", one.fund_id, 1, claim=claim)])
    assert view() == (26, 0)
    with ledger.writing() as books:
        books.save([replace(claim, state="ended")])
        books.post(NOW, [posting("release", one.fund_id, 26, claim=claim)])
    assert view() == (0, 0)
    assert ledger.problems() == ()


# --- marks ---------------------------------------------------------------------------------------


def test_marks_are_kept_and_found_by_how_they_begin(ledger):
    with ledger.writing() as books:
        assert books.mark("a") is None
        books.set_mark("warned:1", 50)
        books.set_mark("warned:2", -1)
        books.set_mark("Warned:3", 7)
        books.set_mark("warned%", 8)
        books.set_mark("warned:1", 80)
    with ledger.reading() as books:
        assert books.mark("warned:1") == 80
        assert dict(books.marks("warned:")) == {"warned:1": 80, "warned:2": -1}
        assert dict(books.marks("warned_")) == {}
        assert len(books.marks("")) == 4


# --- blocks --------------------------------------------------------------------------------------


def test_a_block_sees_what_it_wrote(ledger):
    with ledger.writing() as books:
        (one,) = books.open_funds([fund()])
        (claim,) = books.save([run()])
        books.post(NOW, [posting("grant", one.fund_id, 9)])
        books.post(NOW, [posting("reserve", one.fund_id, 4, claim=claim)])
        books.post(NOW, [posting("reserve", one.fund_id, 3, claim=claim)])
        assert books.open_claims()[0].legs == (Leg(one.fund_id, 7),)
        assert books.funds()[0].available == 2
        assert books.views([one.fund_id])[0].committed == 7
        assert [entry.sequence for entry in books.entries(kinds=["reserve"])] == [0, 1]
        assert books.count_entries() == 3


def test_a_block_that_raises_leaves_nothing(ledger):
    (one,) = opened(ledger, granted=5)
    before = everything(ledger)
    with pytest.raises(KeyError), ledger.writing() as books:  # noqa: PT012
        (claim,) = books.save([run()])
        books.post(NOW, [posting("reserve", one.fund_id, 5, claim=claim)])
        books.open_funds([fund("other")])
        books.change_funds([replace(one, position=7)])
        books.record_tariffs(0, ())
        books.set_mark("m", 1)
        raise KeyError
    assert everything(ledger) == before
    saved(ledger, run())  # and no lock is left


def test_a_reader_sees_one_state_throughout_while_others_write(ledger):
    opened(ledger, granted=5)
    with ledger.reading() as books:
        before = books.funds(), books.count_entries()
        written = threading.Thread(
            target=lambda: (posted(ledger, posting("grant", 1, 5)), saved(ledger, run()))
        )
        written.start()
        written.join(30)
        assert not written.is_alive()
        assert (books.funds(), books.count_entries()) == before
        assert books.open_claims() == ()
    assert balances(ledger) == (10, 0, 0)


def test_what_a_block_has_read_stays_true_until_it_ends(ledger):
    opened(ledger)

    def work():
        for _ in range(20):
            with ledger.writing() as books:
                count = books.mark("count") or 0
                books.set_mark("count", count + 1)
                books.post(NOW, [posting("adjust", 1, 1)])

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ledger.reading() as books:
        assert books.mark("count") == 100
    assert balances(ledger) == (100, 0, 0)


# --- problems ------------------------------------------------------------------------------------


def own_funds(ledger):
    return opened(
        ledger,
        fund("", "", unlimited=True, start=NOW, end=NOW + 100),
        fund("", "", unlimited=True, start=NOW + 100),
    )


def test_whole_books_have_no_problems(ledger):
    one, two = own_funds(ledger)
    made = saved(
        ledger,
        ended(1, seconds=100, accrued=Cost(3)),
        ended(2, seconds=101, accrued=Cost(6)),
        ended(3, start_time=NOW + 100, seconds=1, accrued=Cost(3)),
        ended(4, seconds=0, accrued=Cost()),
        run(5, state="ended"),
        run(6, state="running", start_time=NOW),
        promise("t", state="ended"),
    )
    charges = [(0, one), (1, one), (1, two), (2, two)]
    posted(ledger, *(posting("charge", of.fund_id, 3, claim=made[n]) for n, of in charges))
    assert ledger.problems() == ()


@pytest.mark.parametrize(
    ("claim", "charged", "words"),
    [
        (ended(1, settled=False), [0, 1], "not settled"),
        (ended(1), [0], "ran in the period of fund 2"),
        (ended(1), [1], "ran in the period of fund 1"),
        (ended(1, seconds=100), [0, 1], "did not run in the period of fund 2"),
        (ended(1, start_time=NOW - 9, seconds=9), [], "no fund"),
        (ended(1, seconds=0), [0], "did not run in the period of fund 1"),
    ],
)
def test_an_ended_run_without_exactly_its_charges_is_a_problem(ledger, claim, charged, words):
    funds = own_funds(ledger)
    (made,) = saved(ledger, claim)
    posted(ledger, *(posting("charge", funds[n].fund_id, 3, claim=made) for n in charged))
    assert any(words in problem for problem in ledger.problems()), ledger.problems()


def test_a_charge_that_was_taken_back_does_not_count_where_the_run_was_not(ledger):
    one, two = own_funds(ledger)
    (made,) = saved(ledger, ended(1, seconds=100, accrued=Cost(3, 2)))
    posted(
        ledger,
        posting("charge", one.fund_id, 3, claim=made, gpu_seconds=2),
        posting("charge", two.fund_id, 3, claim=made, gpu_seconds=2),
        posting("refund", two.fund_id, 3, claim=made, gpu_seconds=2, rule="B-011"),
    )
    assert ledger.problems() == ()


def test_a_cost_that_is_not_charged_is_a_problem(ledger):
    (one, _) = own_funds(ledger)
    (made,) = saved(ledger, ended(1, seconds=100, accrued=Cost(3, 2)))
    posted(ledger, posting("charge", one.fund_id, 2, claim=made, gpu_seconds=2))
    (problem,) = ledger.problems()
    assert "job 1" in problem
    assert "charged" in problem


def test_a_refund_of_more_than_was_charged_is_a_problem(ledger):
    (one, _) = own_funds(ledger)
    (made,) = saved(ledger, ended(1, seconds=100, accrued=Cost(3)))
    posted(
        ledger,
        posting("charge", one.fund_id, 3, claim=made),
        posting("refund", one.fund_id, 4, claim=made, rule="C-411"),
    )
    (problem,) = ledger.problems()
    assert "job 1" in problem
    assert "given back" in problem


def test_an_ended_claim_with_a_reservation_is_a_problem(ledger):
    (one,) = opened(ledger, granted=9)
    (claim,) = saved(ledger, run())
    posted(ledger, posting("reserve", one.fund_id, 5, claim=claim))
    saved(ledger, replace(claim, state="ended"))
    (problem,) = ledger.problems()
    assert "ended" in problem
    assert "job 7" in problem
