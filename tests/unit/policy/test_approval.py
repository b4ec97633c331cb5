"""Votes and verdicts: who may vote, what counts, what becomes of the job."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slurm_gpu_policy.model.action import Vote
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.people import People
from slurm_gpu_policy.model.tag import change_tag, read_tag
from slurm_gpu_policy.policy.approval import is_within, verdicts
from slurm_gpu_policy.policy.thresholds import Size
from tests.builders import NOW, make_association, make_job, make_policy, make_snapshot

NOBODY = People()


def policy_with(**fields):
    return make_policy(
        approvals={
            "thresholds": [{"gpus": 8}],
            "approvers": {"users": ["u2", "u3", "u4"]},
            **fields,
        }
    )


def big(**fields):
    """A job of u1 with 16 GPUs that an operator, that is the controller, holds."""
    given = {
        "state": JobState.PENDING,
        "gpus": 16,
        "priority": 0,
        "reason": "JobHeldAdmin",
        "submit_time": NOW - 100,
        "start_time": None,
        "admin_comment": "gpu-policy(approval=pending;size=16:3600:1)",
    }
    return make_job(**{**given, **fields})


def raw(**fields):
    """The same job as sbatch left it."""
    return big(**{"priority": 1000, "reason": "Priority", "admin_comment": "", **fields})


def vote(approver, verdict="approve", **fields):
    given = {"job_id": JobId(1), "submit_time": NOW - 100, "reason": "fine", "time": NOW - 10}
    return Vote(approver=approver, verdict=verdict, **{**given, **fields})


def judged(job, policy, *votes, people=NOBODY):
    return verdicts(make_snapshot(jobs=(job,)), policy, votes, people)


def told(job, policy, *votes, people=NOBODY):
    """Return (verb, rule, approval in the mark) of the one action there is."""
    (action,) = judged(job, policy, *votes, people=people)
    return action.verb, action.rule, dict(action.mark).get("approval")


# --- V-901, V-902: held ---------------------------------------------------------------------


def test_a_raw_job_above_a_threshold_is_held_and_marked():
    (action,) = judged(raw(), policy_with())
    assert (action.verb, action.rule) == ("hold", "V-901")
    assert dict(action.mark) == {"approval": "pending", "size": "16:3600:1"}


def test_a_small_job_is_left_alone():
    assert not judged(raw(gpus=8), policy_with())


def test_a_hold_of_the_owner_becomes_one_that_the_owner_cannot_undo():
    assert told(raw(priority=0, reason="JobHeldUser"), policy_with()) == (
        "hold",
        "V-901",
        "pending",
    )


def test_a_job_that_its_owner_releases_is_held_again():
    released = big(priority=1000, reason="Priority")
    assert told(released, policy_with()) == ("hold", "V-902", "pending")


def test_a_job_that_waits_as_it_should_needs_nothing():
    assert not judged(big(), policy_with())


def test_a_job_that_was_held_at_its_submission_gets_its_size_marked():
    """job_submit.lua knows the hold, not yet the size in our form."""
    held = big(admin_comment="gpu-policy(approval=pending)")
    (action,) = judged(held, policy_with())
    assert (action.verb, dict(action.mark)["size"]) == ("modify", "16:3600:1")


def test_a_job_that_runs_is_not_touched():
    assert not judged(raw(state=JobState.RUNNING), policy_with())


def test_a_job_above_a_threshold_no_more_is_let_go():
    smaller = big(gpus=4)
    assert told(smaller, policy_with()) == ("release", "V-907", None)
    free = replace(smaller, priority=1000)
    assert told(free, policy_with()) == ("modify", "V-907", "")
    assert not judged(replace(free, admin_comment=""), policy_with())


def test_a_policy_without_thresholds_lets_go_what_waits_still():
    assert told(big(), make_policy()) == ("release", "V-907", None)


def test_a_group_is_judged_as_a_whole_and_held_by_its_number():
    first = replace(raw(gpus=1), job_id=JobId(14), het_job_id=JobId(14), display_id="14+0")
    second = replace(raw(gpus=8), job_id=JobId(15), het_job_id=JobId(14), display_id="14+1")
    snapshot = make_snapshot(jobs=(first, second))
    (action,) = verdicts(snapshot, policy_with(), (), NOBODY)
    assert (action.verb, action.job_id, action.display_id) == ("hold", 14, "14")
    assert dict(action.mark)["size"] == "9:3600:1"


# --- V-903: approved ------------------------------------------------------------------------


def test_enough_approvals_let_a_job_go_and_then_it_is_marked():
    assert told(big(), policy_with(), vote("u2")) == ("release", "V-903", "pending")
    free = big(priority=1000, reason="Priority")
    assert told(free, policy_with(), vote("u2")) == ("modify", "V-903", "approved")
    running = big(state=JobState.RUNNING, priority=1000, reason="")
    assert told(running, policy_with(), vote("u2")) == ("modify", "V-903", "approved")


def test_an_approved_job_is_left_alone_whatever_the_votes():
    done = big(priority=1000, admin_comment="gpu-policy(approval=approved;size=16:3600:1)")
    assert not judged(done, policy_with())
    assert not judged(done, policy_with(), vote("u2", "deny"))


def test_an_operator_may_hold_an_approved_job_and_it_stays_held():
    held = big(admin_comment="gpu-policy(approval=approved;size=16:3600:1)")
    assert not judged(held, policy_with(), vote("u2"))


def test_it_takes_as_many_different_approvers_as_the_site_says():
    policy = policy_with(needed=2)
    assert not judged(big(), policy, vote("u2"))
    assert not judged(big(), policy, vote("u2"), vote("u2", time=NOW - 5))
    assert told(big(), policy, vote("u2"), vote("u3"))[0] == "release"


@pytest.mark.parametrize(
    "invalid",
    [
        vote("u1"),
        vote("u9"),
        vote("u2", job_id=JobId(2)),
        vote("u2", submit_time=NOW - 200),
    ],
    ids=["the owner's", "a stranger's", "another job's", "an older job's of that number"],
)
def test_votes_that_do_not_count(invalid):
    policy = policy_with(approvers={"users": ["u1", "u2"]})
    assert not judged(big(), policy, invalid)


def test_who_is_no_approver_any_more_does_not_count():
    assert told(big(), policy_with(), vote("u2"))[0] == "release"
    assert not judged(big(), policy_with(approvers={"users": ["u3"]}), vote("u2"))


def test_a_group_approves_and_those_who_left_it_do_not():
    policy = policy_with(approvers={"groups": ["board"]})
    inside = People(groups={"u2": frozenset({"board"})})
    assert told(big(), policy, vote("u2"), people=inside)[0] == "release"
    assert not judged(big(), policy, vote("u2"), people=People(groups={"u2": frozenset()}))


def test_coordinators_of_the_account_or_one_above_it_approve():
    tree = (make_association("root", ""), make_association("nlp", "", parent="root"))
    snapshot = make_snapshot(jobs=(big(),), associations=tree)
    policy = policy_with(approvers={"coordinators": True})
    for account, counts in (("nlp", True), ("root", True), ("vision", False)):
        people = People(coordinators={account: frozenset({"u2"})})
        assert bool(verdicts(snapshot, policy, (vote("u2"),), people)) is counts
    off = policy_with(approvers={"users": ["u4"]})
    people = People(coordinators={"nlp": frozenset({"u2"})})
    assert not verdicts(snapshot, off, (vote("u2"),), people)


def test_votes_outlive_a_requeue_that_kept_the_first_submission():
    again = big(
        submit_time=NOW,
        admin_comment=f"gpu-policy(approval=pending;size=16:3600:1;first={NOW - 100})",
    )
    assert told(again, policy_with(), vote("u2"))[0] == "release"


def test_an_array_is_approved_as_a_whole():
    rest = replace(
        big(admin_comment=""), array_job_id=JobId(1), array_task="0-3%2", display_id="1_[0-3%2]"
    )
    (action,) = judged(rest, policy_with(), vote("u2"))
    assert (action.verb, action.display_id) == ("release", "1_[0-3]")
    assert dict(action.mark)["size"] == "16:3600:4"
    task = replace(rest, job_id=JobId(5), array_task="3", priority=1000)
    marked = replace(task, admin_comment="gpu-policy(approval=approved;size=16:3600:4)")
    assert not judged(marked, policy_with())


# --- V-904, V-905: denied, expired ----------------------------------------------------------


def test_one_denial_outweighs_all_approvals():
    votes = (vote("u2"), vote("u3", "deny", reason="no budget"), vote("u4"))
    (action,) = judged(big(), policy_with(), *votes)
    assert (action.verb, action.rule) == ("cancel", "V-904")
    assert action.reason == "u3 denied it: no budget"


def test_a_denied_job_stays_held_where_the_site_says_so():
    policy = policy_with(on_denial="keep")
    denial = vote("u3", "deny")
    assert told(big(), policy, denial) == ("modify", "V-904", "denied")
    denied = big(admin_comment="gpu-policy(approval=denied;size=16:3600:1)")
    assert not judged(denied, policy, denial)
    assert told(replace(denied, priority=9), policy, denial) == ("hold", "V-904", "denied")


def test_an_approver_may_change_their_mind():
    policy = policy_with(on_denial="keep")
    denied = big(admin_comment="gpu-policy(approval=denied;size=16:3600:1)")
    votes = (vote("u3", "deny"), vote("u3", time=NOW - 5))
    assert told(denied, policy, *votes)[0] == "release"


@pytest.mark.parametrize(("on_expiry", "verb"), [("keep", "modify"), ("cancel", "cancel")])
def test_a_job_that_nobody_approves_in_time_expires(on_expiry, verb):
    policy = policy_with(expires="2m", on_expiry=on_expiry)
    assert not judged(big(), policy)
    assert told(big(submit_time=NOW - 120), policy) == (verb, "V-905", "expired")
    expired = big(
        submit_time=NOW - 120, admin_comment="gpu-policy(approval=expired;size=16:3600:1)"
    )
    assert bool(judged(expired, policy)) is (on_expiry == "cancel")


def test_a_raw_job_that_expired_before_it_was_seen_is_held_first():
    assert told(raw(submit_time=NOW - 120), policy_with(expires="1m"))[0] == "hold"


# --- V-906: changed -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        (Size(16, 3600), True),
        (Size(8, 60), True),
        (Size(17, 3600), False),
        (Size(16, 3660), False),
        (Size(16, None), False),
        (Size(16, 3600, tasks=2), False),
    ],
)
def test_what_was_approved_covers_as_much_or_less(size, fits):
    assert is_within(size, "16:3600:1") is fits


def test_an_approval_without_a_time_limit_covers_any():
    assert is_within(Size(1, None), "1:0:1")
    assert is_within(Size(1, 10**9), "1:0:1")


@pytest.mark.parametrize("text", ["", "16", "16:x:1", "16:3600:1:1", "-1:1:1", "²:1:1"])
def test_a_size_that_cannot_be_read_covers_nothing(text):
    assert not is_within(Size(0, 0, 0), text)


def test_an_approved_job_that_grew_is_held_and_asks_anew():
    grown = big(gpus=32, priority=9, admin_comment="gpu-policy(approval=approved;size=16:3600:1)")
    (action,) = judged(grown, policy_with(), vote("u2"))
    assert (action.verb, action.rule) == ("hold", "V-906")
    assert dict(action.mark) == {"approval": "pending", "size": "32:3600:1", "asked": str(NOW)}


def test_a_waiting_job_that_shrank_is_waiting_as_it_is_now():
    """Who approves it then has not approved what it was before."""
    (action,) = judged(big(gpus=12), policy_with())
    assert (action.verb, dict(action.mark)["size"]) == ("modify", "12:3600:1")


def test_votes_on_the_smaller_job_are_void():
    policy = policy_with(needed=2)
    grown = big(gpus=32)
    (action,) = judged(grown, policy, vote("u2"))
    assert (action.verb, action.rule) == ("modify", "V-906")
    asked = replace(grown, admin_comment=change_tag(grown.admin_comment, dict(action.mark)))
    old, new = vote("u2"), vote("u3", time=NOW + 1)
    assert not judged(asked, policy, old, new)
    assert told(asked, policy, vote("u2", time=NOW + 2), new)[0] == "release"


# --- whatever happens -----------------------------------------------------------------------

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("tick"), st.integers(0, 3)),
        st.tuples(st.just("vote"), st.sampled_from(["u1", "u2", "u3", "u9"])),
        st.tuples(st.just("resize"), st.sampled_from([4, 16, 32])),
        st.tuples(st.sampled_from(["owner_releases", "owner_holds", "start"]), st.just(0)),
    ),
    max_size=40,
)


class World:
    """A job that two of u2 and u3 must approve, and a controller that dies at any point.

    A job cannot start between two looks at it here: that race is job_submit.lua's to close.
    """

    def __init__(self):
        self.policy = policy_with(needed=2)
        self.job = raw()
        self.now = NOW
        self.votes = []
        self.agreed = {}  # approver -> the size that they last approved
        self.looked = False  # whether the controller has judged the job as it is now
        self.started = False

    def tick(self, how):
        snapshot = replace(make_snapshot(jobs=(self.job,)), time=self.now)
        self.looked = True
        for action in verdicts(snapshot, self.policy, tuple(self.votes), NOBODY):
            if how == 0:  # died before it did anything
                self.looked = False
                return
            if action.verb == "hold":
                self.job = replace(self.job, priority=0, reason="JobHeldAdmin")
            elif action.verb == "release":
                self.job = replace(self.job, priority=1000, reason="Priority")
            if how > 1:  # else it died between the verb and the mark
                comment = change_tag(self.job.admin_comment, dict(action.mark))
                self.job = replace(self.job, admin_comment=comment)

    def vote(self, who):
        """As services/voting.py takes a vote: only on what is marked, and as it is marked."""
        size = read_tag(self.job.admin_comment, "gpu-policy").get("size")
        if self.job.gpus <= 8:
            return
        if size is None or int(size.partition(":")[0]) != self.job.gpus:
            self.tick(3)
        if size is not None and int(size.partition(":")[0]) < self.job.gpus:
            return
        self.votes.append(vote(who, time=self.now))
        self.agreed[who] = self.job.gpus

    def resize(self, gpus):
        self.looked = self.looked and gpus <= self.job.gpus
        self.job = replace(self.job, gpus=gpus)

    def owner_releases(self, _):
        if self.job.reason == "JobHeldUser":
            self.job, self.looked = replace(self.job, priority=1000, reason="Priority"), False

    def owner_holds(self, _):
        if self.job.priority:
            self.job = replace(self.job, priority=0, reason="JobHeldUser")

    def start(self, _):
        self.started = self.looked and self.job.priority > 0


@settings(max_examples=800, deadline=None)
@given(EVENTS)
@example([("vote", "u2"), ("vote", "u3"), ("resize", 32), ("tick", 3), ("start", 0)])
@example(
    [
        *(("resize", 32), ("vote", "u3"), ("resize", 16), ("vote", "u2"), ("resize", 32)),
        *(("tick", 1), ("start", 0)),
    ]
)
@example(
    [
        *(("vote", "u2"), ("vote", "u3"), ("resize", 4), ("tick", 1), ("tick", 2)),
        *(("resize", 32), ("tick", 1), ("start", 0)),
    ]
)
def test_what_starts_after_a_look_at_it_was_approved_as_it_is(events):
    world = World()
    for what, how in events:
        world.now += 1
        getattr(world, what)(how)
        if world.started:
            agreed = sum(world.agreed.get(who, 0) >= world.job.gpus for who in ("u2", "u3"))
            assert world.job.gpus <= 8 or agreed >= 2
            return


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["u1", "u2", "u3", "u9"]), st.sampled_from(["approve", "deny"])),
        max_size=8,
    )
)
def test_a_verdict_is_settled_after_two_ticks(cast):
    policy = policy_with(needed=2, on_denial="keep")
    votes = tuple(vote(who, what, time=NOW - 50 + i) for i, (who, what) in enumerate(cast))
    job = raw()
    for _ in range(3):
        for action in judged(job, policy, *votes):
            if action.verb == "hold":
                job = replace(job, priority=0, reason="JobHeldAdmin")
            elif action.verb == "release":
                job = replace(job, priority=1000, reason="Priority")
            job = replace(job, admin_comment=change_tag(job.admin_comment, dict(action.mark)))
    assert not judged(job, policy, *votes)
    state = read_tag(job.admin_comment, "gpu-policy")["approval"]
    latest = {who: what for who, what in cast if who in {"u2", "u3"}}
    if "deny" in latest.values():
        assert (state, job.priority) == ("denied", 0)
    elif len(latest) == 2:
        assert (state, job.priority) == ("approved", 1000)
    else:
        assert (state, job.priority) == ("pending", 0)


def test_a_job_that_slurm_may_give_more_than_it_shows_stays_held():
    """Such as ``-N 1-4``: job_submit.lua knows the upper end, and squeue shows the lower."""
    mark = "gpu-policy(approval=pending;size=16:3600:1;most=16)"
    assert judged(big(gpus=1, admin_comment=mark), policy_with()) == ()
    smaller = big(gpus=1, admin_comment=mark.replace(";most=16", ""))
    assert told(smaller, policy_with()) == ("release", "V-907", None)


APPROVED = "gpu-policy(approval=approved;size=16:3600:1;account=nlp;type=a100)"


def test_an_approval_is_for_the_account_that_it_was_given_on():
    """Else one account's coordinator would approve what another account pays."""
    free = big(priority=9, reason="Priority", admin_comment=APPROVED)
    assert not judged(replace(free, gpu_type="a100"), policy_with())
    (action,) = judged(replace(free, account="vision"), policy_with(), vote("u2"))
    assert (action.verb, action.rule) == ("hold", "V-906")
    assert "moved from account nlp to vision" in action.reason
    assert dict(action.mark) == {"approval": "pending", "size": "16:3600:1", "asked": str(NOW)}
    unknown = replace(free, account="vision", admin_comment=APPROVED.partition(";account")[0] + ")")
    assert not judged(unknown, policy_with())


