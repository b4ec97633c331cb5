"""Who is within the guarantee, who is lent idle GPUs, and that nothing goes back and forth."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.errors import PolicyFileError
from slurm_gpu_policy.model.tag import change_tag
from slurm_gpu_policy.policy.guarantees import Guarantees
from slurm_gpu_policy.policy.over_quota import moves
from tests.builders import NOW, make_association, make_partition, make_policy, make_snapshot
from tests.quota import HOME, LENT, MINE, SETTLE, job, policy_for, running, tree


def moved(jobs, policy=None, associations=None, **fields):
    """The moves, as job -> QOS."""
    policy = policy or policy_for(nlp=8)
    snapshot = make_snapshot(jobs=tuple(jobs), associations=associations or tree("nlp"), **fields)
    return {
        action.job_id: dict(action.changes)["qos"]
        for action in moves(snapshot, policy)
        if action.verb == "modify"
    }


def test_without_the_part_no_job_is_touched():
    policy = make_policy(accounts={"nlp": {"guaranteed_gpus": 1}})
    assert moves(make_snapshot(jobs=(job(1, 5),)), policy) == ()


def test_two_qos_must_be_two():
    with pytest.raises(PolicyFileError, match="two different QOS"):
        make_policy(over_quota={"guaranteed_qos": "a", "over_quota_qos": "A"})
    with pytest.raises(PolicyFileError, match="over_quota_qos"):
        make_policy(over_quota={"over_quota_qos": "a;b"})


def test_what_fits_is_guaranteed_and_what_does_not_is_lent():
    jobs = [running(1, 4), job(2, 3), job(3, 2), job(4, 1)]
    assert moved(jobs) == {3: LENT}


def test_a_job_is_promoted_when_it_fits_entirely():
    jobs = [running(1, 4), job(2, 5, LENT, admin_comment=HOME)]
    assert moved(jobs) == {}
    assert moved(jobs[1:]) == {2: MINE}


def test_the_first_submitted_is_promoted_first_but_nobody_who_waits_is_displaced():
    lent = {"qos": LENT, "admin_comment": HOME}
    assert moved([job(1, 8, **lent), job(2, 5, **lent), job(3, 3)]) == {2: MINE}


def test_what_an_account_runs_over_quota_is_not_preempted_by_its_own_waiting_jobs():
    lent = job(2, 2, LENT, admin_comment=HOME)
    assert moved([running(1, 8, LENT), lent]) == {}
    assert moved([running(1, 6, LENT), lent]) == {2: MINE}
    assert moved([running(1, 6, LENT), lent, replace(lent, job_id=3)]) == {2: MINE}
    assert moved([running(1, 8, LENT, account="other"), lent]) == {2: MINE}


def test_a_claim_is_not_lost_because_something_over_quota_has_started():
    assert moved([running(1, 8, LENT), job(2, 8)]) == {}


def test_where_over_quota_is_the_default_a_new_job_is_promoted_at_once():
    associations = tree("nlp", default_qos=LENT)
    snapshot = make_snapshot(jobs=(job(1, 6, LENT), job(2, 6, LENT)), associations=associations)
    (action,) = moves(snapshot, policy_for(nlp=8))
    assert (action.job_id, action.changes) == (1, (("qos", MINE),))
    assert action.mark == (("home", LENT),)


def test_what_runs_in_any_other_qos_does():
    assert moved([running(1, 8, "high"), job(2)]) == {2: LENT}


def test_what_runs_is_never_moved():
    assert moved([running(1, 80), running(2, 1, LENT, admin_comment=HOME)]) == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"qos": "high"},
        {"qos": LENT},
        {"gpus": 0},
        {"priority": 0, "reason": "JobHeldUser"},
        {"account": "other"},
        {"account": "other", "qos": LENT},
    ],
)
def test_a_job_that_is_not_ours_to_move_stays(fields):
    associations = tree("nlp", "other")
    assert moved([running(1, 8), job(2, **fields)], associations=associations) == {}
    assert moved([job(2, **fields)], associations=associations) == {}


def test_a_job_in_the_default_qos_is_put_into_its_place():
    associations = tree("nlp", default_qos="normal")
    jobs = [job(1, 6, "normal"), job(2, 6, "normal"), job(3, 1, "high")]
    assert moved(jobs, associations=associations) == {1: MINE, 2: LENT}


def test_a_job_that_may_not_start_yet_claims_only_what_nobody_else_wants():
    later = {"reason": "Dependency"}
    assert moved([job(1, 8, **later), job(2, 1, LENT, admin_comment=HOME)]) == {1: LENT, 2: MINE}
    assert moved([job(1, 8, **later)]) == {}
    assert moved([job(1, 8, LENT, admin_comment=HOME, **later)]) == {}


def test_slurm_is_not_asked_for_a_qos_it_would_refuse():
    bound = (make_association("nlp", "u1", qos=frozenset({MINE}), default_qos=MINE),)
    assert moved([job(1, 9)], associations=bound) == {}
    closed = (make_partition("gpu", deny_qos=frozenset({LENT})),)
    assert moved([job(1, 9)], partitions=closed) == {}
    only = (make_partition("gpu", allow_qos=frozenset({MINE})),)
    assert moved([job(1, 9)], partitions=only) == {}
    other = (*only, make_partition("big"))
    assert moved([job(1, 9, partitions=("gpu", "big"))], partitions=other) == {1: LENT}


def test_an_action_says_what_why_and_what_it_was_before():
    snapshot = make_snapshot(jobs=(running(1, 8), job(2, 2)), associations=tree("nlp"))
    (action,) = moves(snapshot, policy_for(nlp=8))
    assert (action.verb, action.rule, action.user) == ("modify", "Q-702", "u1")
    assert (action.before, action.after) == ("qos guaranteed", "qos over-quota")
    assert action.changes == (("qos", LENT),)
    assert action.mark == (("home", MINE),)
    assert action.reason == (
        "its 2 GPUs do not fit into what is left of the 8 that account nlp is guaranteed: it may "
        "run on idle GPUs, and yields after 00:30:00 at the earliest"
    )
    back = make_snapshot(jobs=(job(2, 2, LENT, admin_comment=HOME),), associations=tree("nlp"))
    (action,) = moves(back, policy_for(nlp=8))
    assert action.rule == "Q-701"
    assert action.mark == (("moved", str(NOW)),)
    assert action.reason == (
        "its 2 GPUs fit into the 8 that account nlp is guaranteed: it cannot be preempted"
    )


def test_a_home_that_no_mark_can_carry_is_the_guaranteed_qos():
    associations = tree("nlp", default_qos="a+b")
    snapshot = make_snapshot(jobs=(job(1, 1, "a+b"),), associations=associations)
    assert moves(snapshot, policy_for(nlp=8))[0].mark == (("home", MINE),)


def test_a_job_moves_again_only_after_it_has_settled():
    for ago, expected in ((0, {}), (SETTLE - 1, {}), (SETTLE, {2: MINE}), (-5, {2: MINE})):
        mark = f"gpu-policy(home=normal;moved={NOW - ago})"
        assert moved([job(2, 2, LENT, admin_comment=mark)]) == expected
    unsettled = job(1, 9, admin_comment=f"gpu-policy(home=normal;moved={NOW})")
    assert moved([unsettled, job(2, 2, LENT, admin_comment=HOME)]) == {}


def test_a_job_under_no_guarantee_any_more_goes_home():
    mark = "gpu-policy(home=normal;moved=5)"
    snapshot = make_snapshot(
        jobs=(job(1, 1, LENT, admin_comment=mark),), associations=tree("nlp", "other")
    )
    (action,) = moves(snapshot, policy_for(other=8))
    assert (action.rule, action.changes) == ("Q-703", (("qos", "normal"),))
    assert change_tag(mark, dict(action.mark)) == ""


# The tree


def test_a_sub_account_takes_from_its_own_guarantee_and_then_from_those_above():
    policy = policy_for(lab=10, nlp=4, vision=4)
    associations = tree("lab", nlp="lab", vision="lab")
    jobs = [job(1, 4, account="nlp"), job(2, 2, account="nlp"), job(3, 1, account="nlp"),
            job(4, 4, account="vision"), job(5, 1, account="lab")]  # fmt: skip
    assert moved(jobs, policy, associations) == {3: LENT, 5: LENT}


def test_only_what_an_own_guarantee_cannot_hold_is_taken_from_those_above():
    policy, associations = policy_for(lab=5, nlp=4), tree("lab", nlp="lab")
    jobs = [running(1, 3, account="nlp"), job(2, 2, account="nlp")]
    assert moved(jobs, policy, associations) == {}
    assert moved([*jobs, job(3, 1, account="lab")], policy, associations) == {3: LENT}
    assert moved([jobs[0], job(2, 3, account="nlp")], policy, associations) == {2: LENT}


def test_an_account_without_a_guarantee_uses_the_one_above_it():
    policy = policy_for(lab=4)
    associations = tree("lab", "x", team="lab", deep="team")
    jobs = [job(1, 3, account="deep"), job(2, 2, account="team"), job(3, 9, account="x")]
    assert moved(jobs, policy, associations) == {2: LENT}


def test_names_of_accounts_differ_in_case_only_for_people():
    assert moved([job(1, 3)], policy_for(NLP=2)) == {1: LENT}


def test_a_promise_to_a_sub_account_holds_even_where_more_is_promised_than_there_is():
    policy = policy_for(lab=4, nlp=8)
    associations = tree("lab", nlp="lab")
    assert moved([job(1, 8, account="nlp"), job(2, 1, account="lab")], policy, associations) == {
        2: LENT
    }


CLAIMS = st.lists(
    st.tuples(st.sampled_from(["lab", "nlp", "vision", "deep", "free"]), st.integers(1, 6)),
    max_size=14,
)


@given(
    st.fixed_dictionaries({n: st.integers(0, 12) for n in ("lab", "nlp", "deep")}),
    CLAIMS,
    st.randoms(use_true_random=False),
)
def test_what_fits_in_one_order_fits_in_every_order(guaranteed, claims, rng):
    policy = policy_for(**guaranteed)
    associations = tree("lab", "free", nlp="lab", vision="lab", deep="nlp")
    first = Guarantees(policy, associations)
    accepted = []
    for account, gpus in claims:
        if first.room_for(account, gpus):
            first.take(account, gpus)
            accepted.append((account, gpus))
    rng.shuffle(accepted)
    for part in (accepted, accepted[::2]):
        again = Guarantees(policy, associations)
        for account, gpus in part:
            assert again.room_for(account, gpus)
            again.take(account, gpus)
    total = max(guaranteed["lab"], guaranteed["nlp"], guaranteed["deep"])
    assert sum(gpus for _, gpus in accepted) <= total


# Arrays and heterogeneous jobs


def test_an_array_claims_as_many_gpus_as_may_run_at_once():
    assert moved([job(1, 2, array_job_id=1, array_task="1-100%4")]) == {}
    assert moved([job(1, 2, array_job_id=1, array_task="1-100%5")]) == {1: LENT}
    assert moved([job(1, 2, array_job_id=1, array_task="1-4")]) == {}
    tasks = [running(n, 2, array_job_id=1, array_task=str(n)) for n in (2, 3)]
    assert moved([job(1, 2, array_job_id=1, array_task="4-100%4"), *tasks]) == {}
    lent = [running(n, 2, LENT, array_job_id=1, array_task=str(n)) for n in (2, 3, 4)]
    assert moved([job(1, 2, array_job_id=1, array_task="5-100%5"), *lent]) == {1: LENT}


def test_an_array_is_promoted_whole_or_not_and_told_how_it_would_fit():
    rest = job(7, 2, LENT, array_job_id=7, array_task="1,3,5-900", admin_comment=HOME)
    assert moved([rest]) == {}
    assert moved([replace(rest, array_task="1,3,5-900%4")]) == {7: MINE}
    new = replace(rest, qos=MINE, admin_comment="")
    snapshot = make_snapshot(jobs=(new,), associations=tree("nlp"))
    (action,) = moves(snapshot, policy_for(nlp=8))
    assert action.reason.endswith("; with fewer tasks at once (--array=…%N) it may fit")


def test_all_that_waits_of_an_array_is_in_one_qos():
    array = {"array_job_id": 7, "admin_comment": HOME}
    rest = job(7, 2, LENT, array_task="5-6", **array)
    requeued = job(9, 2, LENT, array_task="2", **array)
    assert moved([rest, requeued]) == {7: MINE, 9: MINE}
    assert moved([running(1, 4), rest, requeued]) == {}
    mixed = replace(requeued, qos=MINE)
    assert moved([rest, mixed]) == {7: MINE}
    assert moved([running(1, 4), rest, mixed]) == {9: LENT}
    unsettled = replace(requeued, admin_comment=f"gpu-policy(home=x;moved={NOW})")
    assert moved([rest, unsettled]) == {}


def test_an_array_that_may_not_start_another_task_waits_where_it_is():
    lent = [running(n, 1, LENT, array_job_id=7, array_task=str(n)) for n in (1, 2)]
    rest = job(7, 1, LENT, array_job_id=7, array_task="3-9%2", admin_comment=HOME)
    assert moved([rest, *lent]) == {}
    assert moved([rest, lent[0]]) == {7: MINE}


def test_the_parts_of_a_heterogeneous_job_move_together():
    parts = [job(1, 4, het_job_id=1), job(2, 5, het_job_id=1)]
    assert moved(parts) == {1: LENT}
    assert moved([parts[0], replace(parts[1], gpus=4)]) == {}


def test_a_task_that_its_owner_made_larger_counts_as_large_as_it_is():
    """Else an array of small tasks would carry a large one into the guarantee."""
    array = {"array_job_id": 7}
    small, large = job(7, 1, array_task="0", **array), job(8, 64, array_task="1", **array)
    assert moved([small, large]) == {7: LENT, 8: LENT}
    assert moved([small, replace(large, gpus=4)]) == {}


def test_a_task_on_another_account_takes_from_that_ones_guarantee():
    array = {"array_job_id": 7}
    policy, associations = policy_for(nlp=8, other=1), tree("nlp", "other")
    here = job(7, 2, array_task="0", **array)
    there = job(8, 2, account="other", array_task="1", **array)
    assert moved([here, there], policy, associations) == {8: LENT}


def test_one_task_in_a_qos_of_its_owners_wish_leaves_the_others_under_the_rule():
    array = {"array_job_id": 7}
    for wish in ("high", LENT):
        wished = job(8, 1, wish, array_task="1", **array)
        assert moved([job(7, 9, array_task="0,2-9", **array), wished]) == {7: LENT}


def test_a_group_whose_parts_are_on_several_accounts_is_over_quota():
    """Else a first part on an idle account would carry the others past their own guarantee."""
    policy, associations = policy_for(nlp=16, other=1), tree("nlp", "other")
    parts = (job(1, 1, het_job_id=1), job(2, 8, account="other", het_job_id=1))
    assert moved(parts, policy, associations) == {1: LENT}
    snapshot = make_snapshot(jobs=parts, associations=associations)
    (action,) = moves(snapshot, policy)
    assert action.reason.startswith("its parts are on the accounts nlp, other, and no guarantee")
    free = (parts[0], replace(parts[1], gpus=0))
    assert moved(free, policy, associations) == {}
    assert moved(parts, policy_for(other=16), associations) == {1: LENT}
    assert moved(parts, policy_for(lab=16), associations) == {}


def test_a_group_is_under_the_rule_with_any_of_its_parts():
    """Else a small part in a QOS of its user's wish would carry the others past the rule."""
    for wish in ("high", LENT):
        parts = (job(1, 1, wish, het_job_id=1), job(2, 9, het_job_id=1))
        assert moved(parts) in ({1: LENT}, {2: LENT})  # either changes the whole
        small = (parts[0], replace(parts[1], gpus=7))
        assert moved(small) == {1: MINE}
    mark = "gpu-policy(home=normal;moved=5)"
    home = [job(n, 1, LENT, het_job_id=1, admin_comment=mark) for n in (1, 2)]
    assert moved(home, policy_for(other=8)) == {1: "normal"}
