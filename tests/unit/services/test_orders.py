"""Several rules' wishes for one job become one order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.model.action import Action
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.job import JobState, PriorityFactors
from slurm_gpu_policy.services.orders import order_for, put_together
from tests.builders import make_job, make_snapshot

PENDING = make_job(state=JobState.PENDING, admin_comment="theirs gpu-policy(a=1)")


def act(verb, number=1, rule="X-100", **more):
    return Action(verb, JobId(number), str(number), rule, "", "", "", **more)


def test_changes_marks_and_site_factor_of_several_rules_are_one_change():
    order = order_for(
        PENDING,
        [
            act("modify", changes=(("qos", "low"),), mark=(("moved", "7"),)),
            act("site_factor", site_factor=9),
            act("modify", mark=(("first", "3"), ("a", ""))),
        ],
    )
    assert order.changes == {
        "qos": "low",
        "site_factor": "9",
        "admin_comment": "theirs gpu-policy(moved=7;first=3)",
    }
    assert (order.first, order.last, len(order.actions)) == ("", "", 3)


def test_a_mark_that_stands_already_is_not_written_again():
    assert order_for(PENDING, [act("modify", mark=(("a", "1"), ("b", "")))]).changes == {}


def test_of_two_values_for_a_field_or_fact_the_earlier_rule_has_it():
    first = act("modify", changes=(("qos", "low"),), mark=(("a", "2"),))
    second = act("modify", rule="X-200", changes=(("qos", "high"),))
    third = act("modify", rule="X-300", mark=(("a", "3"),))
    assert order_for(PENDING, [first, second, third]).actions == (first,)


@pytest.mark.parametrize(
    ("verbs", "first", "last"),
    [
        (["release", "cancel", "requeue", "hold"], "", "cancel"),
        (["release", "requeue", "hold", "modify"], "requeue_held", "release"),
        (["release", "hold"], "hold", ""),
        (["release", "modify"], "", "release"),
    ],
)
def test_the_weightier_verb_has_the_job(verbs, first, last):
    order = order_for(PENDING, [act(verb) for verb in verbs])
    assert (order.first, order.last) == (first, last)


def test_a_requeue_and_a_cancel_are_done_alone():
    for verb in ("cancel", "requeue"):
        order = order_for(PENDING, [act("site_factor", site_factor=1), act(verb)])
        assert [action.verb for action in order.actions] == [verb]
        assert order.changes == {}


def test_an_arrays_waiting_rest_is_addressed_as_such():
    rest = make_job(7, array_job_id=JobId(7), array_task="3-5%2", state=JobState.PENDING)
    assert order_for(rest, [act("hold", 7)]).address == "7_[3-5]"


def test_a_mark_that_cannot_be_written_is_an_error():
    with pytest.raises(ValueError, match="cannot carry"):
        order_for(PENDING, [act("modify", mark=(("a", "two words"),))])


def factors(number, site=0):
    return PriorityFactors(JobId(number), "gpu", "normal", 0, 0, 0, 0, 0, 0, 0, nice=0, site=site)


@given(st.permutations(range(1, 7)))
def test_what_touches_more_than_the_place_comes_first_then_the_head_of_the_queue(order):
    jobs = tuple(make_job(n, state=JobState.PENDING, priority=100 * n) for n in range(1, 7))
    snapshot = make_snapshot(jobs=jobs, priorities=tuple(factors(n) for n in range(1, 7)))
    wanted = {
        1: act("site_factor", 1, site_factor=5000),  # will be the head
        2: act("hold", 2),
        3: act("site_factor", 3, site_factor=-200),  # is before those behind it still
        4: act("site_factor", 4, site_factor=1),
        5: act("modify", 5, changes=(("qos", "low"),)),
        6: act("site_factor", 6, site_factor=1),
    }
    made = put_together([wanted[n] for n in order], snapshot)
    assert [one.job_id for one in made] == [5, 2, 1, 6, 4, 3]


def test_a_hold_by_a_change_of_priority_is_not_undone_by_a_site_factor():
    hold = act("modify", changes=(("priority", "0"),), mark=(("money", "held"),))
    order = order_for(PENDING, [hold, act("site_factor", site_factor=9)])
    assert order.changes.keys() == {"priority", "admin_comment"}


def test_words_for_a_job_go_with_their_mark():
    told = Action("notify", JobId(1), "1", "B-009", "save your work", "", "", mark=(("told", "7"),))
    order = order_for(PENDING, [told])
    assert (order.words, order.last) == ("save your work", "")
    assert order.changes == {"admin_comment": "theirs gpu-policy(a=1;told=7)"}
