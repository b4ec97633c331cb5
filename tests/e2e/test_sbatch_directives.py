"""sbatch itself, of both releases, asked what it reads in ``#SBATCH`` lines."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_gpu_policy.adapters.rendering.directives import (
    directive,
    parse_directives,
)
from slurm_gpu_policy.adapters.rendering.sbatch_grammar import FLAGS, LONG, OPTIONAL, VALUED
from slurm_gpu_policy.errors import RequestError

UNQUOTED_ESCAPE = re.compile(r"\\[ \t\x0b]")
CLUSTER = Path(__file__).parents[2] / "vagrant" / "cluster"
# Scripts come in and answers go out with a NUL after each. --test-only queues nothing.
ASK = """
while IFS= read -r -d '' script; do
    printf '%s' "$script" | sbatch -v --test-only 2>&1
    printf '\\0'
done
"""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("native", marks=pytest.mark.cluster),
        pytest.param("pyslurm", marks=pytest.mark.pyslurm),
    ],
)
def kind(request):
    status = subprocess.run([CLUSTER, "status", request.param], capture_output=True, check=False)
    if status.returncode == 0:
        return request.param
    reason = f"the cluster {request.param!r} is not up (make cluster, make cluster-pyslurm)"
    if os.environ.get("SLURM_GPU_POLICY_REQUIRE_CLUSTER") == "1" and request.param == "native":
        pytest.fail(reason)
    return pytest.skip(reason)


def run(kind: str, *argv: str, data: bytes = b"") -> bytes:
    prefix = [] if kind == "native" else [str(CLUSTER), "exec", kind, "--"]
    return subprocess.run([*prefix, *argv], input=data, capture_output=True, check=False).stdout


def ask(kind: str, scripts: list[str]) -> list[dict[str, str] | None]:
    """Return the options sbatch finds in each script, None where it refuses the script."""
    data = b"".join(os.fsencode(each) + b"\0" for each in scripts)
    answers = run(kind, "bash", "-c", ASK, data=data).split(b"\0")[:-1]
    assert len(answers) == len(scripts)
    return [found(answer) for answer in answers]


def found(answer: bytes) -> dict[str, str] | None:
    _, begins, text = os.fsdecode(answer).partition("sbatch: defined options\n")
    if not begins:
        return None
    lines = text.partition("sbatch: end of defined options")[0].split("\n")
    pairs = re.findall(r"^sbatch: ([a-z0-9-]+) +: ?(.*)$", "\n".join(lines), re.MULTILINE)
    return dict(pairs)


def as_sbatch_has_it(script: str) -> dict[str, str] | None:
    try:
        read = parse_directives(script)
    except RequestError:
        return None
    if any(each.name not in LONG for each in read):
        return None  # a name that no sbatch knows is left to sbatch to refuse
    return {each.name: each.value if each.value is not None else "set" for each in read}


def assert_same(kind: str, scripts: list[str]) -> None:
    for script, answer in zip(scripts, ask(kind, scripts), strict=True):
        if UNQUOTED_ESCAPE.search(script):
            continue  # the releases disagree, and we refuse to guess
        ours = as_sbatch_has_it(script)
        assert (ours is None) == (answer is None), (script, ours, answer)
        for name in ("comment", "job-name", "hold"):
            assert (ours or {}).get(name) == (answer or {}).get(name), (script, ours, answer)


many = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
words = st.lists(
    st.sampled_from(
        [
            *("--comment=", "--comment", "--job-name=a", "-J", "-Jx", "-H", "--hold", "--comm=z"),
            *(" ", "  ", "\t", "\x0b", "'", '"', "\\", "#", "a", "z z", "=", "é", "--", "$x"),
            *("\n#SBATCH ", "\n#SLURM ", "\n# x\n", "\ntrue\n#SBATCH ", "\n #SBATCH -H\n"),
        ]
    ),
    max_size=9,
).map(lambda each: "#!/bin/bash\n#SBATCH " + "".join(each) + "\ntrue\n")


@many
@given(scripts=st.lists(words, min_size=15, max_size=40))
def test_a_users_directives_are_read_as_sbatch_reads_them(kind, scripts):
    assert_same(kind, scripts)


values = st.one_of(
    st.text(
        st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"]),
        min_size=1,
        max_size=30,
    ),
    st.binary(min_size=1, max_size=30).map(
        lambda value: os.fsdecode(
            bytes(each if each > 31 and each != 127 else 35 for each in value)
        )
    ),
    st.text(st.sampled_from("'\"\\#: =ab\x80\x85\u2028$`%"), min_size=1, max_size=12),
)


@many
@given(values=st.lists(values, min_size=15, max_size=40))
def test_a_directive_we_write_is_read_by_sbatch_unchanged(kind, values):
    scripts = [f"#!/bin/bash\n{directive('comment', value)}\ntrue\n" for value in values]
    read = [(answer or {}).get("comment") for answer in ask(kind, scripts)]
    # -v itself shows bytes that are no characters of its locale as they are.
    assert read == values


def test_the_longest_directive_we_write_is_read_unchanged(kind):
    value = "é" * 1999 + "x"
    (answer,) = ask(kind, [f"#!/bin/bash\n{directive('comment', value)}\ntrue\n"])
    assert answer == {**(answer or {}), "comment": value}


def test_of_two_equal_directives_the_later_one_wins(kind):
    (answer,) = ask(kind, ["#!/bin/bash\n#SBATCH -J a\n#SBATCH --job-name=b\ntrue\n"])
    assert (answer or {})["job-name"] == "b"


@pytest.mark.parametrize(
    "script", ["echo\n", "#!/bin/sh\necho\r\n", "#!/bin/sh\n#SBATCH x\n", "  \n"]
)
def test_what_we_refuse_sbatch_refuses_too(kind, script):
    assert ask(kind, [script]) == [None]
    assert as_sbatch_has_it(script) is None


def test_two_forms_of_memory_are_fatal_to_sbatch(kind):
    """Why a replaced directive is taken out of the user's script."""
    script = "#!/bin/bash\n#SBATCH --mem-per-gpu=1G\n"
    answer = run(kind, "bash", "-c", "sbatch --test-only --mem=1G 2>&1", data=script.encode())
    assert b"mutually exclusive" in answer


