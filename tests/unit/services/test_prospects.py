"""A waiting job's prospects, and that what is predicted is what the arithmetic then says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.errors import SlurmRefused
from slurm_gpu_policy.model.account import Association, Qos
from slurm_gpu_policy.model.cluster import ClusterConfig, NodeGpus, Reservation
from slurm_gpu_policy.model.job import JobState, PriorityFactors
from slurm_gpu_policy.services.line import Line
from slurm_gpu_policy.services.prospects import prospects
from slurm_gpu_policy.services.standing import priorities
from slurm_gpu_policy.units import parse_duration
from tests.builders import (
    DAY,
    NOW,
    make_association,
    make_job,
    make_node,
    make_partition,
    make_policy,
    make_snapshot,
)

SETTINGS = {
    "PriorityType": "priority/multifactor",
    "PriorityWeightAge": "1000",
    "PriorityWeightFairShare": "10000",
    "PriorityWeightQOS": "4000",
    "PriorityWeightJobSize": "500",
    "PriorityMaxAge": "7-00:00:00",
    "AccountingStorageEnforce": "associations,limits,qos,safe",
}
TREE = (
    Association("root", "", usage=100.0),
    Association("nlp", "", parent="root", raw_shares=1, usage=80.0),
    Association("nlp", "u1", usage=80.0),
    Association("vision", "", parent="root", raw_shares=1, usage=20.0),
    Association("vision", "u2", usage=20.0),
)
FULL = tuple(
    replace(make_node(name), gpus=(NodeGpus("h100", 8, 8),)) for name in ("gpu01", "gpu02")
)


def waiting(number, user="u1", waited=3600, **fields):
    account = {"u1": "nlp", "u2": "vision"}[user]
    defaults = {
        "state": JobState.PENDING,
        "node_list": "",
        "start_time": None,
        "reason": "Priority",
        "user": user,
        "account": account,
        "accrue_time": NOW - waited,
        "submit_time": NOW - waited,
        "eligible_time": NOW - waited,
    }
    return make_job(number, **{**defaults, **fields})


def row(job, site=0):
    return PriorityFactors(
        job.job_id, job.partitions[0], job.qos, 1, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, job.nice, site
    )


def world(*jobs, settings=(), sites=(), **parts):
    config = ClusterConfig("c", "26.05.5", {**SETTINGS, **dict(settings)})
    site_of = dict(sites)
    return make_snapshot(
        **{
            "jobs": jobs,
            "associations": TREE,
            "config": config,
            "qos": (Qos("normal", priority=10), Qos("high", priority=100)),
            "nodes": FULL,
            "priorities": tuple(row(job, site_of.get(job.job_id, 0)) for job in jobs),
            **parts,
        }
    )


def owners(snapshot, **fields):
    mine = [make_association("nlp", "u1", **fields), make_association("vision", "u2", **fields)]
    return replace(snapshot, associations=tuple(mine))


def of(job, snapshot, *, policy=None, **fields):
    return prospects(job, snapshot, policy or make_policy(), owners(snapshot, **fields))


def change(found, what):
    return next(one for one in found.changes if one.what.startswith(what))


def recomputed(changed, snapshot):
    """The priority of a job after it was really changed."""
    jobs = [changed if one.job_id == changed.job_id else one for one in snapshot.jobs]
    found = priorities(replace(snapshot, jobs=tuple(jobs)))
    return max(one.terms.priority for one in found if one.job.job_id == changed.job_id)


# --- who is ahead -----------------------------------------------------------------------------


def test_who_is_directly_ahead_is_named_with_the_term_that_decides():
    mine, other = waiting(1), waiting(2, "u2")
    found = of(mine, world(mine, other))
    assert found.ahead.job is other
    assert (found.ahead.difference, found.ahead.decided_by) == (5000, "fair_share")
    assert found.ahead.text == (
        "by 5,000 points, most of it fair share (+5,000): "
        "account vision used 0.40 x its share, account nlp used 1.6 x its share"
    )
    assert (found.ahead.count, found.ahead.gpus) == (1, 1)
    assert found.terms[0].text == (
        "fair share 0.50 (5,000 of 10,000 points): account nlp used 1.6 x its share"
    )


def test_all_who_stand_ahead_count_with_every_task_of_an_array():
    mine = waiting(9)
    array = waiting(2, "u2", gpus=4, array_job_id=2, array_task="0-4")
    found = of(mine, world(mine, waiting(1, gpus=2), array))
    assert (found.ahead.job.job_id, found.ahead.count, found.ahead.gpus) == (1, 2, 22)
    assert found.ahead.decided_by == "job_id"
    assert [(one.place, one.of) for one in found.places] == [(3, 3)]


def test_the_first_in_line_has_nobody_ahead_and_needs_no_better_place():
    mine = waiting(1, "u2")
    found = of(mine, world(mine, waiting(2)))
    assert found.ahead is None
    assert found.changes == ()


def test_who_lists_several_qos_stands_where_the_best_puts_them():
    mine, other = waiting(1), waiting(2, qos="high,normal")
    found = of(mine, world(mine, other))
    assert (found.ahead.job.job_id, found.ahead.difference) == (2, 3600)


def test_another_partitions_jobs_are_not_ahead():
    mine, other = waiting(1), waiting(2, "u2", partitions=("interactive",))
    assert of(mine, world(mine, other)).ahead is None


def test_a_priority_set_by_hand_is_said_to_be_that():
    mine, other = waiting(1), waiting(2, "u2", priority=4_000_000)
    cleared = PriorityFactors(2, "gpu", "normal", 4_000_000, 0, 0, 0, 0, 0, 0, 0, 0)
    snapshot = world(mine, other, priorities=(row(mine), cleared))
    ahead = of(mine, snapshot).ahead
    assert (ahead.priority, ahead.decided_by) == (4_000_000, "direct")
    assert "set by hand" in ahead.text


def test_of_several_partitions_the_best_leads_and_each_has_a_place():
    parts = (
        make_partition("gpu", "gpu01"),
        make_partition("interactive", "gpu01", priority_job_factor=10),
    )
    mine = waiting(1, partitions=("gpu", "interactive"))
    snapshot = world(
        mine, waiting(2, "u2"), settings={"PriorityWeightPartition": "900"}, partitions=parts
    )
    found = of(mine, snapshot)
    assert [one.partition for one in found.ranked] == ["interactive", "gpu"]
    assert [(one.partition, one.place) for one in found.places] == [
        ("gpu", 2), ("interactive", 1),
    ]  # fmt: skip


def test_a_held_job_and_one_that_may_not_start_have_no_place():
    held, later = waiting(1, priority=0), waiting(2, eligible_time=NOW + 60)
    snapshot = world(held, later)
    assert "it is held" in of(held, snapshot).missing
    assert "it may not start yet" in of(later, snapshot).missing


def test_where_slurm_hides_jobs_the_line_is_said_to_be_longer_perhaps():
    mine = waiting(1)
    hidden = world(mine, settings={"PrivateData": "jobs,usage"})
    assert "more may stand ahead" in of(mine, hidden).missing
    assert of(mine, world(mine)).missing == ""


def test_a_part_of_the_tree_is_refused():
    mine = waiting(1)
    with pytest.raises(SlurmRefused, match="PrivateData"):
        of(mine, world(mine, associations=TREE[2:]))


# --- what would help --------------------------------------------------------------------------


def test_a_qos_that_leads_past_somebody_is_worth_naming():
    mine = waiting(1)
    tight = world(mine, waiting(2, "u2"), settings={"PriorityWeightQOS": "6000"})
    assert "QOS high" in [one.what for one in of(mine, tight).changes]
    loose = world(mine, waiting(2, "u2"), settings={"PriorityWeightQOS": "5000"})
    assert "QOS high" not in [one.what for one in of(mine, loose).changes]


@given(
    nice=st.integers(1, 20_000),
    waited=st.integers(0, 9 * DAY),
    gpus=st.integers(1, 8),
    weight=st.integers(0, 20_000),
)
def test_a_predicted_gain_is_what_the_priority_then_has_more(nice, waited, gpus, weight):
    mine = waiting(1, nice=nice, waited=waited, gpus=gpus, tres={"gres/gpu": gpus})
    rivals = [waiting(2, waited=waited), waiting(3, "u2")]
    snapshot = world(mine, *rivals, settings={"PriorityWeightQOS": str(weight)})
    found = of(mine, snapshot)
    now = found.ranked[0].terms.priority
    for one in found.changes:
        changed = {
            "QOS high": lambda: replace(mine, qos="high"),
            "no nice": lambda: replace(mine, nice=0),
        }.get(one.what)
        if changed is not None:
            assert one.gain_points == recomputed(changed(), snapshot) - now
            line = Line(replace(snapshot, jobs=(changed(), *rivals)))
            assert one.place == line.place(changed(), line.best(changed()))
            assert one.place.place < found.places[0].place
        elif one.what.startswith("wait"):
            assert one.gain_points > 0


def test_waiting_gains_age_and_the_others_gain_too():
    mine = waiting(1)
    found = of(mine, world(mine, waiting(2, "u2")))
    day = change(found, "wait another day")
    assert (day.gain_points, day.place.place) == (143, 2)  # 1000 points / 7 days
    assert day.note == "the others' ages grow as well"


def test_a_full_age_is_passed_by_one_that_still_grows():
    full = waiting(2, waited=9 * DAY, nice=200)
    mine = waiting(3, waited=5 * DAY)
    snapshot = world(mine, full)
    later = next(one for one in of(mine, snapshot).changes if "has passed job 2" in one.note)
    assert later.place.place == 1
    seconds = parse_duration(later.what.removeprefix("wait "))

    def ranks(at):
        found = {one.job.job_id: one.terms.priority for one in priorities(snapshot, NOW + at)}
        return found[3] > found[2]

    assert (ranks(seconds - 1), ranks(seconds)) == (False, True)


def test_one_that_waits_longer_is_never_passed_by_waiting():
    mine = waiting(3, waited=60)
    found = of(mine, world(mine, waiting(2, waited=DAY), settings={"PriorityWeightQOS": "0"}))
    assert [one.what for one in found.changes] == ["wait another hour", "wait another day"]


def test_where_age_counts_nothing_waiting_is_no_advice():
    mine = waiting(1)
    found = of(mine, world(mine, waiting(2, "u2"), settings={"PriorityWeightAge": "0"}))
    assert found.changes == ()


def test_a_limit_of_a_qos_is_got_round_by_another_qos_even_for_fewer_points():
    mine = waiting(1, qos="high", reason="QOSMaxGRESPerUser")
    (found,) = of(mine, world(mine)).changes
    assert (found.what, found.gain_points) == ("QOS normal", -3600)
    assert "the limit that it waits for is not there" in found.note


def test_a_limit_of_the_account_is_got_round_by_nothing_here():
    mine = waiting(1, reason="AssocGrpGRES")
    assert of(mine, world(mine, waiting(2, "u2"))).changes == ()


@pytest.mark.parametrize("reason", ["JobArrayTaskLimit", "Licenses", "BadConstraints"])
def test_where_priority_is_not_what_it_waits_for_no_place_helps(reason):
    mine = waiting(1, reason=reason, nice=9000)
    assert of(mine, world(mine, waiting(2, "u2"))).changes == ()


def test_a_job_that_its_partition_does_not_take_is_told_which_does():
    parts = (make_partition("gpu", max_time_seconds=60), make_partition("interactive"))
    mine = waiting(1, reason="PartitionTimeLimit")
    (found,) = of(mine, world(mine, waiting(2, "u2"), partitions=parts)).changes
    assert (found.what, found.note) == ("partition interactive", "it takes such a job")


def test_a_part_of_a_heterogeneous_job_is_not_changed_alone():
    mine = waiting(1, nice=900, het_job_id=1)
    names = {one.what for one in of(mine, world(mine, waiting(2, "u2"))).changes}
    assert names == {"wait another hour", "wait another day"}


def test_against_a_reservation_only_other_nodes_or_a_shorter_time_help():
    free = (replace(FULL[0], gpus=(NodeGpus("h100", 8, 4),)), FULL[1])
    window = Reservation(
        "window", "INACTIVE", NOW + 1800, NOW + 9000, ("gpu01", "gpu02"), (), (), "",
        frozenset({"MAINT"}),
    )  # fmt: skip
    mine = waiting(1, reason="ReqNodeNotAvail, Reserved for maintenance")
    snapshot = world(mine, waiting(2, "u2"), nodes=free, reservations=(window,))
    assert [one.what for one in of(mine, snapshot).changes] == ["a time limit of 00:30:00"]


def test_without_multifactor_priorities_there_is_nothing_to_explain():
    mine = waiting(1)
    basic = world(mine, settings={"PriorityType": "priority/basic"})
    assert "PriorityType" in of(mine, basic).missing


def test_a_partition_that_goes_first_on_the_same_nodes_is_named():
    parts = (
        make_partition("gpu", "gpu01", "gpu02"),
        make_partition("interactive", "gpu01", "gpu02", priority_tier=2),
    )
    mine = waiting(1)
    found = change(of(mine, world(mine, waiting(2, "u2"), partitions=parts)), "partition")
    assert (found.what, found.place.place) == ("partition interactive", 1)
    assert found.note == "on the same nodes it goes before partition gpu"
    first = world(mine, partitions=parts)
    assert of(mine, first).changes == ()  # nobody waits whom it could pass
    rival = waiting(3, partitions=("interactive",), waited=60)
    assert change(of(mine, world(mine, rival, partitions=parts)), "partition").place.place == 1
    same = (parts[0], replace(parts[1], priority_tier=1))
    names = [one.what for one in of(mine, world(mine, waiting(2, "u2"), partitions=same)).changes]
    assert "partition interactive" not in names


def test_a_partition_with_room_on_other_nodes_is_named_while_nobody_waits_there():
    spare = make_node("gpu03", partitions=("spare",))
    parts = (make_partition("gpu", "gpu01", "gpu02"), make_partition("spare", "gpu03"))
    mine = waiting(1)
    snapshot = world(mine, waiting(2, "u2"), partitions=parts, nodes=(*FULL, spare))
    assert change(of(mine, snapshot), "partition spare").note.startswith("there is room")
    rival = waiting(3, "u2", partitions=("spare",))
    crowded = replace(snapshot, jobs=(*snapshot.jobs, rival))
    assert "partition spare" not in [one.what for one in of(mine, crowded).changes]


def test_a_shorter_time_ends_before_slurm_starts_the_one_ahead():
    free = (replace(FULL[0], gpus=(NodeGpus("h100", 8, 4),)), FULL[1])
    mine = waiting(1, gpus=4, time_limit_seconds=7200)
    ahead = waiting(2, "u2", gpus=16, nodes=2, start_time=NOW + 3600)
    found = change(of(mine, world(mine, ahead, nodes=free)), "a time limit")
    assert found.what == "a time limit of 01:00:00"


def test_without_slurms_plan_the_time_is_until_our_estimate_of_the_first_in_line():
    free = (replace(FULL[0], gpus=(NodeGpus("h100", 8, 4),)), FULL[1])
    running = make_job(7, gpus=8, node_list="gpu02", time_limit_seconds=1200)
    mine = waiting(1, gpus=4, time_limit_seconds=7200)
    ahead = waiting(2, "u2", gpus=8)
    snapshot = world(mine, ahead, running, nodes=free)
    assert change(of(mine, snapshot), "a time limit").what == "a time limit of 00:20:00"


def test_fewer_gpus_that_are_free_now_are_named_with_what_is_lost():
    free = (replace(FULL[0], gpus=(NodeGpus("h100", 8, 4),)), FULL[1])
    mine = waiting(1, gpus=8, waited=7 * DAY)
    found = change(of(mine, world(mine, waiting(2, "u2"), nodes=free)), "4 GPUs")
    assert found.gain_points == -1000
    assert "begin anew" in found.note


def test_what_the_controller_is_about_to_give_is_named_only_under_enforce():
    rules = {"ordering": {"kind": "fcfs"}}
    mine, other = waiting(1, waited=DAY), waiting(2, "u2")
    snapshot = world(mine, other)
    acts = make_policy(enforcement="enforce", **rules)
    found = change(of(mine, snapshot, policy=acts), "the next tick")
    assert found.gain_points > 0
    assert found.place.place == 1
    assert "rule P-603" in found.note
    only_says = make_policy(enforcement="advise", **rules)
    names = [one.what for one in of(mine, snapshot, policy=only_says).changes]
    assert "the next tick of gpu-policyd" not in names


def test_a_place_in_the_whole_order_is_at_most_the_last_in_its_partition():
    mine = waiting(1)
    others = [waiting(number, "u2", waited=DAY, partitions=("cpu",)) for number in (2, 3)]
    policy = make_policy(enforcement="enforce", ordering={"kind": "fcfs"})
    found = change(of(mine, world(mine, *others), policy=policy), "the next tick")
    assert (found.place.place, found.place.of) == (1, 1)


def test_a_site_factor_is_explained_by_the_sites_order():
    mine, other = waiting(1, waited=DAY), waiting(2, "u2")
    snapshot = world(mine, other, sites={1: 70_000})
    found = of(mine, snapshot, policy=make_policy(ordering={"kind": "fcfs"}))
    assert found.terms[0].name == "site"
    assert "first come, first served (rule P-603)" in found.terms[0].text
    behind = of(other, snapshot, policy=make_policy(ordering={"kind": "fcfs"}))
    assert behind.ahead.decided_by == "site"
    assert behind.ahead.text.endswith("the site's order (rule P-603)")
