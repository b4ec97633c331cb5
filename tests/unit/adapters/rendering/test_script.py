"""The user's own script: what changes in it, and what never does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.adapters.rendering.directives import parse_directives
from slurm_gpu_policy.adapters.rendering.script import exports, interpreter, with_our_lines
from slurm_gpu_policy.errors import RequestError

OURS = (("account", "nlp"), ("gres", "gpu:h100:4"))


def ours_in(script, options=OURS, replaced=(), environment=()):
    return with_our_lines(script, options, frozenset(replaced), environment, ignore_foreign=False)


def test_our_lines_stand_below_the_users_since_the_later_one_wins():
    script = "#!/bin/bash\n# my run\n#SBATCH -A own\n\nset -e\ntrain\n"
    assert ours_in(script) == (
        "#!/bin/bash\n# my run\n#SBATCH -A own\n"
        "# From gpu-submit:\n#SBATCH --account=nlp\n#SBATCH --gres=gpu:h100:4\n"
        "\nset -e\ntrain\n"
    )


def test_variables_are_exported_before_the_first_command():
    script = "#!/bin/bash\n#SBATCH -A own\n# about\n\nset -e\n"
    assert ours_in(script, environment=(("A", "x y"),)) == (
        "#!/bin/bash\n#SBATCH -A own\n"
        "# From gpu-submit:\n#SBATCH --account=nlp\n#SBATCH --gres=gpu:h100:4\n"
        "# about\n# From gpu-submit:\nexport A='x y'\n\nset -e\n"
    )


def test_a_replaced_option_becomes_a_remark_and_its_neighbours_stay():
    script = "#!/bin/bash\n#SBATCH --gpus=4 -t 10 -A own\ntrue\n"
    text = ours_in(script, replaced={"gpus"})
    assert "# Replaced by gpu-submit: #SBATCH --gpus=4 -t 10 -A own\n#SBATCH --time=10\n" in text
    assert [(each.name, each.value) for each in parse_directives(text)] == [
        ("time", "10"),
        *OURS,
    ]


def test_a_python_scripts_coding_line_stays_the_second():
    script = "#!/usr/bin/env python3\n# -*- coding: latin-1 -*-\nimport sys\n"
    assert ours_in(script).split("\n")[:3] == [
        "#!/usr/bin/env python3",
        "# -*- coding: latin-1 -*-",
        "# From gpu-submit:",
    ]


def test_a_language_without_hash_comments_is_left_as_it_is():
    script = "#!/usr/bin/lua\nprint(1)\n"
    assert ours_in(script) == script


@pytest.mark.parametrize(
    ("first_line", "name"),
    [
        ("#!/bin/bash -l", "bash"),
        ("#! /usr/bin/env -S python3.11 -u", "python"),
        ("#!/usr/bin/env FOO=1 Rscript", "rscript"),
        ("#!", ""),
    ],
)
def test_the_interpreter_of_a_script(first_line, name):
    assert interpreter(first_line + "\n") == name


def test_variables_in_a_script_that_is_no_shell_script_are_refused():
    with pytest.raises(RequestError, match="this one is run by 'python'"):
        ours_in("#!/usr/bin/python3\n", environment=(("A", "1"),))


def test_a_posix_shell_is_given_quotes_it_knows():
    assert exports((("A", "x\ny"),), bash=False) == "export A='x\ny'"
    assert exports((("A", "x\ny"),)) == "export A=$'x\\ny'"


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A=B", "A\n", "é", "_gs_port", "BASH_FUNC_x%%"])
def test_a_name_that_no_shell_can_export_is_refused(name):
    with pytest.raises(RequestError, match="cannot be exported"):
        exports(((name, "x"),))


@pytest.mark.parametrize("name", ["UID", "SECONDS", "SHELLOPTS", "_"])
def test_a_variable_that_bash_owns_is_refused(name):
    with pytest.raises(RequestError, match="the shell's own"):
        exports(((name, "x"),))


def test_a_directive_of_another_batch_system_is_refused_unless_sbatch_ignores_it():
    script = "#!/bin/sh\n#PBS -N x\n"
    with pytest.raises(RequestError, match=r"line 2.*--sbatch-arg=--ignore-pbs"):
        ours_in(script)
    assert "#PBS -N x" in with_our_lines(script, OURS, frozenset(), (), ignore_foreign=True)


lines = st.lists(
    st.sampled_from(
        ["", "# remark", "#SBATCH -J x", "##SBATCH -H", "#SBATCH --mem-per-gpu=1G -t 1", "   "]
    ),
    max_size=6,
)
body = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=60)


@given(lines, body)
def test_every_line_of_the_user_survives_in_order(header, text):
    script = "\n".join(["#!/bin/bash", *header, "true", text])
    result = ours_in(script, replaced={"mem-per-gpu"}).split("\n")
    found = iter(each.removeprefix("# Replaced by gpu-submit: ") for each in result)
    assert all(line in found for line in script.split("\n"))


@given(lines)
def test_our_options_win_and_replaced_ones_are_gone(header):
    script = "\n".join(["#!/bin/bash", *header, "true"])
    read = [
        (each.name, each.value)
        for each in parse_directives(ours_in(script, replaced={"mem-per-gpu"}))
    ]
    assert read[-2:] == [*OURS]
    assert "mem-per-gpu" not in dict(read)
