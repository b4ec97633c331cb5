"""What is asked of sbatch: each option once, none empty, no two that exclude each other."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.adapters.rendering.options import Asked, asks_gpus, sbatch_options
from slurm_gpu_policy.adapters.rendering.sbatch_grammar import FAMILIES, GPU_FORMS
from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.model.tag import read_tag, strip_tag
from tests.scripts import TOKEN, make_decision, make_request


def ask(request=None, decision=None, form="gres", **more) -> Asked:
    return sbatch_options(
        request or make_request("x"),
        replace(decision or make_decision(), gpu_request=form),
        TOKEN,
        **more,
    )


def asked(*args, **kwargs) -> dict[str, str | None]:
    options = ask(*args, **kwargs).options
    found = dict(options)
    assert len(found) == len(options), "an option stands twice"
    return found


def gpus(options) -> dict[str, str | None]:
    return {name: value for name, value in options.items() if name in {*GPU_FORMS, "nodes"}}


@pytest.mark.parametrize(
    ("form", "fields", "expected"),
    [
        ("gres", {}, {"gres": "gpu:h100:4", "nodes": "1"}),
        ("gres", {"gres_type": None}, {"gres": "gpu:4", "nodes": "1"}),
        ("gres", {"nodes": 2, "gpus": 16}, {"gres": "gpu:h100:8", "nodes": "2"}),
        ("gres", {"nodes": 2, "gpus": 3}, {"gpus": "h100:3", "nodes": "2"}),
        ("gpus-per-node", {"nodes": 2, "gpus": 8}, {"gpus-per-node": "h100:4", "nodes": "2"}),
        ("gpus-per-node", {"nodes": 2, "gpus": 5}, {"gpus": "h100:5", "nodes": "2"}),
        ("gpus", {}, {"gpus": "h100:4"}),
        ("gpus", {"gres_type": None, "nodes": 2}, {"gpus": "4", "nodes": "2"}),
        ("gres", {"gpus": 0}, {}),
    ],
)
def test_gpus_are_asked_for_in_the_sites_form(form, fields, expected):
    assert gpus(asked(decision=make_decision(**fields), form=form)) == expected


def test_gpus_that_were_asked_for_per_node_are_not_left_to_slurm_to_spread():
    request = make_request("x", gpus=None, gpus_per_node=2, nodes=2)
    decision = make_decision(nodes=2, gpus=4)
    assert gpus(asked(request, decision, "gpus")) == {"gpus-per-node": "h100:2", "nodes": "2"}


def test_a_request_without_gpus_asks_for_none_and_pins_no_nodes():
    found = asked(make_request("x", gpus=None), make_decision(gpus=0, gres_type=None))
    assert gpus(found) == {}


def test_the_users_own_gpu_option_is_passed_on_alone():
    request = make_request("x", options=(("gpus-per-task", "h100:1"),), ntasks=4)
    assert gpus(asked(request)) == {"gpus-per-task": "h100:1"}


def test_other_generic_resources_stand_beside_the_gpus():
    request = make_request("x", options=(("gres", "nvme:1"),))
    assert asked(request)["gres"] == "gpu:h100:4,nvme:1"
    assert asked(request, form="gpus")["gres"] == "nvme:1"


def test_features_and_the_users_constraint_are_both_demanded():
    decision = make_decision(features=("h100", "nvlink"))
    assert asked(decision=decision)["constraint"] == "h100&nvlink"
    request = make_request("x", options=(("constraint", "ib"),))
    assert asked(request, decision)["constraint"] == "h100&nvlink&ib"
    request = make_request("x", options=(("constraint", "a|b"),))
    assert asked(request, decision)["constraint"] == "h100&nvlink&(a|b)"
    request = make_request("x", options=(("constraint", "h100&nvlink"),))
    assert asked(request, decision)["constraint"] == "h100&nvlink"


def test_the_comment_carries_the_users_words_and_the_mark():
    request = make_request(
        "x",
        options=(("comment", "my run"),),
        workload="training",
        retries=2,
        idle_ok_seconds=600,
        max_cost_micros=5_000_000,
    )
    comment = asked(request, template="torchrun")["comment"]
    assert strip_tag(comment) == "my run"
    assert read_tag(comment) == {
        "token": TOKEN,
        "workload": "training",
        "template": "torchrun",
        "retries": "2",
        "idle_ok": "600",
        "max_cost": "5000000",
    }


def test_a_workload_of_any_name_fits_the_mark():
    comment = asked(make_request("x", workload="a;b=c) d"))["comment"]
    assert read_tag(comment)["workload"] == "a_b_c__d"


def test_a_job_that_may_be_tried_again_can_be_requeued_and_keeps_its_output():
    found = asked(make_request("x", retries=1))
    assert "requeue" in found
    assert found["open-mode"] == "append"
    found = asked(make_request("x", retries=1, options=(("open-mode", "truncate"),)))
    assert found["open-mode"] == "truncate"


@pytest.mark.parametrize(
    "fields",
    [
        {"retries": 1, "options": (("no-requeue", None),)},
        {"options": (("requeue", None), ("no-requeue", None))},
        {"options": (("mem-per-gpu", "1G"), ("mem-per-cpu", "1G"))},
    ],
)
def test_options_that_exclude_each_other_are_refused_and_none_is_dropped(fields):
    with pytest.raises(RequestError, match="exclude each other"):
        asked(make_request("x", **fields))


def test_what_was_asked_for_each_gpu_goes_where_the_gpus_go():
    fields = {"options": (("cpus-per-gpu", "8"), ("mem-per-gpu", "1G")), "nodes": 2}
    found = asked(make_request("x", gpus=4, **fields), make_decision(gpus=0, cpus=16))
    assert found.keys().isdisjoint({"cpus-per-gpu", "mem-per-gpu", "nodes"})
    assert found["cpus-per-task"] == "16"


def test_a_scripts_own_wait_is_left_to_gpu_submit():
    request = make_request(script="#!/bin/sh\n", script_options=(("wait", None),))
    assert "wait" in ask(request).replaced


def test_memory_has_one_form():
    assert asked(make_request("x", memory_mb=64_000))["mem"] == "64000M"
    assert asked(make_request("x", memory_mb=0))["mem"] == "0M"
    request = make_request("x", memory_mb=64_000, options=(("mem-per-gpu", "16G"),))
    with pytest.raises(RequestError, match="--mem and --mem-per-gpu exclude each other"):
        asked(request)


def test_an_empty_value_is_refused():
    with pytest.raises(RequestError, match="--qos has an empty value"):
        asked(make_request("x", options=(("qos", ""),)))


# --- beside the user's own script ---


def scripted(*options, **fields):
    return make_request(script="#!/bin/sh\ntrue\n", script_options=options, **fields)


def test_what_the_script_says_already_is_not_repeated():
    request = scripted(
        ("gpus", "h100:4"), ("time", "240"), ("mem", "64G"), ("account", "nlp"), memory_mb=65536
    )
    found = ask(request)
    assert not {"gpus", "gres", "time", "mem", "account"} & dict(found.options).keys()
    assert found.replaced == frozenset()


@pytest.mark.parametrize(
    "own", [("gres", "gpu:h100:4"), ("gpus-per-node", "h100:4"), ("gpus", "h100:4")]
)
def test_a_gpu_request_in_any_form_stands_if_it_is_what_was_decided(own):
    assert not {*GPU_FORMS} & dict(ask(scripted(own)).options).keys()


def test_a_gpu_request_that_was_routed_replaces_the_scripts_in_another_form():
    found = ask(scripted(("gpus", "4")))
    assert dict(found.options)["gres"] == "gpu:h100:4"
    assert found.replaced == {"gpus"}


def test_a_gpu_request_of_the_same_form_wins_without_touching_the_script():
    found = ask(scripted(("gres", "gpu:2,nvme:1")))
    assert dict(found.options)["gres"] == "gpu:h100:4,nvme:1"
    assert found.replaced == frozenset()


def test_a_job_that_falls_back_to_cpus_loses_the_scripts_gpus():
    found = ask(scripted(("gpus", "4"), ("gres", "nvme:1")), make_decision(gpus=0))
    assert found.replaced == {"gpus"}
    found = ask(scripted(("gres", "gpu:4")), make_decision(gpus=0))
    assert found.replaced == {"gres"}
    found = ask(scripted(("gres", "gpu:4,nvme:1")), make_decision(gpus=0))
    assert dict(found.options)["gres"] == "nvme:1"


def test_a_gpu_form_that_the_request_does_not_count_is_left_alone():
    found = ask(scripted(("gpus-per-socket", "1"), gpus=None), make_decision(gpus=0))
    assert found.replaced == frozenset()


def test_an_option_on_the_command_line_replaces_the_scripts_of_another_form():
    found = ask(scripted(("mem-per-gpu", "16G"), memory_mb=1000))
    assert dict(found.options)["mem"] == "1000M"
    assert found.replaced == {"mem-per-gpu"}
    found = ask(scripted(("mem", "64G"), memory_mb=65536, options=(("mem-per-cpu", "1G"),)))
    assert dict(found.options)["mem-per-cpu"] == "1G"
    assert found.replaced == {"mem"}


def test_which_options_ask_for_gpus():
    assert asks_gpus("gres", "nvme:1,gpu:2")
    assert asks_gpus("gres", "gpu")
    assert asks_gpus("gpus-per-task", "1")
    assert not asks_gpus("gres", "gpumem:1")
    assert not asks_gpus("nodes", "1")


options = st.lists(
    st.sampled_from(
        [
            ("gres", "gpu:2"),
            ("gres", "nvme:1"),
            ("gpus", "h100:4"),
            ("gpus-per-node", "2"),
            ("gpus-per-task", "1"),
            ("mem-per-gpu", "1G"),
            ("mem-per-cpu", "1G"),
            ("requeue", None),
            ("no-requeue", None),
            ("exclusive", None),
            ("comment", "x"),
            ("constraint", "a|b"),
            ("time", "10"),
        ]
    ),
    max_size=4,
).map(tuple)


@given(
    own=options,
    passed=options,
    form=st.sampled_from(["gres", "gpus", "gpus-per-node"]),
    count=st.integers(0, 9),
    nodes=st.integers(1, 3),
    memory=st.one_of(st.none(), st.integers(1, 10**6)),
)
def test_no_empty_option_and_no_second_form_ever(*, own, passed, form, count, nodes, memory):
    request = scripted(*own, options=passed, memory_mb=memory, gpus=count or None)
    try:
        found = ask(request, make_decision(gpus=count, nodes=nodes), form)
    except RequestError:
        return
    names = [name for name, _ in found.options]
    assert len(names) == len(set(names))
    assert all(value != "" for _, value in found.options)
    surviving = {**dict(own), **dict(found.options)}
    for name in found.replaced:
        surviving.pop(name)
    for family in FAMILIES[1:]:
        if not len(family & dict(own).keys()) > 1:
            assert len(family & surviving.keys()) <= 1
    forms = [name for name, value in surviving.items() if asks_gpus(name, value)]
    one_of_each = sum(asks_gpus(*each) for each in own) <= 1
    if one_of_each and not any(asks_gpus(*each) for each in passed):
        assert len(forms) <= 1


def test_over_a_range_of_nodes_only_a_total_is_asked_for():
    request = make_request("x", gpus=8, nodes=2, options=(("nodes", "1-2"),))
    decision = make_decision(nodes=2, gpus=8)
    assert gpus(asked(request, decision)) == {"gpus": "h100:8", "nodes": "1-2"}


def test_a_job_that_needs_an_approval_is_submitted_held_and_says_why():
    options = asked(decision=replace(make_decision(), kind="hold"))
    assert "hold" in options
    assert read_tag(options["comment"])["approval"] == "asked"
    plain = asked()
    assert "hold" not in plain
    assert "approval" not in read_tag(plain["comment"])
