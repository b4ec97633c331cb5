"""The accounting beside the books: each way in which they can differ is found, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from slurm_gpu_policy.errors import SlurmUnavailable
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.ledger import Posting
from slurm_gpu_policy.services.ledger.reconcile import Reconciling, reconcile
from tests.unit.services.ledger.test_charge import GPU, HOUR, JANUARY, NOW, World, make_run

DAY = 86_400


@pytest.fixture
def world():
    """Three days of runs, all of them charged."""
    world = World(budgets={"nlp": {"amount": "1000"}})
    for number in range(1, 8):
        start = NOW + number * DAY // 3
        run = make_run(number, submit_time=start - 5, start_time=start, end_time=start + HOUR)
        world.slurm.runs[number] = run
    world.tick(at=NOW + 4 * DAY)
    return world


def found(world, since=JANUARY, until=NOW + 5 * DAY):
    return reconcile(world.slurm, world.ledger, since, until)


def change(world, number, **fields):
    world.slurm.runs[number] = replace(world.slurm.runs[number], **fields)


def test_books_that_agree_with_the_accounting_differ_in_nothing(world):
    result = found(world)
    assert (result.checked, result.differences) == (7, ())
    assert result.entries > 7


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"elapsed_seconds": HOUR + 1},
            ["seconds: 3600 in", "GPU-seconds: 3600 in", "micro-units"],
        ),
        ({"user": "u2"}, ["user: u1 in the books, u2 by the accounting"]),
        ({"account": "science"}, ["account: nlp in the books"]),
        (
            {"allocated_tres": MappingProxyType({**GPU, "gres/gpu": 2, "gres/gpu:h100": 2})},
            ["GPU-seconds: 3600 in the books, 7200 by", "micro-units"],
        ),
        ({"qos": "cheap"}, ["micro-units: 2000000 in the books, 1000000 by the accounting"]),
    ],
)
def test_what_the_accounting_tells_otherwise_is_a_difference(fields, words):
    world = World(pricing={"qos": {"cheap": 0.5}})
    world.slurm.runs[3] = make_run(3)
    world.tick(at=NOW + DAY)
    assert found(world).differences == ()
    change(world, 3, **fields)
    differences = found(world).differences
    assert len(differences) == len(words)
    for text, part in zip(differences, words, strict=True):
        assert text.startswith(f"job 3 (submitted {NOW}): ")
        assert part in text


def test_a_run_that_is_missing_in_the_books_is_a_difference(world):
    world.slurm.runs[9] = make_run(
        9, submit_time=NOW + DAY, start_time=NOW + DAY, end_time=NOW + 2 * DAY
    )
    (text,) = found(world).differences
    assert text == (
        f"job 9 (submitted {NOW + DAY}): missing in the books; the accounting has 86400 "
        "GPU-seconds of u1 in nlp"
    )


def test_a_charge_for_a_run_that_the_accounting_does_not_know_is_a_difference(world):
    del world.slurm.runs[4]
    (text,) = found(world).differences
    assert "job 4 " in text
    assert "the accounting has no such run" in text


def test_a_claim_that_is_open_though_its_run_ended_is_a_difference(world):
    start = NOW + 3 * DAY
    world.slurm.runs[9] = make_run(
        9, submit_time=start, start_time=start, end_time=None, state=JobState.RUNNING
    )
    world.tick(at=NOW + 4 * DAY)
    assert found(world).differences == ()
    change(world, 9, end_time=start + HOUR, elapsed_seconds=HOUR, state=JobState.FAILED)
    (text,) = found(world).differences
    assert text.endswith("open in the books (running); it ended as FAILED")


def test_a_run_that_was_charged_twice_is_a_difference(world):
    with world.ledger.writing() as books:
        (claim,) = books.claims_of(2)
        for leg in claim.legs:
            again = Posting("charge", leg.fund_id, "available", "spent", leg.charged, "C-410", "x",
                            gpu_seconds=leg.gpu_seconds, claim_id=claim.claim_id)  # fmt: skip
            books.post(NOW, [again])
    differences = found(world).differences
    assert [text.split("): ")[1] for text in differences] == [
        "GPU-seconds: 7200 in the books, 3600 by the accounting",
        "micro-units: 4000000 in the books, 2000000 by the accounting",
        "the budgets of nlp were charged 4000000; the run cost 2000000",
    ]


def test_what_was_cancelled_before_it_began_is_no_run(world):
    world.slurm.runs[9] = make_run(
        9, state=JobState.CANCELLED, start_time=NOW + DAY, end_time=NOW + DAY,
        elapsed_seconds=0, allocated_tres=MappingProxyType({}), node_list="",
    )  # fmt: skip
    result = found(world)
    assert (result.checked, result.differences) == (7, ())


def test_a_run_of_no_time_on_the_edge_of_a_day_is_looked_at_once(world):
    edge = JANUARY + 16 * DAY
    world.slurm.runs[9] = make_run(9, submit_time=edge, start_time=edge, end_time=edge)
    (text,) = found(world, since=edge).differences
    assert "job 9 " in text
    assert found(world, until=edge).differences == ()


def test_what_is_charged_between_two_looks_is_no_difference(world):
    """The first look finds a run missing; before the second, a tick has charged it."""
    start = NOW + 4 * DAY
    run = make_run(9, submit_time=start, start_time=start, end_time=start + 60)
    world.slurm.runs[9] = run
    looked = world.slurm.accounting

    def accounting(**asked):
        if asked.get("job_ids"):
            world.slurm.accounting = looked
            world.tick(at=start + 120)
        return looked(**asked)

    world.slurm.accounting = accounting
    assert found(world).differences == ()


def test_only_what_ended_in_the_time_asked_for_is_compared(world):
    for number in (1, 7):
        change(world, number, elapsed_seconds=5)
    result = found(world, since=NOW + DAY, until=NOW + 2 * DAY)
    assert (result.checked, result.differences) == (3, ())


def test_a_month_with_other_prices_is_compared_at_the_prices_of_its_time(world):
    world.restart(gpu_types={"h100": {"price_per_hour": "3"}})
    start = NOW + 4 * DAY - HOUR
    world.slurm.runs[9] = make_run(
        9, submit_time=start, start_time=start, end_time=start + 3 * HOUR
    )
    world.tick(at=NOW + 5 * DAY)
    result = found(world, until=NOW + 6 * DAY)
    assert (result.checked, result.differences) == (8, ())


def test_on_request_it_begins_with_what_the_books_have_read_and_ends_where_they_are(world):
    asked = Reconciling(world.slurm, world.ledger)
    answer = asked(None)
    assert answer == {"entries": answer["entries"], "checked": 7, "differences": []}
    world.slurm.runs[9] = make_run(9, submit_time=1, start_time=2, end_time=JANUARY - 1)
    assert asked(0)["differences"] == []
    world.slurm.runs[10] = make_run(10, end_time=NOW + 5 * DAY)
    assert asked(None)["differences"] == []


def test_books_that_have_read_nothing_say_so():
    world = World()
    world.slurm.failing = True
    world.tick(at=NOW)
    (text,) = Reconciling(world.slurm, world.ledger)(None)["differences"]
    assert "never read the accounting" in text


def test_a_repair_lets_the_next_tick_charge_what_is_missing(world):
    start = NOW + DAY
    world.slurm.runs[9] = make_run(9, submit_time=start, start_time=start, end_time=start + HOUR)
    world.tick(at=NOW + 4 * DAY)
    asked = Reconciling(world.slurm, world.ledger)
    assert len(asked(NOW)["differences"]) == 1
    world.tick(at=NOW + 4 * DAY + 60)
    assert len(asked(NOW, repair=True)["differences"]) == 1
    world.tick(at=NOW + 4 * DAY + 120)
    assert asked(NOW)["differences"] == []


def test_a_repair_brings_in_what_ended_before_the_books_began(world):
    start = JANUARY - 10 * DAY
    world.slurm.runs[9] = make_run(9, submit_time=start, start_time=start, end_time=start + HOUR)
    asked = Reconciling(world.slurm, world.ledger)
    assert asked(start - 1)["differences"] == []
    assert len(asked(start - 1, repair=True)["differences"]) == 1
    for number in range(1, 4):
        world.tick(at=NOW + 4 * DAY + 60 * number)
    answer = asked(start - 1)
    assert (answer["checked"], answer["differences"]) == (8, [])


def test_an_accounting_that_is_away_is_told_as_it_is(world):
    world.slurm.failing = True
    with pytest.raises(SlurmUnavailable):
        Reconciling(world.slurm, world.ledger)(None)