def test_an_approval_does_not_cover_dearer_gpus():
    prices = {"a100": {"price_per_hour": "1"}, "h100": {"price_per_hour": "3"}}
    site = {
        "approvals": {"thresholds": [{"gpus": 8}], "approvers": {"users": ["u2"]}},
        "gpu_types": {**prices, "l4": {"price_per_hour": "0.5"}},
    }
    free = big(priority=9, reason="Priority", admin_comment=APPROVED)
    for gpu_type, verbs in (("a100", []), ("h100", ["hold"]), ("", ["hold"]), ("l4", [])):
        found = judged(replace(free, gpu_type=gpu_type), make_policy(**site), vote("u2"))
        assert [action.verb for action in found] == verbs
    same = make_policy(approvals=site["approvals"])
    assert not judged(replace(free, gpu_type="h100"), same)


def test_an_approval_says_what_it_is_for():
    free = big(priority=1000, reason="Priority", gpu_type="a+b", account="my lab")
    (action,) = judged(free, policy_with(), vote("u2"))
    assert dict(action.mark) == {
        "approval": "approved", "size": "16:3600:1", "account": "my_lab", "type": "a_b"
    }  # fmt: skip
    marked = change_tag(free.admin_comment, dict(action.mark))
    assert not judged(replace(free, admin_comment=marked), policy_with())


def test_a_group_on_two_accounts_is_approved_by_who_may_on_both():
    parts = tuple(
        replace(big(gpus=8, account=account), job_id=JobId(number), het_job_id=JobId(14))
        for number, account in ((14, "nlp"), (15, "vision"))
    )
    policy = policy_with(approvers={"coordinators": True})
    votes = (vote("u2", job_id=JobId(14)),)
    for accounts, verbs in ((("nlp",), []), (("vision",), []), (("nlp", "vision"), ["release"])):
        people = People(coordinators={account: frozenset({"u2"}) for account in accounts})
        found = verdicts(make_snapshot(jobs=parts), policy, votes, people)
        assert [action.verb for action in found] == verbs
