"""From what Slurm has to what the policy file wants, and nothing else."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.model.plan import Made
from slurm_gpu_policy.policy.planning.plan_words import in_words
from tests.fakes.site import CLUSTER, Site


@pytest.fixture
def site():
    return Site()


def lines(plan):
    return [in_words(change) for change in plan.changes]


# --- what the policy file names -----------------------------------------------------------


def test_an_empty_policy_file_wants_nothing(site):
    site.slurm.make_account("physics")
    assert site.plan().changes == ()


def test_accounts_users_and_qos_are_made_before_what_needs_them(site):
    plan = site.apply(
        accounts={
            "Lab-A": {"parent": "lab", "users": ["u1"], "default_qos": "fast", "qos": ["fast"]},
            "lab": {"shares": 3, "coordinators": ["u1"]},
        },
        qos={"fast": {"priority": 5, "preempts": ["slow"]}, "slow": {}},
    )
    assert lines(plan) == [
        "make QOS fast: priority 5",
        "make QOS slow",
        "QOS fast: preempts none -> slow",
        "make account lab: account above root, shares 3",
        "make account lab-a: default QOS fast, account above lab, allowed QOS fast",
        "make user u1 in account lab-a",
        "make coordinator u1 of account lab",
    ]


def test_what_the_policy_file_leaves_out_is_left_as_it_is(site):
    site.slurm.make_account("physics", shares="7", gpus="16", description="quarks")
    plan = site.apply(accounts={"physics": {"shares": 9}})
    assert lines(plan) == ["account physics: shares 7 -> 9"]
    assert site.values("account", "physics")["gpus"] == "16"


def test_every_limit_of_an_account_can_be_set_and_taken_away(site):
    limits = {
        "gpus": 8, "gpus_per_job": 4, "time": "90m", "running_jobs": 5, "submitted_jobs": 50,
        "running_jobs_per_user": 2, "submitted_jobs_per_user": 20,
    }  # fmt: skip
    site.apply(accounts={"lab": {"limits": limits}})
    found = site.values("account", "lab")
    assert {name: found[name] for name in limits} == {
        **{name: str(value) for name, value in limits.items()},
        "time": "5400",
    }
    site.apply(accounts={"lab": {"limits": dict.fromkeys(limits, "unlimited")}})
    assert {site.values("account", "lab")[name] for name in limits} == {"unlimited"}


def test_a_time_limit_is_rounded_up_to_the_minute_as_slurm_does(site):
    site.apply(accounts={"lab": {"limits": {"time": "90s"}}})
    assert site.values("account", "lab")["time"] == "120"


def test_descriptions_that_differ_in_case_only_are_equal_because_slurm_keeps_no_case(site):
    site.slurm.make_account("lab", description="the lab Ä")
    assert site.plan(accounts={"lab": {"description": "The LAB Ä"}}).changes == ()


def test_names_in_any_case_mean_slurms_lower_case_ones(site):
    site.slurm.make_account("lab")
    site.slurm.make_user("lab", "u1")
    assert site.plan(accounts={"LAB": {"users": ["U1"]}}).changes == ()


def test_an_account_that_another_cluster_has_too_gets_its_words_in_a_second_step(site):
    site.slurm.records["lab"] = {"description": "theirs", "organization": "lab"}
    plan = site.apply(accounts={"lab": {"description": "ours", "organization": "lab"}})
    assert lines(plan) == [
        "make account lab: account above root",
        'account lab: description "theirs" -> "ours"',
    ]
    assert ("record", "lab") not in site.made.objects
    site.apply()
    assert "lab" in site.slurm.records


def test_a_tree_turned_upside_down_is_rebuilt_from_the_top(site):
    site.apply(accounts={"a": {}, "b": {"parent": "a"}, "c": {"parent": "b"}})
    site.apply(
        accounts={"c": {"parent": "root"}, "b": {"parent": "c"}, "a": {"parent": "b"}},
    )
    assert [site.values("account", name)["parent"] for name in "cba"] == ["root", "c", "b"]


def test_preemption_can_be_turned_round_without_a_loop_on_the_way(site):
    site.apply(qos={"a": {"preempts": ["b"]}, "b": {"preempts": ["c"]}, "c": {}})
    site.apply(qos={"a": {"preempts": []}, "b": {"preempts": ["a"]}, "c": {"preempts": ["b"]}})
    assert [site.values("qos", name)["preempts"] for name in "abc"] == ["none", "a", "b"]


def test_a_users_default_account_is_moved(site):
    site.slurm.make_account("physics")
    site.slurm.make_user("physics", "u1")
    site.apply(accounts={"lab": {"users": {"u1": {"default": True}}}})
    assert site.values("user", "lab", "u1")["default"] == "yes"
    assert site.values("user", "physics", "u1")["default"] == "no"


# --- roles --------------------------------------------------------------------------------


def test_over_quota_makes_its_two_qos_and_lets_guaranteed_accounts_use_them(site):
    site.slurm.make_account("physics")
    site.apply(
        over_quota={"min_run_time": "20m"},
        accounts={"lab": {"guaranteed_gpus": 8}, "lab-a": {"parent": "lab", "guaranteed_gpus": 1}},
    )
    lent, mine = site.values("qos", "over-quota"), site.values("qos", "guaranteed")
    assert (lent["preempt_mode"], lent["min_run_time"]) == ("requeue", "1200")
    assert mine["preempts"] == "over-quota"
    assert site.values("account", "lab")["qos"] == "guaranteed,normal,over-quota"
    assert site.values("account", "lab-a")["qos"] == "inherited"
    assert site.values("account", "physics")["qos"] == "inherited"


def test_a_user_with_qos_of_their_own_who_may_not_use_the_two_is_named(site):
    users = {"u1": {"qos": ["normal"]}, "u2": {}}
    plan = site.apply(over_quota={}, accounts={"lab": {"guaranteed_gpus": 8, "users": users}})
    assert plan.remarks == (
        "user u1 in account lab may not use guaranteed, over-quota: see their own QOS",
    )


def test_a_qos_that_guaranteed_preempts_already_stays_preempted(site):
    site.slurm.make_qos("scavenger")
    site.slurm.make_qos("guaranteed", preempts="scavenger")
    site.apply(over_quota={})
    assert site.values("qos", "guaranteed")["preempts"] == "over-quota,scavenger"


def test_what_a_qos_own_entry_says_comes_before_its_role(site):
    site.apply(over_quota={}, qos={"over-quota": {"preempt_mode": "cancel", "priority": 3}})
    found = site.values("qos", "over-quota")
    assert (found["preempt_mode"], found["priority"], found["min_run_time"]) == (
        "cancel",
        "3",
        "1800",
    )


def test_the_qos_for_accounts_without_budget_is_made(site):
    site.apply(submission={"over_budget_qos": "broke"})
    assert site.has("qos", "broke")


def test_accounts_with_budgets_may_use_that_qos_and_none_is_made_for_it(site):
    site.slurm.make_account("lab")
    site.apply(
        submission={"over_budget_qos": "broke"},
        budgets={"lab": {"gpu_hours": 1}, "ghost": {"gpu_hours": 1}},
    )
    assert "broke" in site.values("account", "lab")["qos"].split(",")
    assert not site.has("account", "ghost")


# --- closed accounts ----------------------------------------------------------------------


def test_a_closed_account_takes_no_new_jobs_and_gets_its_limit_back(site):
    site.slurm.make_account("lab", submitted_jobs="50")
    site.apply(accounts={"lab": {"closed": True}})
    assert site.values("account", "lab")["submitted_jobs"] == "0"
    site.apply(accounts={"lab": {}})
    assert site.values("account", "lab")["submitted_jobs"] == "50"
    assert site.made == Made()


def test_an_account_closed_by_others_is_opened_only_where_the_file_says_so(site):
    site.slurm.make_account("lab", submitted_jobs="0")
    assert site.plan(accounts={"lab": {}}).changes == ()
    site.apply(accounts={"lab": {"closed": False}})
    assert site.values("account", "lab")["submitted_jobs"] == "unlimited"


def test_a_closed_account_keeps_its_limit_of_the_policy_file_for_later(site):
    named = {"limits": {"submitted_jobs": 20}}
    site.apply(accounts={"lab": {**named, "closed": True}})
    assert site.values("account", "lab")["submitted_jobs"] == "0"
    site.apply(accounts={"lab": named})
    assert site.values("account", "lab")["submitted_jobs"] == "20"


def test_an_account_that_leaves_the_file_while_closed_is_opened(site):
    site.slurm.make_account("lab", submitted_jobs="5")
    site.apply(accounts={"lab": {"closed": True}})
    site.apply()
    assert site.values("account", "lab")["submitted_jobs"] == "5"


# --- removal ------------------------------------------------------------------------------

TREE = {
    "accounts": {
        "lab": {"users": ["u1"], "coordinators": ["u1"]},
        "lab-a": {"parent": "lab", "users": ["u1", "u2"]},
    },
    "qos": {"fast": {}},
}


def test_what_apply_made_goes_when_the_file_no_longer_names_it(site):
    before = site.slurm.managed(CLUSTER)
    site.apply(**TREE)
    site.apply()
    assert site.slurm.managed(CLUSTER) == before
    assert site.made == Made()


def test_what_others_made_stays_when_the_file_no_longer_names_it(site):
    site.slurm.make_account("lab")
    site.slurm.make_user("lab", "u1")
    site.slurm.make_qos("fast")
    site.apply(**TREE)
    site.apply()
    assert site.has("account", "lab")
    assert site.has("user", "lab", "u1")
    assert site.has("qos", "fast")
    assert not site.has("account", "lab-a")


def test_an_account_with_jobs_stays_and_the_plan_says_so(site):
    site.apply(accounts={"lab": {}})
    site.slurm.jobs.add(("account", "lab"))
    plan = site.apply()
    assert plan.changes == ()
    assert plan.remarks == ("account lab stays: it has jobs",)
    site.slurm.jobs.clear()
    site.apply()
    assert not site.has("account", "lab")


def test_an_account_in_which_others_have_put_something_stays(site):
    site.apply(accounts={"lab": {"users": ["u1"]}, "lab-b": {}})
    site.slurm.make_user("lab", "u9")
    site.slurm.make_account("theirs", parent="lab-b")
    plan = site.apply()
    assert lines(plan) == ["remove user u1 in account lab"]
    assert plan.remarks == (
        "account lab stays: users are in it: u9",
        "account lab-b stays: accounts are in it: theirs",
    )


def test_a_user_with_jobs_or_a_partition_of_their_own_stays(site):
    site.apply(accounts={"lab": {"users": ["u1", "u2"]}})
    site.slurm.jobs.add(("user", "lab", "u1"))
    site.slurm.partition_bound.add(("lab", "u2"))
    plan = site.apply(accounts={"lab": {"users": []}})
    assert plan.changes == ()
    assert len(plan.remarks) == 2


def test_users_stay_where_the_file_no_longer_lists_any(site):
    site.apply(accounts={"lab": {"users": ["u1"]}})
    assert site.apply(accounts={"lab": {}}).changes == ()
    assert lines(site.apply(accounts={"lab": {"users": []}})) == ["remove user u1 in account lab"]


def test_a_user_whose_default_account_goes_gets_another_first(site):
    site.apply(accounts={"lab": {"users": {"u1": {"default": True}}}, "nlp": {"users": ["u1"]}})
    plan = site.apply(accounts={"nlp": {"users": ["u1"]}})
    assert lines(plan)[:2] == [
        "user u1 in account nlp: default account no -> yes (account lab, which was it, goes)",
        "remove user u1 in account lab",
    ]


def test_a_qos_that_somebody_names_stays(site):
    site.apply(qos={"fast": {}, "slow": {}, "mid": {}})
    site.slurm.make_account("theirs", qos="fast,normal")
    site.slurm.make_qos("top", preempts="slow")
    site.slurm.jobs.add(("qos", "mid"))
    plan = site.apply()
    assert plan.changes == ()
    assert plan.remarks == (
        "QOS fast stays: account theirs names it",
        "QOS mid stays: jobs are in it",
        "QOS slow stays: qos top names it",
    )


def test_a_qos_goes_after_those_who_named_it(site):
    site.apply(qos={"fast": {}}, accounts={"lab": {"qos": ["fast"], "default_qos": "fast"}})
    site.apply()
    assert not site.has("qos", "fast")


def test_a_coordinator_below_one_who_goes_stays(site):
    site.apply(
        accounts={
            "lab": {"users": ["u1"], "coordinators": ["u1"]},
            "lab-a": {"parent": "lab", "coordinators": ["u1"]},
        }
    )
    site.apply(
        accounts={"lab": {"coordinators": []}, "lab-a": {"parent": "lab", "coordinators": ["u1"]}}
    )
    assert not site.has("coordinator", "lab", "u1")
    assert site.has("coordinator", "lab-a", "u1")


def test_an_object_made_by_others_between_two_applies_is_not_taken_for_ours(site):
    site.slurm.make_account("lab")
    site.apply(accounts={"lab": {"users": ["u1"]}})
    assert ("account", "lab") not in site.made.objects
    assert ("user", "lab", "u1") in site.made.objects


# --- what cannot be -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"accounts": {"a": {"parent": "nope"}}}, "accounts.a.parent: found 'nope'"),
        ({"accounts": {"a": {"parent": "a"}}}, "an account that is not below a itself"),
        (
            {"accounts": {"a": {"parent": "b"}, "b": {"parent": "a"}}},
            "an account that is not below a itself",
        ),
        ({"accounts": {"root": {"parent": "a"}, "a": {}}}, "the account above all others"),
        ({"accounts": {"a": {"qos": ["nope"]}}}, "accounts.a.qos: found 'nope', wanted a QOS"),
        (
            {"accounts": {"a": {"users": {"u1": {"default_qos": "nope"}}}}},
            "accounts.a.users.u1.default_qos: found 'nope'",
        ),
        ({"qos": {"a": {"preempts": ["nope"]}}}, "qos.a.preempts: found 'nope'"),
        (
            {"accounts": {"a": {"qos": ["normal"], "default_qos": "b"}}, "qos": {"b": {}}},
            "accounts.a.default_qos: found 'b', wanted one of: normal",
        ),
        ({"qos": {"a": {"preempts": ["b"]}, "b": {"preempts": ["a"]}}}, "do not preempt a in turn"),
        ({"accounts": {"a": {"coordinators": ["who"]}}}, "accounts.a.coordinators: found 'who'"),
        (
            {
                "accounts": {
                    "a": {"users": {"u1": {"default": True}}},
                    "b": {"users": {"u1": {"default": True}}},
                }
            },
            "accounts.b.users.u1.default: found 'true', wanted it at one account only: a has it",
        ),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_planned(site, policy, said):
    plan = site.plan(**policy)
    assert plan.changes == ()
    assert said in " ".join(plan.problems)
