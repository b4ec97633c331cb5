"""Jobs that their budget does not cover are held or moved, and let go again (B-006, B-007)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slurm_gpu_policy.model.action import Vote
from slurm_gpu_policy.model.job import JobState
from slurm_gpu_policy.model.ledger import Fund, FundView, LedgerState
from slurm_gpu_policy.model.people import People
from slurm_gpu_policy.model.tag import change_tag
from slurm_gpu_policy.policy.approval import verdicts
from slurm_gpu_policy.policy.ledger.over_budget import cover, kept_held
from slurm_gpu_policy.policy.over_quota import moves
from slurm_gpu_policy.services.orders import put_together
from tests.builders import NOW, make_association, make_job, make_policy, make_snapshot

WORDS = "account nlp has 0.50 GPU-hours left, and it needs 1.00"
HOUR = 3600
QOS = frozenset({"normal", "high", "idle"})


def waits(number=1, **fields):
    defaults = {
        "state": JobState.PENDING,
        "reason": "Priority",
        "start_time": None,
        "node_list": "",
    }
    return make_job(number, **defaults | fields)


def uncovered(*numbers, left=0):
    fund = Fund("nlp", "nlp", unit="gpu_seconds", available=left, fund_id=1)
    return LedgerState(
        NOW,
        views=(FundView(fund, 0, 0, 0),),
        uncovered=dict.fromkeys(numbers, WORDS),
        parents={"nlp": "root"},
    )


def site(**ledger):
    return make_policy(
        enforcement="enforce",
        budgets={"nlp": {"gpu_hours": 10}},
        ledger=ledger,
        submission={"over_budget_qos": "idle"},
    )


class World:
    """A queue in which what is decided is done, tick after tick."""

    def __init__(self, *jobs, qos=QOS):
        self.jobs = {job.job_id: job for job in jobs}
        self.now = NOW
        self.associations = (make_association(qos=qos),)

    def snapshot(self):
        return make_snapshot(
            time=self.now, jobs=tuple(self.jobs.values()), associations=self.associations
        )

    def tick(self, policy, state):
        """Do what a tick wants done, and return it in short."""
        snapshot = self.snapshot()
        actions = cover(snapshot, policy, state)
        for order in put_together(actions, snapshot):
            job = self.jobs[order.job_id]
            changes = dict(order.changes)
            if "priority" in changes:
                job = replace(job, priority=int(changes.pop("priority")), reason="JobHeldAdmin")
            job = replace(job, **changes)
            if order.last == "release":
                job = replace(job, priority=1000, reason="Priority")
            self.jobs[order.job_id] = job
        self.now += 60
        return [(action.verb, action.rule, int(action.job_id)) for action in actions]

    def until_rest(self, policy, state):
        done = []
        for _ in range(5):
            more = self.tick(policy, state)
            if not more:
                return done
            done += more
        pytest.fail(f"it does not come to rest: {done}")


# --- hold (B-006) ---------------------------------------------------------------------------


def test_an_uncovered_job_is_held_with_its_mark_in_one_change():
    snapshot = World(waits()).snapshot()
    (order,) = put_together(cover(snapshot, site(), uncovered(1)), snapshot)
    assert order.changes == {"priority": "0", "admin_comment": "gpu-policy(money=held)"}
    assert (order.first, order.last) == ("", "")


def test_the_reason_is_the_ledgers_with_what_follows():
    (action,) = cover(World(waits()).snapshot(), site(), uncovered(1))
    assert (action.rule, action.reason) == ("B-006", f"{WORDS}: held until that covers it")
    assert (action.before, action.after) == ("qos normal", "held")


def test_it_is_let_go_in_the_tick_in_which_it_is_covered_and_the_mark_goes_after():
    world = World(waits())
    world.tick(site(), uncovered(1))
    assert world.tick(site(), uncovered(1)) == []
    assert world.tick(site(), uncovered()) == [("release", "B-006", 1)]
    assert world.jobs[1].priority == 1000
    assert world.tick(site(), uncovered()) == [("modify", "B-006", 1)]
    assert world.jobs[1].admin_comment == ""
    assert world.tick(site(), uncovered()) == []


def test_it_is_held_again_where_its_cover_is_gone_before_it_started():
    world = World(waits())
    world.tick(site(), uncovered(1))
    world.tick(site(), uncovered())
    assert world.tick(site(), uncovered(1)) == [("modify", "B-006", 1)]
    assert world.jobs[1].priority == 0


def test_a_mark_goes_when_the_job_has_started():
    job = make_job(1, admin_comment="gpu-policy(money=held)")
    world = World(job)
    assert world.tick(site(), uncovered()) == [("modify", "B-006", 1)]
    assert world.tick(site(), uncovered()) == []


@pytest.mark.parametrize("reason", ["JobHeldUser", "JobHeldAdmin"])
def test_a_hold_of_somebody_else_is_neither_made_ours_nor_undone(reason):
    world = World(waits(priority=0, reason=reason))
    assert world.tick(site(), uncovered(1)) == []
    assert world.tick(site(), uncovered()) == []


def test_its_owners_own_hold_stays_when_ours_is_over():
    """Released by us, held by its owner before the mark was gone."""
    world = World(waits(priority=0, reason="JobHeldUser", admin_comment="gpu-policy(money=held)"))
    assert world.tick(site(), uncovered()) == [("modify", "B-006", 1)]
    assert (world.jobs[1].priority, world.jobs[1].admin_comment) == (0, "")
    assert world.tick(site(), uncovered()) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"reason": "DependencyNeverSatisfied"},
        {"reason": "BeginTime", "eligible_time": NOW + 10 * HOUR},
        {"state": JobState.RUNNING},
    ],
)
def test_what_could_not_start_anyway_is_left_alone(fields):
    assert World(waits(**fields)).tick(site(), uncovered(1)) == []


def test_a_job_that_begins_soon_or_waits_for_another_is_held():
    soon = waits(1, reason="BeginTime", eligible_time=NOW + 100)
    after = waits(2, reason="Dependency", eligible_time=None)
    assert len(World(soon, after).tick(site(), uncovered(1, 2))) == 2


def test_all_parts_of_a_heterogeneous_job_are_one():
    parts = (waits(1, het_job_id=1), waits(2, het_job_id=1, account="other"))
    world = World(*parts)
    snapshot = world.snapshot()
    (action,) = cover(snapshot, site(), uncovered(2))
    assert (action.job_id, action.display_id) == (1, "1")


ASKED = {"priority": 0, "reason": "JobHeldUser", "admin_comment": "gpu-policy(money=hold)"}


def test_what_job_submit_lua_held_is_let_go_if_covered_and_made_an_operators_hold_if_not():
    world = World(waits(**ASKED))
    assert world.until_rest(site(), uncovered()) == [
        ("release", "B-006", 1),
        ("modify", "B-006", 1),
    ]
    assert (world.jobs[1].priority, world.jobs[1].admin_comment) == (1000, "")
    world = World(waits(**ASKED))
    assert world.until_rest(site(), uncovered(1)) == [("modify", "B-006", 1)]
    assert world.jobs[1].reason == "JobHeldAdmin"
    assert world.jobs[1].admin_comment == "gpu-policy(money=held)"


def test_what_job_submit_lua_held_goes_to_idle_gpus_where_the_site_wants_that():
    world = World(waits(**ASKED))
    idle = site(when_spent="qos")
    world.tick(idle, uncovered(1))
    world.tick(idle, uncovered(1))
    world.until_rest(idle, uncovered())
    assert (world.jobs[1].qos, world.jobs[1].priority) == ("idle", 1000)


def test_nothing_is_held_where_the_site_wants_nothing_and_what_was_held_is_let_go():
    world = World(waits())
    world.tick(site(), uncovered(1))
    nothing = site(when_spent="nothing")
    assert world.until_rest(nothing, uncovered(1)) == [
        ("release", "B-006", 1),
        ("modify", "B-006", 1),
    ]
    assert World(waits()).tick(nothing, uncovered(1)) == []


def test_a_hold_wins_over_a_site_factor_which_would_give_it_a_priority_again():
    snapshot = World(waits()).snapshot()
    (hold,) = cover(snapshot, site(), uncovered(1))
    factor = replace(hold, verb="site_factor", changes=(), mark=(), site_factor=500)
    (order,) = put_together([hold, factor], snapshot)
    assert "site_factor" not in order.changes


# --- the over-budget QOS (B-007) ------------------------------------------------------------


def test_an_uncovered_job_goes_to_idle_gpus_and_comes_home_once_what_is_left_covers_it():
    world = World(waits(qos="high"))
    idle = site(when_spent="qos")
    assert world.tick(idle, uncovered(1)) == [("modify", "B-007", 1)]
    assert world.jobs[1].qos == "idle"
    assert world.jobs[1].admin_comment == "gpu-policy(money=qos;money_home=high)"
    assert world.tick(idle, uncovered(left=HOUR - 1)) == []
    assert world.tick(idle, uncovered(left=HOUR)) == [("modify", "B-007", 1)]
    assert (world.jobs[1].qos, world.jobs[1].admin_comment) == ("high", "")


def test_the_oldest_comes_home_first_and_counts_for_the_others():
    jobs = [waits(n, qos="idle", admin_comment="gpu-policy(money=qos;money_home=normal)",
                  submit_time=NOW - n) for n in (1, 2, 3)]  # fmt: skip
    world = World(*jobs)
    world.tick(site(when_spent="qos"), uncovered(left=2 * HOUR))
    assert [world.jobs[n].qos for n in (1, 2, 3)] == ["idle", "normal", "normal"]


def test_the_tasks_of_an_array_are_all_counted():
    array = waits(1, qos="idle", array_job_id=1, array_task="1-3",
                  admin_comment="gpu-policy(money=qos;money_home=normal)")  # fmt: skip
    assert World(array).tick(site(when_spent="qos"), uncovered(left=3 * HOUR - 1)) == []
    assert World(array).tick(site(when_spent="qos"), uncovered(left=3 * HOUR)) != []


def test_without_a_home_in_the_mark_the_association_says_it():
    world = World(waits(qos="idle", admin_comment="gpu-policy(money=qos)"))
    world.tick(site(when_spent="qos"), uncovered(left=HOUR))
    assert world.jobs[1].qos == "normal"


def test_who_may_not_use_the_qos_is_held():
    world = World(waits(), qos=frozenset({"normal"}))
    assert world.tick(site(when_spent="qos"), uncovered(1)) == [("modify", "B-006", 1)]
    assert world.jobs[1].priority == 0


def test_a_held_job_goes_over_in_steps_of_which_none_lets_it_start_uncovered():
    world = World(waits())
    world.tick(site(), uncovered(1))
    idle = site(when_spent="qos")
    world.tick(idle, uncovered(1))
    assert (world.jobs[1].qos, world.jobs[1].priority) == ("idle", 0)
    world.until_rest(idle, uncovered())  # in that QOS it is never uncovered
    assert (world.jobs[1].qos, world.jobs[1].priority) == ("idle", 1000)
    assert "money=qos" in world.jobs[1].admin_comment


def test_a_job_on_idle_gpus_is_held_at_home_where_the_site_holds_now():
    world = World(waits(qos="idle", admin_comment="gpu-policy(money=qos;money_home=normal)"))
    world.tick(site(), uncovered())
    assert (world.jobs[1].qos, world.jobs[1].priority) == ("normal", 0)
    assert world.tick(site(), uncovered(1)) == []
    world.until_rest(site(), uncovered())
    assert (world.jobs[1].priority, world.jobs[1].admin_comment) == (1000, "")


def test_a_job_that_chose_that_qos_itself_stays():
    assert World(waits(qos="idle")).tick(site(when_spent="qos"), uncovered(left=10 * HOUR)) == []


# --- beside other rules ---------------------------------------------------------------------

APPROVALS = {"thresholds": [{"gpus": 4}], "approvers": {"users": ["u4"]}}
PENDING = "gpu-policy(approval=pending;size=8:3600:1)"


def test_a_job_that_waits_for_an_approval_stays_as_it_is():
    held = waits(gpus=8, priority=0, reason="JobHeldAdmin", admin_comment=PENDING)
    world = World(held)
    assert world.tick(site(), uncovered(1)) == []
    assert world.tick(site(), uncovered()) == []


def test_an_approved_job_that_is_not_covered_stays_held_for_its_budget_and_is_then_let_go():
    policy = make_policy(
        enforcement="enforce", approvals=APPROVALS, budgets={"nlp": {"gpu_hours": 10}}
    )
    held = waits(gpus=8, priority=0, reason="JobHeldAdmin", admin_comment=PENDING)
    world = World(held)
    votes = (Vote(1, NOW, "u4", "approve", "yes", NOW + 1),)
    state = uncovered(1)
    snapshot = world.snapshot()
    (action,) = verdicts(snapshot, policy, votes, People(), kept_held(policy, state))
    assert (action.verb, action.rule) == ("modify", "V-903")
    comment = change_tag(held.admin_comment, dict(action.mark))
    world.jobs[1] = replace(held, admin_comment=comment)
    assert "approval=approved" in comment
    assert verdicts(world.snapshot(), policy, votes, People(), kept_held(policy, state)) == ()
    assert world.tick(policy, state) == []
    assert world.until_rest(policy, uncovered()) == [
        ("release", "B-006", 1),
        ("modify", "B-006", 1),
    ]
    assert "approval=approved" in world.jobs[1].admin_comment


def test_a_covered_job_whose_approval_is_missing_is_not_let_go_by_its_budget():
    both = change_tag(PENDING, {"money": "held"})
    world = World(waits(gpus=8, priority=0, reason="JobHeldAdmin", admin_comment=both))
    world.until_rest(site(), uncovered())
    assert (world.jobs[1].priority, world.jobs[1].admin_comment) == (0, PENDING)


def test_where_holding_is_not_enforced_an_approval_lets_go():
    policy = make_policy(rules={"B-006": "advise"}, enforcement="enforce")
    assert kept_held(policy, uncovered(1)) == ()


def test_a_job_held_for_its_budget_takes_no_part_of_a_guarantee():
    policy = make_policy(
        enforcement="enforce",
        accounts={"nlp": {"guaranteed_gpus": 8}},
        over_quota={"guaranteed_qos": "normal", "over_quota_qos": "high"},
        budgets={"nlp": {"gpu_hours": 10}},
    )
    held = waits(
        1, gpus=8, priority=0, reason="JobHeldAdmin", admin_comment="gpu-policy(money=held)"
    )
    other = waits(
        2, gpus=8, qos="high", admin_comment="gpu-policy(home=high)", submit_time=NOW - 60
    )
    tree = (make_association("nlp", ""), make_association())
    snapshot = make_snapshot(jobs=(held, other), associations=tree)
    assert [int(action.job_id) for action in moves(snapshot, policy)] == [2]


def test_a_job_in_the_over_budget_qos_is_left_there_by_the_guarantees():
    policy = make_policy(
        enforcement="enforce",
        accounts={"nlp": {"guaranteed_gpus": 8}},
        over_quota={"guaranteed_qos": "normal", "over_quota_qos": "high"},
        submission={"over_budget_qos": "idle"},
    )
    moved = waits(1, qos="idle", admin_comment="gpu-policy(money=qos;money_home=normal)")
    tree = (make_association("nlp", ""), make_association(qos=QOS))
    assert moves(make_snapshot(jobs=(moved,), associations=tree), policy) == ()
