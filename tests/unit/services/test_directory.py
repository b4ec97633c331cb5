"""Who may do what, and what happens while slurmdbd is away."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.errors import SlurmUnavailable
from slurm_gpu_policy.model.caller import Caller
from slurm_gpu_policy.model.cluster import ClusterConfig
from slurm_gpu_policy.services.directory import Directory
from tests.builders import make_policy
from tests.fakes.clock import FakeClock
from tests.fakes.people import FakePeople

CONFIG = ClusterConfig("c", "22.05.8", {"SlurmUser": "slurm(64030)"})
ALL = make_policy(approvals={"approvers": {"groups": ["board"], "coordinators": True}})


def directory(people, clock=None):
    return Directory(people, lambda user: (f"g-{user}", "board"), clock or FakeClock())


def test_only_what_a_rule_asks_is_looked_up():
    people = FakePeople(coordinators={"nlp": ["u3"]})
    found = directory(people).people({"u2"}, make_policy())
    assert (dict(found.groups), dict(found.coordinators), people.calls) == ({}, {}, 0)
    found = directory(people).people({"u2"}, ALL)
    assert found.groups == {"u2": frozenset({"g-u2", "board"})}
    assert found.coordinators == {"nlp": frozenset({"u3"})}


@pytest.mark.parametrize(
    ("caller", "is_operator"),
    [
        (Caller(0, "root"), True),
        (Caller(64030, "slurm"), True),
        (Caller(6004, "u4"), True),
        (Caller(6003, "u3"), True),
        (Caller(6001, "u1"), False),
        (Caller(6001, "slurm"), False),  # a name is no proof
    ],
)
def test_operators_are_root_slurmuser_the_policys_and_slurms_own(caller, is_operator):
    policy = make_policy(operators=["u4"])
    found = directory(FakePeople(operators=["u3"])).is_operator(caller, policy, CONFIG)
    assert found is is_operator


def test_answers_are_kept_for_a_while():
    people, clock = FakePeople(coordinators={"nlp": ["u3"]}), FakeClock()
    one = directory(people, clock)
    for _ in range(3):
        one.people((), ALL)
    assert people.calls == 1
    people.named_coordinators = {}
    clock.advance(301)
    assert one.people((), ALL).coordinators == {}


def test_while_slurmdbd_is_away_its_last_word_counts():
    people, clock = FakePeople(["u3"], {"nlp": ["u3"]}), FakeClock()
    one = directory(people, clock)
    one.people((), ALL)
    one.is_operator(Caller(6001, "u1"), ALL, CONFIG)
    people.is_away = True
    clock.advance(1000)
    assert one.people((), ALL).coordinators == {"nlp": frozenset({"u3"})}
    assert one.is_operator(Caller(6003, "u3"), ALL, CONFIG)


def test_where_slurmdbd_never_said_a_word_nothing_is_guessed():
    people = FakePeople()
    people.is_away = True
    with pytest.raises(SlurmUnavailable):
        directory(people).people((), ALL)
    with pytest.raises(SlurmUnavailable):
        directory(people).is_operator(Caller(6001, "u1"), ALL, None)
