"""Whatever is tampered with in the database's own tables, ``problems`` finds and names it."""

# ruff: noqa: S608, ISC004 - a table of statements, some of them long

from __future__ import annotations

import pytest
from sqlalchemy import text

from slurm_gpu_policy.model.prices import Cost
from tests.contract.ledger.scenes import (
    HOUR,
    NOW,
    ended,
    fund,
    opened,
    posted,
    posting,
    promise,
    run,
    saved,
)


@pytest.fixture
def filled(stored):
    """Books in which each kind of thing is: funds 1 (cluster) and 2 (lab), claims 1 to 4."""
    own, lab = opened(
        stored,
        fund("", "", unlimited=True, start=NOW - HOUR, end=NOW + 2 * HOUR),
        fund("lab", "lab"),
    )
    opened(stored, fund("", "", unlimited=True, start=NOW + 2 * HOUR))
    opened(stored, fund("hours", "lab", unit="gpu_seconds"), granted=7)
    posted(stored, posting("grant", lab.fund_id, 1000))
    done, waiting, running, _ = saved(
        stored,
        ended(1, accrued=Cost(40, 8)),
        run(2),
        run(3, state="running", start_time=NOW),
        promise(),
    )
    posted(
        stored,
        posting("reserve", lab.fund_id, 50, claim=done),
        posting("charge", lab.fund_id, 40, claim=done, move=("reserved", "spent"), gpu_seconds=8),
        posting("release", lab.fund_id, 10, claim=done),
        posting("refund", lab.fund_id, 5, claim=done, rule="C-406"),
        posting("charge", own.fund_id, 40, claim=done, gpu_seconds=8),
        posting("reserve", lab.fund_id, 30, claim=waiting),
        posting("reserve", lab.fund_id, 20, claim=running),
        posting("reserve", lab.fund_id, 3, claim=running),
    )
    assert stored.problems() == ()
    return stored


GUARDS = {
    "sqlite": "SELECT 'DROP TRIGGER ' || name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT 'ALTER TABLE ' || relname || ' DISABLE TRIGGER ALL' FROM pg_class "
    "WHERE relname IN ('entries', 'funds', 'claims', 'legs')",
}
CHECKS = (
    "SELECT 'ALTER TABLE ' || conrelid::regclass || ' DROP CONSTRAINT ' || conname "
    "FROM pg_constraint WHERE contype = 'c' AND conrelid::regclass::text "
    "IN ('entries', 'funds', 'claims', 'legs')"
)


def tamper(database, *statements):
    """Change the tables as somebody would who has the database's own password."""
    kind = "sqlite" if database.is_sqlite else "postgresql"
    with database.writing() as connection:
        questions = [GUARDS[kind]] if database.is_sqlite else [GUARDS[kind], CHECKS]
        for question in questions:
            for change in connection.execute(text(question)).scalars().all():
                connection.execute(text(change))
        if database.is_sqlite:
            connection.execute(text("PRAGMA ignore_check_constraints = ON"))
        for statement in statements:
            changed = connection.execute(text(statement))
            assert changed.rowcount > 0, f"nothing came of {statement}"


CHARGE = "claim_id = 1 AND kind = 'charge' AND fund_id"