def test_the_options_known_to_sbatch_are_in_the_grammar(kind):
    help_text = run(kind, "sbatch", "--help").decode()
    named = dict(re.findall(r"^ +(?:-\w,? +)?--([a-z0-9-]+)(.)", help_text, re.MULTILINE))
    assert len(named) > 80
    assert not set(named) - FLAGS - OPTIONAL - VALUED
    optional = {name for name, mark in named.items() if mark == "["}
    assert not optional & FLAGS


def test_each_option_takes_a_value_as_the_grammar_has_it(kind):
    probe = """
    for name in "$@"; do
        printf '%s %s\\n' "$name" "$(sbatch --$name 2>&1 </dev/null | head -1)"
        printf '%s %s\\n' "$name" "$(sbatch --$name=x /dev/null 2>&1 | head -1)"
    done
    """
    names = sorted((FLAGS | OPTIONAL | VALUED) - {"help", "usage", "version"})
    lines = run(kind, "bash", "-c", probe, "probe", *names).decode().splitlines()
    said: dict[str, str] = {}
    for line in lines:
        name, _, text = line.partition(" ")
        said[name] = said.get(name, "") + text
    known = {name for name, text in said.items() if "unrecognized option" not in text}
    assert len(known) > 90
    assert {name for name in known if "requires an argument" in said[name]} == known & VALUED
    flags = {name for name in known if "doesn't allow an argument" in said[name]}
    assert flags - OPTIONAL == known & FLAGS


def test_releases_disagree_on_a_backslash_before_white_space(kind):
    """Why a script that has one is refused."""
    script = "#!/bin/bash\n#SBATCH --comment=a\\ -H\ntrue\n"
    (answer,) = ask(kind, [script])
    assert (answer or {})["comment"] == ("a" if kind == "native" else "a -H")
    with pytest.raises(RequestError, match="releases of sbatch disagree"):
        parse_directives(script)
