"""How options, a script's own lines and defaults become one request."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.apps.submit.request import build_request
from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.model.request import UNLIMITED
from tests.builders import make_policy


def build(
    values=None,
    *,
    script_options=(),
    script=None,
    many=None,
    words=("true",),
    soft=frozenset(),
    **policy,
):
    return build_request(
        values or {},
        many=many or {},
        words=words,
        script="#!/bin/bash\n" if script_options and script is None else script,
        script_options=script_options,
        user="u1",
        soft=soft,
        policy=make_policy(**policy),
    )


@pytest.mark.parametrize(
    ("values", "total", "per_node", "types"),
    [
        ({"gpus": "4"}, 4, None, ()),
        ({"gpus": "h100:4"}, 4, None, ("h100",)),
        ({"gpus": "h100"}, 1, None, ("h100",)),
        ({"gpus-per-node": "h100:8"}, None, 8, ("h100",)),
        ({"gres": "gpu:h100:4"}, None, 4, ("h100",)),
        ({"gres": "gpu:4"}, None, 4, ()),
        ({"gres": "gpu"}, None, 1, ()),
        ({"gres": "gres/gpu:2"}, None, 2, ()),
        ({"gres": "gpu:1g.10gb:2"}, None, 2, ("1g.10gb",)),
        ({"gres": "gpu:nvidia_a100_1g.5gb:3"}, None, 3, ("nvidia_a100_1g.5gb",)),
        ({"gpu-type": "h100,a100"}, 1, None, ("h100", "a100")),
        ({"gpus": "0"}, None, None, ()),
        ({}, 1, None, ()),
    ],
)
def test_every_form_of_a_gpu_request_is_read(values, total, per_node, types):
    request, _ = build(values)
    assert (request.gpus, request.gpus_per_node, request.gpu_types) == (total, per_node, types)


@pytest.mark.parametrize(
    "values",
    [
        {"gpus": "-1"},
        {"gpus": "h100:x"},
        {"gpus": "h100:2,a100:2"},
        {"gpus": ":"},
        {"gpus": "4", "gpus-per-node": "4"},
        {"gpus": "4", "gres": "gpu:4"},
        {"gres": "gpu:1,gpu:2"},
        {"gpus": "a100:1", "gpu-type": "h100"},
        {"nodes": "0"},
        {"nodes": "4-2"},
        {"nodes": "two"},
        {"ntasks": "1.5"},
        {"ntasks": "١"},
        {"time": "soon"},
        {"mem": "lots"},
        {"max-cost": "-1"},
        {"max-cost": "1e9"},
        {"retries": "-1"},
        {"idle-ok": "0"},
    ],
)
def test_what_cannot_be_understood_is_refused_with_words(values):
    with pytest.raises(RequestError, match=r"\w"):
        build(values)


@pytest.mark.parametrize(
    "many",
    [
        {"env": ["A"]},
        {"env": ["1A=x"]},
        {"env": ["A B=x"]},
        {"param": ["x"]},
        {"sbatch-arg": ["-x"]},
        {"sbatch-arg": ["--"]},
    ],
)
def test_repeated_options_must_have_their_form(many):
    with pytest.raises(RequestError):
        build(many=many)


def test_a_command_without_a_count_gets_the_sites_default_and_a_script_does_not():
    assert build(defaults={"gpus": 2})[0].gpus == 2
    assert build(defaults={"gpus": 0})[0].gpus is None
    assert build(script="#!/bin/sh\n")[0].gpus is None


def test_a_scripts_own_lines_are_read_for_the_decision():
    own = (("gres", "gpu:h100:4"), ("time", "2:00:00"), ("account", "nlp"), ("nodes", "2"))
    request, conflicts = build(script_options=own)
    assert (request.gpus_per_node, request.gpu_types, request.nodes) == (4, ("h100",), 2)
    assert (request.time_seconds, request.account) == (7200, "nlp")
    assert conflicts == ()


def test_s_501_an_option_replaces_the_scripts_line_and_is_named():
    request, conflicts = build({"time": "1h"}, script_options=(("time", "2:00:00"),))
    assert request.time_seconds == 3600
    assert [reason.rule for reason in conflicts] == ["S-501"]
    assert "#SBATCH --time=2:00:00" in conflicts[0].message


def test_s_501_another_form_of_the_same_request_replaces_the_scripts_too():
    request, conflicts = build({"gpus": "2"}, script_options=(("gres", "gpu:h100:4"),))
    assert (request.gpus, request.gpus_per_node) == (2, None)
    assert "--gpus=2" in conflicts[0].message


def test_an_option_that_agrees_with_the_script_is_no_conflict():
    assert build({"time": "1:00:00"}, script_options=(("time", "1:00:00"),))[1] == ()


def test_options_of_sbatch_that_we_do_not_read_are_passed_on_as_they_are():
    request, _ = build(
        {"output": "a b.txt", "hold": ""}, many={"sbatch-arg": ["--switches=1", "--reboot"]}
    )
    assert request.options == (
        ("output", "a b.txt"),
        ("hold", None),
        ("switches", "1"),
        ("reboot", None),
    )


def test_an_sbatch_arg_that_we_read_counts_as_the_option_itself():
    request, _ = build(many={"sbatch-arg": ["--time=30"]})
    assert (request.time_seconds, request.options) == (1800, ())


def test_mem_zero_asks_for_a_whole_nodes_memory_as_with_sbatch():
    request, _ = build({"mem": "0"})
    assert (request.memory_mb, request.options) == (None, (("mem", "0"),))


@pytest.mark.parametrize("text", ["UNLIMITED", "infinite", "0"])
def test_unlimited_time_is_asked_for_and_not_left_to_a_default(text):
    assert build({"time": text})[0].time_seconds == UNLIMITED
    assert build({})[0].time_seconds is None


def test_a_typed_count_counts_more_than_a_type_from_the_settings():
    values = {"gpus": "v100:1", "gpu-type": "h100"}
    request, _ = build(values, soft=frozenset({"gpu-type"}))
    assert request.gpu_types == ("v100",)
    with pytest.raises(RequestError, match="contradicts"):
        build(values)


def test_a_type_given_beside_a_script_replaces_the_scripts():
    request, _ = build({"gpu-type": "a100"}, script_options=(("gres", "gpu:h100:4"),))
    assert (request.gpu_types, request.gpus_per_node) == (("a100",), 4)


def test_another_resource_leaves_a_scripts_gpus_alone():
    request, conflicts = build({"gres": "tmpfs:5"}, script_options=(("gpus", "h100:4"),))
    assert (request.gpus, request.options, conflicts) == (4, (("gres", "tmpfs:5"),), ())


@pytest.mark.parametrize(
    ("own", "total"),
    [
        ((("gpus-per-task", "2"), ("ntasks", "3")), 6),
        ((("gpus-per-task", "1"), ("ntasks-per-node", "8"), ("nodes", "2")), 16),
        ((("gpus-per-task", "1"),), 1),
        ((("gpus-per-task", "1"), ("nodes", "2")), 2),
    ],
)
def test_gpus_per_task_count_with_all_tasks(own, total):
    assert build(script_options=own)[0].gpus == total


@pytest.mark.parametrize(
    "own",
    [
        ("gpus-per-socket", "4"),
        ("ntasks-per-gpu", "1"),
        ("tres-per-task", "gres/gpu:2"),
        ("clusters", "other"),
        ("test-only", ""),
    ],
)
def test_what_cannot_be_counted_or_decided_here_is_refused_with_what_to_do(own):
    with pytest.raises(RequestError, match=own[0]):
        build(script_options=(own,))
    with pytest.raises(RequestError, match=own[0]):
        build(many={"sbatch-arg": [f"--{own[0]}={own[1]}"]})


@pytest.mark.parametrize("name", ["wait", "wrap", "parsable", "quiet", "version", "qui"])
def test_what_would_change_sbatchs_answer_is_refused(name):
    with pytest.raises(RequestError, match="sbatch-arg"):
        build(many={"sbatch-arg": [f"--{name}"]})


def test_an_option_cut_short_is_known_by_its_whole_name():
    assert build(many={"sbatch-arg": ["--arra=0-3"]})[0].array == "0-3"


def test_a_job_with_nodes_of_its_own_is_known_as_such():
    assert build({"exclusive": ""})[0].is_exclusive
    assert build(script_options=(("exclusive", None),))[0].is_exclusive
    assert not build(many={"sbatch-arg": ["--exclusive=user"]})[0].is_exclusive


def test_environment_values_keep_every_character():
    request, _ = build(many={"env": ["A=b=c\n$(x)", "B="]})
    assert request.environment == (("A", "b=c\n$(x)"), ("B", ""))


def test_a_range_of_nodes_is_judged_by_its_upper_end_and_passed_on_as_it_is():
    request, _ = build({"nodes": "2-4", "gpus": "8"})
    assert (request.nodes, request.options) == (4, (("nodes", "2-4"),))
