"""Slurm's limits follow what is left, and only ours are ever touched (rule B-008)."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.errors import NotAllowed, SlurmUnavailable
from slurm_gpu_policy.model.account import Qos
from slurm_gpu_policy.model.cluster import ClusterConfig
from slurm_gpu_policy.model.ledger import Fund, FundView, LedgerState
from slurm_gpu_policy.services.ledger.enforcing import Enforcing
from slurm_gpu_policy.services.ledger.slurm_limits import SlurmLimits
from tests.builders import NOW, make_policy, make_snapshot
from tests.fakes.books import FakeLedger
from tests.fakes.limits import FakeLimits
from tests.unit.policy.ledger.test_slurm_budget import SETTINGS

HOUR = 3600
NLP, USER = ("nlp", ""), ("nlp", "u1")
GPU = "gres/gpu"


class World:
    def __init__(self, *levels, qos=(), **policy):
        self.slurm = FakeLimits(*levels)
        self.ledger = FakeLedger()
        self.limits = SlurmLimits(self.slurm, self.ledger)
        self.policy = make_policy(**{"enforcement": "enforce", **policy})
        self.qos = qos
        self.settings = SETTINGS

    def tick(self, left, policy=None):
        """Let a tick see so much left, in GPU-seconds by level; return its remarks."""
        config = ClusterConfig("cluster", "22.05.8", self.settings)
        snapshot = make_snapshot(config=config, qos=self.qos)
        views = tuple(
            FundView(Fund("b", *level, unit="gpu_seconds", available=amount, fund_id=n), 0, 0, 0)
            for n, (level, amount) in enumerate(left.items(), 1)
        )
        return self.limits.run(snapshot, policy or self.policy, LedgerState(NOW, views=views))

    def limit(self, level, tres=GPU):
        return self.slurm.limits[level].get(tres)


def test_each_level_gets_its_limit_in_one_batch_and_then_nothing_is_written():
    world = World(NLP, USER, ("vision", ""))
    world.slurm.used[NLP, GPU] = 5 * 60
    assert world.tick({NLP: HOUR, USER: 600}) == ()
    assert (world.limit(NLP), world.limit(USER), world.limit(("vision", ""))) == (65, 10, None)
    world.tick({NLP: HOUR, USER: 600})
    assert len(world.slurm.batches) == 1


def test_a_grant_raises_and_a_spending_lowers_only_what_differs():
    world = World(NLP, USER)
    world.tick({NLP: HOUR, USER: 600})
    world.tick({NLP: HOUR + 60, USER: 600})
    assert [change.account + change.user for change in world.slurm.batches[-1]] == ["nlp"]
    assert world.limit(NLP) == 61


def test_while_jobs_run_the_cut_of_slurms_numbers_writes_nothing():
    world = World(NLP)
    world.slurm.running[NLP, GPU] = 600
    world.tick({NLP: HOUR})
    before = world.limit(NLP)
    for seconds in range(0, 600, 37):
        world.slurm.used[NLP, GPU] = seconds
        world.slurm.running[NLP, GPU] = 600 - seconds
        world.tick({NLP: HOUR})
        if seconds < 540:
            assert world.limit(NLP) == before
    world.slurm.used[NLP, GPU], world.slurm.running[NLP, GPU] = 600, 0
    world.tick({NLP: HOUR})
    assert world.limit(NLP) == 70  # at rest it is exact


def test_a_limit_that_is_not_ours_stays_and_is_said():
    world = World(NLP)
    world.slurm.limits[NLP][GPU] = 99
    remarks = world.tick({NLP: HOUR})
    assert world.limit(NLP) == 99
    assert remarks == ("account nlp has a GrpTRESMins of gres/gpu=99 that is not ours: it stays",)


def test_ours_go_with_the_budget_and_others_stay():
    world = World(NLP, USER)
    world.slurm.limits[NLP]["cpu"] = 7
    world.tick({NLP: HOUR, USER: HOUR})
    world.tick({NLP: HOUR})
    assert (world.limit(NLP), world.limit(USER)) == (60, None)
    world.tick({})
    assert world.slurm.limits[NLP] == {"cpu": 7}
    world.slurm.limits[NLP][GPU] = 5  # somebody's own from now on
    world.tick({})
    assert world.limit(NLP) == 5


@pytest.mark.parametrize("level", ["observe", "advise"])
def test_they_go_where_the_rule_is_not_enforced_any_more(level):
    world = World(NLP)
    world.tick({NLP: HOUR})
    milder = make_policy(enforcement="enforce", rules={"B-008": level})
    assert "B-008" in world.tick({NLP: HOUR}, milder)[0]
    assert world.limit(NLP) is None


def test_they_go_where_usage_decays_from_now_on():
    world = World(NLP)
    world.tick({NLP: HOUR})
    world.settings = {**SETTINGS, "PriorityDecayHalfLife": "7-00:00:00"}
    assert "decays" in world.tick({NLP: HOUR})[0]
    assert world.limit(NLP) is None


def test_a_new_leader_knows_what_is_ours():
    world = World(NLP)
    world.tick({NLP: HOUR})
    world.limits = SlurmLimits(world.slurm, world.ledger)
    world.tick({NLP: 60})
    assert world.limit(NLP) == 1


def test_a_controller_killed_between_its_mark_and_slurm_goes_on():
    world = World(NLP)
    world.slurm.failing = SlurmUnavailable("slurmdbd is away")
    with pytest.raises(SlurmUnavailable):
        world.tick({NLP: HOUR})
    world.slurm.failing = None
    world.limits = SlurmLimits(world.slurm, world.ledger)
    world.tick({NLP: HOUR})
    assert world.limit(NLP) == 60
    world.tick({})
    assert world.limit(NLP) is None


def test_an_association_that_slurm_has_not_is_passed_over():
    world = World(NLP)
    assert world.tick({("ghost", ""): HOUR, NLP: HOUR}) == ()
    assert world.limit(NLP) == 60


def test_a_cluster_that_does_not_count_gpus_is_named():
    world = World(NLP)
    world.slurm.counted = ("billing",)
    assert world.tick({NLP: HOUR}) == ("AccountingStorageTRES lacks gres/gpu: no limits in Slurm",)


def test_the_over_budget_qos_is_freed_from_its_accounts_limits():
    world = World(NLP, qos=(Qos("normal"), Qos("idle")), submission={"over_budget_qos": "idle"})
    world.tick({NLP: HOUR})
    assert world.slurm.qos["idle", GPU] > 10**12
    world.tick({})
    assert world.slurm.qos == {}


class FakeFiles:
    def __init__(self):
        self.written = {}

    def write(self, path, text):
        if "forbidden" in path:
            msg = f"{path} cannot be written"
            raise NotAllowed(msg)
        self.written[path] = text


def test_what_cannot_be_written_is_a_remark_and_the_rest_goes_on():
    slurm, files = FakeLimits(NLP), FakeFiles()
    slurm.failing = NotAllowed("be SlurmUser")
    enforcing = Enforcing(slurm, FakeLedger(), files)
    config = ClusterConfig("cluster", "22.05.8", SETTINGS)
    fund = Fund("b", "nlp", unit="gpu_seconds", available=HOUR, fund_id=1)
    state = LedgerState(NOW, views=(FundView(fund, 0, 0, 0),))
    policy = make_policy(enforcement="enforce", budgets={"nlp": {"gpu_hours": 1}},
                         ledger={"table": "/forbidden/budgets.lua"})  # fmt: skip
    remarks = enforcing.run(make_snapshot(config=config), policy, state)
    table, limits = remarks
    assert table.startswith("job_submit.lua does not know what accounts have left: /forbidden/")
    assert limits == "limits in Slurm are not kept: be SlurmUser"
