"""Planning and applying: what is remembered when, what is written, and what is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slurm_gpu_policy.errors import NotAllowed, SlurmTimeout, SlurmUnavailable
from slurm_gpu_policy.model.plan import Made
from slurm_gpu_policy.services.plan import Planning
from tests.builders import make_policy
from tests.fakes.accounts import FakeAccounts, FakeFiles, FakeMade
from tests.fakes.slurm import FakeSlurm
from tests.fakes.world import default_config

SCRIPT = "/ours/job_submit.lua"
THERE = "/etc/slurm/job_submit.lua"
TABLE = "/etc/slurm-gpu-policy/limits.lua"
LAB = {"lab": {"users": ["u1"]}}


class Office:
    """Everything that Planning asks, all of it fake."""

    def __init__(self, **settings):
        config = default_config()
        given = {"SLURM_CONF": "/etc/slurm/slurm.conf", "PreemptType": "preempt/qos", **settings}
        self.slurm = FakeSlurm(
            config=replace(config, settings={**config.settings, **given}), user="root"
        )
        self.manage, self.made = FakeAccounts(), FakeMade()
        self.files = FakeFiles({SCRIPT: "-- ours\n"})

    def planning(self, **policy):
        return Planning(
            slurm=self.slurm,
            manage=self.manage,
            made=self.made,
            files=self.files,
            policy=make_policy(**policy),
            script=SCRIPT,
        )

    def draft(self, **policy):
        return self.planning(**policy).draft()

    def apply(self, **policy):
        planning = self.planning(**policy)
        with planning.alone():
            draft = planning.draft()
            return planning.carry_out(draft, lambda _: None)

    @property
    def remembered(self):
        return self.made.load("fake")


@pytest.fixture
def office():
    return Office()


def test_a_second_apply_does_nothing(office):
    office.apply(accounts=LAB)
    assert office.draft(accounts=LAB).is_empty
    writes = len(office.manage.writes)
    assert office.apply(accounts=LAB) == ()
    assert len(office.manage.writes) == writes


def test_planning_changes_nothing(office):
    draft = office.draft(accounts=LAB)
    assert draft.plan.changes
    assert office.manage.writes == []
    assert office.made.kept == {}
    assert office.files.texts == {SCRIPT: "-- ours\n"}


def test_an_object_is_remembered_before_it_is_made(office, monkeypatch):
    seen = []
    carry_out = office.manage.carry_out

    def watch(cluster, change):
        seen.append((change.what, change.what in office.remembered.objects))
        return carry_out(cluster, change)

    monkeypatch.setattr(office.manage, "carry_out", watch)
    office.apply(accounts=LAB)
    assert seen == [(("account", "lab"), True), (("user", "lab", "u1"), True)]


def test_a_removed_object_is_forgotten_after_it_is_gone(office, monkeypatch):
    office.apply(accounts=LAB)
    seen = []
    carry_out = office.manage.carry_out

    def watch(cluster, change):
        seen.append(change.what in office.remembered.objects)
        return carry_out(cluster, change)

    monkeypatch.setattr(office.manage, "carry_out", watch)
    office.apply()
    assert seen == [True, True, True]
    assert office.remembered == Made()


def test_what_others_make_between_plan_and_step_is_left_to_them(office):
    planning = office.planning(accounts=LAB)
    draft = planning.draft()
    office.manage.make_account("lab")
    steps = planning.carry_out(draft, lambda _: None)
    assert "somebody else has made it" in steps[0].refused
    assert ("account", "lab") not in office.remembered.objects
    assert ("user", "lab", "u1") in office.remembered.objects


def test_what_slurm_refuses_is_told_in_its_words_and_the_rest_goes_on(office):
    planning = office.planning(accounts={"lab": {"qos": ["normal"]}, "lab-b": {}})
    draft = planning.draft()
    del office.manage.objects["qos", "normal"]
    told = []
    steps = planning.carry_out(draft, told.append)
    assert list(steps) == told
    assert steps[0].refused == "You gave a bad qos 'normal'."
    assert ("account", "lab-b") in office.manage.objects
    assert ("account", "lab") not in office.remembered.objects


def test_who_is_no_administrator_leaves_nothing_behind(office):
    office.manage.is_administrator = False
    with pytest.raises(NotAllowed):
        office.apply(accounts=LAB)
    assert office.remembered == Made()


@pytest.mark.parametrize(("error", "is_kept"), [(SlurmTimeout, True), (SlurmUnavailable, False)])
def test_only_a_step_that_may_have_happened_stays_remembered(office, monkeypatch, error, is_kept):
    def fail(cluster, change):
        msg = "away"
        raise error(msg)

    monkeypatch.setattr(office.manage, "carry_out", fail)
    with pytest.raises(error):
        office.apply(accounts=LAB)
    assert (("account", "lab") in office.remembered.objects) is is_kept


def test_the_queue_is_read_only_where_something_is_to_be_taken_away(office):
    office.apply(accounts=LAB)
    office.slurm.calls.clear()
    office.draft(accounts=LAB)
    assert len(office.slurm.calls) == 1
    office.draft()
    assert len(office.slurm.calls) == 3


# --- the files ----------------------------------------------------------------------------


def test_the_script_and_its_table_are_written_with_their_generation(office):
    office.apply()
    script, table = office.files.texts[THERE], office.files.texts[TABLE]
    assert script.startswith("-- generation ")
    assert script.endswith("\n-- ours\n")
    assert table.startswith("-- generation ")


def test_a_new_release_of_the_script_replaces_the_old_one(office):
    office.apply()
    office.files.texts[SCRIPT] = "-- ours, newer\n"
    (change,) = office.draft().files
    assert change.path == THERE
    assert change.after.endswith("\n-- ours, newer\n")


def test_a_script_that_is_not_ours_is_never_overwritten(office):
    office.files.texts[THERE] = "-- theirs\n"
    draft = office.draft()
    assert [one.path for one in draft.files] == [TABLE]
    assert any(f"{THERE} is not ours" in one for one in draft.remarks)


def test_our_script_put_there_by_hand_is_good(office):
    office.files.texts[THERE] = "-- ours\n"
    assert [one.path for one in office.draft().files] == [TABLE]


def test_the_table_knows_the_accounts_as_they_will_be(office):
    policy = {
        "accounts": {"lab": {"closed": True}, "lab-a": {"parent": "lab"}},
        "limits": {"accounts": {"lab": {"gpus": 4}}},
    }
    office.apply(**policy)
    assert '["lab-a"]' in office.files.texts[TABLE]
    assert '["closed"] = true' in office.files.texts[TABLE]
    assert office.draft(**policy).is_empty


def test_files_can_be_left_to_others(office):
    assert office.draft(apply={"job_submit": False}).files == ()


@pytest.mark.parametrize(
    ("settings", "policy", "said"),
    [
        ({"JobSubmitPlugins": "(null)"}, {}, "no JobSubmitPlugins=lua"),
        ({"PreemptType": "preempt/none"}, {"over_quota": {}}, "no PreemptType=preempt/qos"),
        (
            {"AccountingStorageEnforce": "associations"},
            {"accounts": LAB},
            "no AccountingStorageEnforce=limits",
        ),
        ({"SLURM_CONF": ""}, {}, "does not say where slurm.conf is"),
    ],
)
def test_what_slurm_conf_lacks_is_said(settings, policy, said):
    draft = Office(**settings).draft(**policy)
    assert any(said in one for one in draft.remarks)
