"""What RecordsPort promises, held against the fake, SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slurm_gpu_policy.model.action import Action, AuditEntry, Lease, Vote
from slurm_gpu_policy.model.ids import JobId
from tests.builders import NOW

ACTOR = "gpu-policyd@head1"


def make_action(job=7, **fields):
    defaults = {
        "verb": "site_factor",
        "job_id": JobId(job),
        "display_id": str(job),
        "rule": "P-601",
        "reason": "the user's deadline is near",
        "before": "site 0",
        "after": "site 100",
        "user": "u1",
        "site_factor": 100,
    }
    return Action(**{**defaults, **fields})


def begin(records, *actions, now=NOW, level="enforce"):
    return records.begin(ACTOR, now, [(action, level) for action in actions])


def make_vote(job=7, approver="u2", **fields):
    defaults = {"submit_time": NOW, "verdict": "approve", "reason": "fine", "time": NOW}
    return Vote(job_id=JobId(job), approver=approver, **{**defaults, **fields})


# --- the lease -----------------------------------------------------------------------------------


def test_nobody_has_the_lease_at_first(records):
    assert records.lease() == Lease()


def test_a_lease_that_stands_as_seen_is_taken(records):
    assert records.take("one", Lease()) == Lease("one", 1)
    assert records.lease() == Lease("one", 1)


def test_of_two_that_saw_the_same_lease_the_second_gets_nothing(records):
    seen = records.lease()
    assert records.take("one", seen) == Lease("one", 1)
    assert records.take("two", seen) is None
    assert records.lease() == Lease("one", 1)


def test_a_renewal_counts_up_so_that_others_see_it(records):
    first = records.take("one", Lease())
    assert records.take("one", first) == Lease("one", 2)
    assert records.take("one", first) is None


def test_a_lease_is_taken_over_from_its_holder(records):
    seen = records.take("one", Lease())
    assert records.take("two", seen) == Lease("two", 2)
    assert records.take("one", seen) is None


def test_a_lease_that_was_never_seen_so_is_not_taken(records):
    assert records.take("one", Lease("two", 5)) is None
    assert records.take("one", Lease("", 5)) is None
    assert records.lease() == Lease()


def test_the_holder_gives_the_lease_back_and_its_count_goes_on(records):
    records.take("one", Lease())
    records.resign("one")
    assert records.lease() == Lease("", 1)
    assert records.take("two", Lease()) is None
    assert records.take("two", Lease("", 1)) == Lease("two", 2)


def test_who_does_not_hold_the_lease_cannot_give_it_back(records):
    records.take("one", Lease())
    records.resign("two")
    assert records.lease() == Lease("one", 1)


# --- the audit log -------------------------------------------------------------------------------


def test_an_entry_stands_unfinished_before_its_action_begins(records):
    action = make_action()
    (entry_id,) = begin(records, action, level="advise")
    expected = AuditEntry(entry_id, NOW, ACTOR, action, "advise")
    assert records.unfinished() == (expected,)
    assert records.entries() == (expected,)


def test_every_field_of_an_action_comes_back(records):
    action = make_action(
        verb="modify",
        display_id="7_[1-3]",
        changes=(("qos", "low"), ("comment", "a=b;c'd")),
        mark=(("moved", "1800000000"), ("home", "")),
        site_factor=None,
    )
    begin(records, action)
    (entry,) = records.entries()
    assert entry.action == action


@pytest.mark.parametrize("factor", [None, 0, -(2**31), 2**31])
def test_a_site_factor_of_nothing_is_not_zero(records, factor):
    begin(records, make_action(site_factor=factor))
    (entry,) = records.entries()
    assert entry.action.site_factor == factor


def test_a_finished_entry_has_its_outcome_and_slurms_words(records):
    (entry_id,) = begin(records, make_action())
    records.finish(NOW + 2, {entry_id: ("refused", "Invalid job id specified")})
    (entry,) = records.entries()
    assert (entry.outcome, entry.words) == ("refused", "Invalid job id specified")
    assert (entry.time, entry.finished) == (NOW, NOW + 2)
    assert records.unfinished() == ()


def test_a_finished_entry_stays_as_it_is(records):
    first, second = begin(records, make_action(1), make_action(2))
    records.finish(NOW, {first: ("done", "")})
    records.finish(NOW + 9, {first: ("failed", "again"), second: ("failed", "new")})
    assert [(entry.outcome, entry.words) for entry in records.entries()] == [
        ("done", ""),
        ("failed", "new"),
    ]


def test_an_entry_that_does_not_exist_is_no_error(records):
    records.finish(NOW, {12345: ("done", "")})
    assert records.entries() == ()


def test_ids_are_in_the_order_of_the_actions_and_never_used_twice(records):
    first = begin(records, *(make_action(job) for job in range(1, 40)))
    second = begin(records, make_action(40))
    assert sorted({*first, *second}) == [*first, *second]
    assert [entry.entry_id for entry in records.entries()] == [*first, *second]
    assert [entry.action.job_id for entry in records.entries()] == list(range(1, 41))


def test_nothing_wanted_is_nothing_written(records):
    assert records.begin(ACTOR, NOW, []) == ()
    records.finish(NOW, {})
    assert records.entries() == ()


def test_the_log_of_one_job(records):
    begin(records, make_action(1), make_action(2), make_action(1, rule="Q-701"))
    assert [entry.action.rule for entry in records.entries(job_id=JobId(1))] == ["P-601", "Q-701"]
    assert records.entries(job_id=JobId(3)) == ()


def test_the_log_since_a_time_includes_that_second(records):
    for offset in range(4):
        begin(records, make_action(offset), now=NOW + offset)
    found = records.entries(since=NOW + 2)
    assert [entry.action.job_id for entry in found] == [2, 3]


def test_a_limit_keeps_the_newest_and_shows_them_oldest_first(records):
    begin(records, *(make_action(job) for job in range(5)))
    assert [entry.action.job_id for entry in records.entries(limit=2)] == [3, 4]
    assert records.entries(limit=0) == ()


def test_ten_thousand_actions_are_one_batch(records):
    ids = begin(records, *(make_action(job) for job in range(10_000)))
    records.finish(NOW, dict.fromkeys(ids, ("done", "")))
    assert len(set(ids)) == 10_000
    assert records.unfinished() == ()
    assert len(records.entries(limit=20_000)) == 10_000


HOSTILE = [
    "'; DROP TABLE audit; --",
    '%s %(a)s :name {} ${x} \\ "quoted"',
    "two\nlines\r\x1b[31m\ttab",
    "سلام 你好 🙂 \u202e\u2028",
    "",
    " ",
    "x" * 100_000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_other_peoples_text_comes_back_as_it_was(records, text):
    action = make_action(display_id=text, reason=text, before=text, after=text, user=text)
    action = replace(action, changes=((text, text),), mark=((text, text),))
    (entry_id,) = begin(records, action)
    records.finish(NOW, {entry_id: ("refused", text)})
    records.vote(make_vote(approver=text, reason=text))
    (entry,) = records.entries()
    assert entry.action == action
    assert entry.words == text
    assert [(vote.approver, vote.reason) for vote in records.votes()] == [(text, text)]


# --- votes ---------------------------------------------------------------------------------------


def test_votes_come_back_oldest_first(records):
    votes = [make_vote(approver=name, time=NOW - index) for index, name in enumerate("abc")]
    for vote in votes:
        records.vote(vote)
    assert records.votes() == tuple(votes)


def test_a_later_vote_of_the_same_approver_replaces_the_earlier(records):
    records.vote(make_vote(approver="a"))
    records.vote(make_vote(approver="b"))
    changed = make_vote(approver="a", verdict="deny", reason="second thoughts")
    records.vote(changed)
    assert records.votes() == (make_vote(approver="b"), changed)


def test_a_job_id_used_again_by_slurm_has_no_votes_of_its_namesake(records):
    old, new = make_vote(submit_time=NOW), make_vote(submit_time=NOW + 5)
    records.vote(old)
    records.vote(new)
    assert records.votes([JobId(7)]) == (old, new)


@pytest.mark.parametrize("asked", [[1, 3], [1, 3, *range(100, 5000)], [3, 3, 1]])
def test_votes_on_some_jobs(records, asked):
    for job in (1, 2, 3):
        records.vote(make_vote(job))
    assert [vote.job_id for vote in records.votes([JobId(job) for job in asked])] == [1, 3]
