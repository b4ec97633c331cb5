"""The renderer: a decided request becomes a script and its options."""

import pytest

from slurm_gpu_policy.adapters.rendering.renderer import Renderer
from slurm_gpu_policy.errors import RenderError, RequestError
from tests.scripts import make_decision, make_request, option, rendered


def test_a_command_is_run_by_the_batch_template():
    submission = rendered(make_request("python", "train me.py"))
    assert submission.script.endswith("\nexec -- python 'train me.py'\n")
    assert not submission.interactive


def test_a_job_is_called_like_its_command_unless_it_has_a_name():
    assert option(rendered(make_request("/opt/bin/train", "x")), "job-name") == "train"
    assert option(rendered(make_request("train", name="mine")), "job-name") == "mine"
    assert option(rendered(make_request(template="jupyter")), "job-name") == "jupyter"


def test_the_script_repeats_every_option_for_the_reader():
    submission = rendered(make_request("x", options=(("mail-type", "END"), ("hold", None))))
    for name, value in submission.options:
        line = f"#SBATCH --{name}" + (f"={value}" if value is not None else "")
        assert line.replace('"', "") in submission.script.replace('"', "")


def test_the_users_script_keeps_its_options_and_arguments():
    script = "#!/bin/bash\n#SBATCH --time=10 --mem=1G\ntrain\n"
    submission = rendered(
        make_request("a", "b c", script=script, script_options=(("time", "10"), ("mem", "1G"))),
        make_decision(time_seconds=600),
    )
    assert submission.script_args == ("a", "b c")
    assert submission.script_options == (("time", "10"), ("mem", "1G"))
    assert option(submission, "time") is None


def test_an_option_that_differs_is_no_longer_the_scripts():
    submission = rendered(
        make_request(script="#!/bin/bash\n#SBATCH -t 10\n", script_options=(("time", "10"),))
    )
    assert submission.script_options == ()
    assert option(submission, "time") == "04:00:00"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"command": ()}, "runs a command, and none was given"),
        ({"command": ("",)}, "runs a command, and none was given"),
        ({"command": ("x",), "template": "jupyter"}, "takes no command"),
        ({"command": ("x",), "template": "interactive", "array": "1-2"}, "cannot run as an array"),
        ({"command": (), "script": "#!/bin/sh\n", "template": "serve"}, "a script was given"),
        ({"command": (), "script": "#!/bin/sh\n", "params": (("a", "b"),)}, "--param a"),
        (
            {"command": ("x",), "template": "torchrun", "nodes": 2, "ntasks": 8},
            "leave out --ntasks",
        ),
    ],
)
def test_a_template_refuses_what_it_cannot_run(fields, words):
    request = make_request(*fields.pop("command"), **fields)
    with pytest.raises(RenderError, match=words):
        rendered(request)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"command": ("a", "b\0")}, "word 2 of the command holds a NUL"),
        ({"command": ("a",), "name": "x\0"}, "the job name holds a NUL"),
        ({"command": ("a",), "options": (("comment", "\0"),)}, "the value of --comment"),
        ({"command": ("a",), "environment": (("A", "\0"),)}, "the variable A holds a NUL"),
        (
            {"command": (), "template": "serve", "params": (("model", "\0"),)},
            "the parameter model holds a NUL",
        ),
    ],
)
def test_a_nul_byte_is_refused_wherever_it_stands(fields, words):
    request = make_request(*fields.pop("command"), **fields)
    with pytest.raises(RequestError, match=words):
        rendered(request)


def test_a_template_must_begin_with_an_interpreter_line(tmp_path):
    (tmp_path / "x.sh.j2").write_text("{# summary: x #}\n\n#!/bin/sh\n{{ command | sh }}\n")
    with pytest.raises(RenderError, match="must begin with an interpreter line"):
        rendered(make_request("x", template="x"), renderer=Renderer(folders=(str(tmp_path),)))


def test_expanding_a_sweep_counts_its_tasks_before_the_decision(tmp_path):
    (tmp_path / "p").write_text("a\nb\n#\nc\n")
    params = (("file", str(tmp_path / "p")), ("max_parallel", "2"))
    request = make_request("x", template="sweep", params=params)
    expanded = Renderer().expand(request)
    assert expanded.array == "1-3%2"
    assert Renderer().expand(expanded) == expanded
    assert option(rendered(expanded), "array") == "1-3%2"
    assert option(rendered(request), "array") == "1-3%2"


def test_a_sweep_can_be_cut_down_to_some_of_its_lines(tmp_path):
    (tmp_path / "p").write_text("a\nb\n")
    params = (("file", str(tmp_path / "p")),)
    request = make_request("x", template="sweep", params=params, array="2")
    assert option(rendered(request), "array") == "2"


def test_torchrun_asks_for_one_task_a_node_and_gpus_per_node():
    request = make_request("train.py", template="torchrun", gpus=8, nodes=2)
    submission = rendered(request, make_decision(gpus=8, nodes=2, gpu_request="gpus"))
    assert option(submission, "ntasks-per-node") == "1"
    assert option(submission, "ntasks") == "2"
    assert option(submission, "gpus-per-node") == "h100:4"
    assert option(submission, "gpus") is None


def test_an_interactive_launcher_is_given_no_option_of_batch_jobs():
    request = make_request(template="interactive", retries=1, options=(("output", "x"),))
    submission = rendered(request)
    assert submission.interactive
    assert "requeue" not in submission.script
    assert "--output" not in submission.script
    assert "--gres=gpu:h100:4" in submission.script


def test_templates_are_listed_with_where_they_come_from(tmp_path):
    (tmp_path / "mine.sh.j2").write_text("{# summary: Mine #}\n#!/bin/sh\n")
    listed = {each.name: each for each in Renderer(folders=(str(tmp_path),)).list_templates()}
    assert listed["mine"].summary == "Mine"
    assert listed["mine"].origin == str(tmp_path / "mine.sh.j2")
    assert listed["batch"].origin == "built-in"


def test_a_script_in_another_batch_systems_language_needs_a_word_from_the_user():
    request = make_request(script="#!/bin/sh\n#PBS -N x\n")
    with pytest.raises(RequestError, match="--ignore-pbs"):
        rendered(request)
    request = make_request(script="#!/bin/sh\n#PBS -N x\n", options=(("ignore-pbs", None),))
    assert "#PBS -N x" in rendered(request).script