CASES = {
    "a fund's available": (
        "UPDATE funds SET available = available + 1 WHERE fund_id = 2",
        ["fund 2", "'lab'", "available is kept as 913, its entries sum to 912", "the site gave"],
    ),
    "a fund's reserved": (
        "UPDATE funds SET reserved = 99 WHERE fund_id = 2",
        ["fund 2", "reserved is kept as 99, its entries sum to 53"],
    ),
    "a fund's spent": (
        "UPDATE funds SET spent = 0 WHERE fund_id = 1",
        ["fund 1", "the cluster", "spent is kept as 0, its entries sum to 40"],
    ),
    "what is in flight": (
        "UPDATE funds SET in_flight = 0 WHERE fund_id = 2",
        ["in_flight is kept as 0, its running claims have 23"],
    ),
    "the number of entries": (
        "UPDATE funds SET entries = 5 WHERE fund_id = 2",
        ["entries is kept as 5, it has 8"],
    ),
    "a fund's reservation below zero": (
        "UPDATE funds SET reserved = -5, in_flight = -5 WHERE fund_id = 2",
        ["fund 2", "reserved is -5, below zero"],
    ),
    "money moved between funds of two units": (
        "UPDATE funds SET available = available + 7 WHERE fund_id = 4",
        ["the site gave 7 (gpu_seconds) by the entries, all funds have 14"],
    ),
    "an entry's amount": (
        f"UPDATE entries SET amount = 41 WHERE {CHARGE} = 1",
        ["fund 1", "claim 1 (job 1,", "charged is kept as 40, its entries sum to 41"],
    ),
    "an entry's GPU-seconds": (
        f"UPDATE entries SET gpu_seconds = 9 WHERE {CHARGE} = 1",
        ["claim 1 (job 1,", "gpu_seconds is kept as 8, its entries sum to 9"],
    ),
    "an entry that is gone": (
        f"DELETE FROM entries WHERE {CHARGE} = 1",
        ["claim 1 (job 1,", "ran in the period of fund 1", "40 charged are kept, and there is no"],
    ),
    "an entry that was made twice": (
        "INSERT INTO entries (cluster, time, kind, fund_id, source, target, amount, gpu_seconds, "
        "rule, actor, reason, batch, sequence, claim_id) SELECT cluster, time, kind, fund_id, "
        "source, target, amount, gpu_seconds, rule, actor, reason, batch, 1, claim_id "
        f"FROM entries WHERE {CHARGE} = 1",
        ["claim 1 (job 1,", "charged is kept as 40, its entries sum to 80"],
    ),
    "an entry's rule": (
        "UPDATE entries SET rule = 'B-011' WHERE kind = 'refund'",
        ["claim 1 (job 1,", "refunded is kept as 5", "charged is kept as 40"],
    ),
    "an entry below zero": (
        "UPDATE entries SET amount = -1000 WHERE kind = 'grant' AND fund_id = 2",
        ["fund 2: its amount is -1000"],
    ),
    "a move that its kind has not": (
        "UPDATE entries SET source = 'spent' WHERE kind = 'grant' AND fund_id = 2",
        ["fund 2: 1 entries grant move from spent to available"],
    ),
    "a kind there is not": (
        "UPDATE entries SET kind = 'gift' WHERE kind = 'grant' AND fund_id = 2",
        ["entries gift move from site to available"],
    ),
    "an entry of a fund there is not": (
        "UPDATE entries SET fund_id = 77 WHERE kind = 'grant' AND fund_id = 2",
        ["fund 77: it has entries and does not exist", "fund 2"],
    ),
    "an entry of a claim there is not": (
        "UPDATE entries SET claim_id = 77 WHERE kind = 'refund'",
        ["claim 77 does not exist", "claim 1 (job 1,"],
    ),
    "an entry that went to another cluster": (
        "UPDATE entries SET cluster = 'other' WHERE kind = 'refund'",
        ["fund 2", "spent is kept as 35"],
    ),
    "a number that is left out": (
        "UPDATE entries SET sequence = 2 WHERE claim_id = 3 AND sequence = 1",
        ["claim 3, fund 2: 2 entries reserve are numbered from 0 to 2"],
    ),
    "a leg's reservation": (
        "UPDATE legs SET reserved = 31 WHERE claim_id = 2",
        ["claim 2 (job 2,", "reserved is kept as 31, its entries sum to 30"],
    ),
    "a leg's charge": (
        "UPDATE legs SET charged = 0 WHERE claim_id = 1 AND fund_id = 2",
        ["claim 1 (job 1,", "fund 2: charged is kept as 0, its entries sum to 40"],
    ),
    "a leg's refund": (
        "UPDATE legs SET refunded = 40 WHERE claim_id = 1 AND fund_id = 2",
        ["refunded is kept as 40, its entries sum to 5"],
    ),
    "a leg's GPU-seconds": (
        "UPDATE legs SET gpu_seconds = 0 WHERE claim_id = 1 AND fund_id = 1",
        ["gpu_seconds is kept as 0, its entries sum to 8"],
    ),
    "a leg below zero": (
        "UPDATE legs SET reserved = -30 WHERE claim_id = 2",
        ["claim 2 (job 2,", "-30 of fund 2 is reserved, below zero"],
    ),
    "a leg that is gone": (
        "DELETE FROM legs WHERE claim_id = 2",
        ["claim 2 (job 2,", "reserved is kept as 0, its entries sum to 30"],
    ),
    "a leg of nothing": (
        "INSERT INTO legs VALUES (4, 2, 9, 0, 0, 0)",
        ["claim 4 (promise 't1')", "9 reserved and 0 charged are kept, and there is no entry"],
    ),
    "a leg of a claim there is not": (
        "INSERT INTO legs VALUES (77, 2, 0, 0, 0, 0)",
        ["claim 77 has a part of fund 2 and does not exist"],
    ),
    "a leg of a fund there is not": (
        "INSERT INTO legs VALUES (4, 77, 0, 0, 0, 0)",
        ["claim 4 (promise 't1') has a part of fund 77, which does not exist"],
    ),
    "a claim that ended": (
        "UPDATE claims SET state = 'ended' WHERE claim_id = 3",
        ["claim 3 (job 3,", "23 of fund 2 is reserved, and it has ended", "is not settled"],
    ),
    "a run that is not settled": (
        "UPDATE claims SET settled = false WHERE claim_id = 1",
        ["claim 1 (job 1, submitted 1800000000) ended (COMPLETED) and is not settled"],
    ),
    "a run that ran on": (
        f"UPDATE claims SET seconds = {5 * HOUR} WHERE claim_id = 1",
        ["claim 1 (job 1,", "ran in the period of fund 3, of the cluster, and is not charged"],
    ),
    "a run that ran at another time": (
        f"UPDATE claims SET start_time = {NOW + 3 * HOUR} WHERE claim_id = 1",
        ["did not run in the period of fund 1", "ran in the period of fund 3"],
    ),
    "a run before there were books": (
        "UPDATE claims SET start_time = 1 WHERE claim_id = 1",
        ["is settled, and the cluster has no fund for when it ran"],
    ),
    "a cost that is not what was charged": (
        "UPDATE claims SET accrued_micros = 41, accrued_gpu_seconds = 9, accrued_until = end_time "
        "WHERE claim_id = 1",
        ["claim 1 (job 1,", "cost 41 micro-units and 9 GPU-seconds", "were charged 40 and 8"],
    ),
    "a refund of more than was charged": (
        "UPDATE legs SET refunded = 41 WHERE claim_id = 1 AND fund_id = 2",
        ["claim 1 (job 1,", "41 is given back on fund 2, of 40 charged"],
    ),
    "a claim that is gone": (
        "DELETE FROM claims WHERE claim_id = 1",
        ["claim 1 does not exist", "claim 1 has a part of fund 2 and does not exist"],
    ),
    "a fund that is gone": (
        "DELETE FROM funds WHERE fund_id = 2",
        ["fund 2: it has entries and does not exist", "fund 2, which does not exist"],
    ),
    "a fund that went to another cluster": (
        "UPDATE funds SET cluster = 'other' WHERE fund_id = 2",
        ["fund 2: it has entries and does not exist"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_was_tampered_with_is_found_and_named(filled, database, case):
    statement, words = CASES[case]
    tamper(database, statement)
    found = "\n".join(filled.problems())
    for each in words:
        assert each in found


def test_a_table_that_is_lost_does_not_fill_screens(filled, database):
    with filled.writing() as books:
        for claim in books.save([run(number) for number in range(100, 400)]):
            books.post(NOW, [posting("reserve", 2, 1, claim=claim)])
    tamper(database, "DELETE FROM legs")
    found = filled.problems()
    assert "and 207 more of that kind" in found
    assert len(found) < 150


def test_a_sum_of_more_than_64_bits_is_added_up_exactly(filled, database):
    tamper(
        database,
        f"UPDATE entries SET amount = {2**63 - 1} WHERE kind IN ('grant', 'reserve')",
    )
    found = "\n".join(filled.problems())
    assert f"its entries sum to {2**63 - 1 - 4 * (2**63 - 1) + 10 + 5}" in found


def test_what_the_policy_file_granted_is_granted_once(stored):
    one, later = opened(stored, fund("lab", "lab"), fund("lab", "lab", start=NOW))
    posted(stored, posting("grant", one.fund_id, 100, rule="B-005"))
    posted(stored, posting("adjust", one.fund_id, 30, rule="B-005", move=("available", "site")))
    posted(stored, posting("grant", one.fund_id, 5, rule="B-012"))
    posted(stored, posting("grant", later.fund_id, 9, rule="B-005", batch="carry:1"))
    with stored.writing() as books:  # closed by hand: the next one has had it
        books.set_mark(f"policy:{one.fund_id}", 0)
        books.set_mark(f"policy:{later.fund_id}", 70)
    assert stored.problems() == ()
    posted(stored, posting("grant", later.fund_id, 70, rule="B-005"))
    (problem,) = stored.problems()
    assert "'lab' of 'lab': 70 is kept as granted" in problem
    assert "its entries sum to 140" in problem
