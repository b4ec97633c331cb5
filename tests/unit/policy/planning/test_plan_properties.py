"""What holds of plans for all policies, on sites where others have made things too."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_gpu_policy.policy.planning.plan import after
from tests.fakes.accounts import FakeAccounts
from tests.fakes.site import CLUSTER, Site, wanted_by

ACCOUNTS = ("a", "b", "c", "d")
USERS = ("u1", "u2", "u3")
QOS = ("q1", "q2", "q3")

limits = st.fixed_dictionaries(
    {}, optional={"gpus": st.sampled_from([4, 8, "unlimited"]), "time": st.sampled_from(["1h"])}
)
member = st.fixed_dictionaries({}, optional={"shares": st.sampled_from([1, 5, "parent"])})


@st.composite
def policies(draw):
    """A policy file without contradictions: parents and preemption go one way."""
    names = draw(st.lists(st.sampled_from(ACCOUNTS), unique=True))
    order = draw(st.permutations(names))
    qos = draw(st.lists(st.sampled_from(QOS), unique=True))
    qos_order = draw(st.permutations(qos))
    accounts = {}
    for place, name in enumerate(order):
        entry = {"parent": draw(st.sampled_from(["root", *order[:place]]))}
        entry["limits"] = draw(limits)
        if draw(st.booleans()):
            entry["users"] = draw(st.dictionaries(st.sampled_from(USERS), member))
            if entry["users"] and draw(st.booleans()):
                entry["coordinators"] = [draw(st.sampled_from(sorted(entry["users"])))]
        if qos and draw(st.booleans()):
            entry["qos"] = sorted({"normal", *draw(st.lists(st.sampled_from(qos)))})
            entry["default_qos"] = draw(st.sampled_from(entry["qos"]))
        if draw(st.booleans()):
            entry["closed"] = draw(st.booleans())
        accounts[name] = entry
    described = {
        name: {"preempts": draw(st.lists(st.sampled_from(qos_order[:place]), unique=True))}
        if place and draw(st.booleans())
        else {"preempts": []}
        for place, name in enumerate(qos_order)
    }
    return {"accounts": accounts, "qos": described}


@st.composite
def sites(draw):
    """A site in which others have made something, with names that we use too."""
    slurm = FakeAccounts()
    for name in draw(st.lists(st.sampled_from([*ACCOUNTS, "x", "y"]), unique=True)):
        made = [one[1] for one in slurm.objects if one[0] == "account"]
        slurm.make_account(name, parent=draw(st.sampled_from(made)))
        for user in draw(st.lists(st.sampled_from([*USERS, "u9"]), unique=True)):
            slurm.make_user(name, user)
    for name in draw(st.lists(st.sampled_from([*QOS, "qx"]), unique=True)):
        slurm.make_qos(name)
    return Site(slurm)


def fits(site, policy):
    """Whether the policy has no contradiction with what others have made there."""
    return not site.plan(**policy).problems


def left_over(site, before):
    """What apply made and nobody else has come to use: QOS that others' accounts now name, and
    accounts that theirs were put into, stay.
    """
    there = site.slurm.objects
    assert before <= there.keys()
    named = {
        name
        for values in there.values()
        for field in ("qos", "default_qos", "preempts")
        for name in values.get(field, "").split(",")
    }
    used = {("qos", name) for name in named}
    for what in before:
        if what[0] == "account":
            used |= {("account", name) for name in lineage(there, what[1])}
    return there.keys() - before - used


def lineage(objects, account):
    while account:
        yield account
        account = objects["account", account]["parent"]


everything = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@everything
@given(site=sites(), file=policies(), later=policies())
def test_after_an_apply_all_is_as_wanted_and_a_second_one_changes_nothing(site, file, later):
    for policy in (file, later):
        if not fits(site, policy):
            continue
        plan = site.plan(**policy)
        promised = after(site.slurm.managed(CLUSTER), plan)
        site.apply(**policy)
        assert site.plan(**policy).changes == ()
        there = site.slurm.managed(CLUSTER).objects
        assert {what for what in promised if what[0] != "coordinator"} == {
            what for what in there if what[0] != "coordinator"
        }
        for what, values in wanted_by(json.dumps(policy)).objects.items():
            for name, value in values.items():
                is_closed = name == "submitted_jobs"
                assert is_closed or there[what][name] == value, (what, name)


@everything
@given(site=sites(), file=policies(), later=policies())
def test_what_others_made_and_the_file_never_names_is_not_touched(site, file, later):
    before = {what: dict(values) for what, values in site.slurm.objects.items()}
    named = set()
    for policy in (file, later, {}):
        if fits(site, policy):
            site.apply(**policy)
            named |= wanted_by(json.dumps(policy)).objects.keys()
    now = site.slurm.objects
    assert before.keys() <= now.keys()
    for what, values in before.items():
        if what not in named:
            mine = {n: v for n, v in values.items() if n != "default"}
            assert mine == {n: v for n, v in now[what].items() if n != "default"}


@everything
@given(site=sites(), file=policies())
def test_what_apply_made_is_gone_when_the_file_is_empty_again(site, file):
    if not fits(site, file):
        return
    before = site.slurm.objects.keys() | set()
    site.apply(**file)
    site.apply()
    assert left_over(site, before) == set()


@everything
@given(site=sites(), file=policies(), later=policies(), data=st.data())
def test_an_apply_that_stopped_anywhere_is_completed_by_the_next(site, file, later, data):
    if not (fits(site, file) and fits(site, later)):
        return
    before = site.slurm.objects.keys() | set()
    for policy in (file, later):
        if not fits(site, policy):
            return
        steps = data.draw(st.integers(0, len(site.plan(**policy).changes)))
        site.apply(steps=steps, **policy)
    if not fits(site, later):
        return
    site.apply(**later)
    assert site.plan(**later).changes == ()
    site.apply()
    assert left_over(site, before) == set()
