"""#SBATCH lines, read as sbatch reads them (tests/e2e/test_sbatch_directives.py asks sbatch)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.adapters.rendering.directives import (
    Directive,
    directive,
    fits_directive,
    foreign_directive,
    parse_directives,
)
from slurm_gpu_policy.errors import RequestError


def read(*lines: str) -> list[tuple[str, str | None]]:
    script = "\n".join(["#!/bin/bash", *lines, "true", "#SBATCH --comment=late", ""])
    return [(each.name, each.value) for each in parse_directives(script)]


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("#SBATCH --gres gpu:1 --time=10", [("gres", "gpu:1"), ("time", "10")]),
        ("#SBATCH -N2 -n 4", [("nodes", "2"), ("ntasks", "4")]),
        ("#SBATCH\t-HJx", [("hold", None), ("job-name", "x")]),
        ("#SBATCH--hold", [("hold", None)]),
        ("#SBATCH --comment=a#b", [("comment", "a")]),
        ("#SBATCH --comment=a\\#b", [("comment", "a#b")]),
        ("#SBATCH --comment='a#b' # why", [("comment", "a#b")]),
        ('#SBATCH --comment="a\\"b\\\\c"', [("comment", 'a"b\\c')]),
        ("#SBATCH --comment='q\\'z'", [("comment", "q'z")]),
        ("#SBATCH --comment=a\\nb", [("comment", "anb")]),
        ("#SBATCH --hold '' --requeue", [("hold", None)]),
        ("#SBATCH --nice --exclusive=user", [("nice", None), ("exclusive", "user")]),
        ("#SBATCH --part=gpu --tasks=3", [("partition", "gpu"), ("ntasks", "3")]),
        ("#SBATCH --comment --hold", [("comment", "--hold")]),
        ("#SBATCH -k", [("no-kill", None)]),
        ("#SBATCH --brand-new=1", [("brand-new", "1")]),
        ("#SLURM --hold", [("hold", None)]),
        ("##SBATCH --hold", []),
        (" #SBATCH --hold", []),
        ("#SBATCH", []),
        ("#SBATCH -H --", [("hold", None)]),
    ],
)
def test_a_line_is_read_as_sbatch_reads_it(line, options):
    assert read(line) == options


def test_an_option_finds_its_value_on_the_next_line():
    assert read("#SBATCH --comment", "#SBATCH x") == [("comment", "x")]


def test_directives_below_the_first_command_are_none():
    assert read("", "  ", "# a remark", "\t# one", "#SBATCH --hold") == [("hold", None)]
    assert parse_directives("#!/bin/bash\nset -e\n#SBATCH --hold\n") == ()


def test_each_directive_knows_its_line():
    script = "#!/bin/sh\n\n#SBATCH -H\n#SBATCH -p a -t 1\n"
    assert parse_directives(script) == (
        Directive(3, "hold", None),
        Directive(4, "partition", "a"),
        Directive(4, "time", "1"),
    )


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("", "is empty"),
        ("echo\n", "first line is no interpreter line"),
        ("#!/bin/sh\necho\r\n", r"line 2 of the script ends in a DOS line break.*dos2unix"),
        ("#!/bin/sh\necho \0\n", "NUL"),
        ("#!/bin/sh\n#SBATCH --comment='x\n", "line 2.*a ' without its end"),
        ("#!/bin/sh\n#SBATCH gpu\n", "'gpu' is no option"),
        ("#!/bin/sh\n#SBATCH -- -H\n", "'-H' is no option"),
        ("#!/bin/sh\n#SBATCH --comment hetjob\n", "line 2.*heterogeneous"),
        ("#!/bin/sh\n#SBATCH --hold=1\n", "--hold takes no value"),
        ("#!/bin/sh\n#SBATCH --time\n", "--time needs a value"),
        ("#!/bin/sh\n#SBATCH -Z\n", "no option -Z"),
        ("#!/bin/sh\n#SBATCH -H\n#SBATCH hetjob\n", "line 3.*heterogeneous"),
        ("#!/bin/sh\n#SBATCH -H : -H\n", "line 2.*heterogeneous"),
    ],
)
def test_what_sbatch_would_refuse_is_refused_with_the_line(script, words):
    with pytest.raises(RequestError, match=words):
        parse_directives(script)


def test_directives_of_other_batch_systems_are_found_where_sbatch_obeys_them():
    assert foreign_directive("#!/bin/sh\n#PBS -N x\n") == 2
    assert foreign_directive("#!/bin/sh\n# x\n#BSUB -J x\n") == 3
    assert foreign_directive("#!/bin/sh\ntrue\n#PBS -N x\n") is None


values = st.text(max_size=40).filter(lambda text: text and fits_directive(text))


@given(values)
def test_a_written_directive_is_read_back_unchanged(value):
    line = directive("comment", value)
    assert read(line) == [("comment", value)]


@given(st.text(max_size=40))
def test_a_value_never_makes_a_second_line(value):
    assert "\n" not in directive("comment", value)


def test_a_value_that_no_line_can_carry_becomes_a_remark():
    line = directive("comment", "a\n#SBATCH --hold")
    assert line.startswith("# --comment is given to sbatch on its command line")
    assert read(line) == []


def test_a_value_that_would_overflow_sbatchs_buffer_becomes_a_remark():
    assert directive("comment", "x" * 9000).startswith("# --comment")
