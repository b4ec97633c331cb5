"""Filling templates: like Jinja2, without it where it is not needed, and never unquoted."""

import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slurm_gpu_policy.adapters.rendering import filling, sandbox
from slurm_gpu_policy.adapters.rendering.quoting import Quoted
from slurm_gpu_policy.adapters.rendering.templates import Template, read
from slurm_gpu_policy.errors import RenderError

VALUES = {
    "name": "a b'$(x)\n",
    "count": 3,
    "header": Quoted("#SBATCH --x\n#SBATCH --y"),
    "words": ("a", "b c", ""),
    "empty": (),
}


def make(source: str) -> Template:
    return Template("t", "site/t.sh.j2", "site/t.sh.j2", source)


def fill(source: str) -> str:
    return filling.fill(make(source), VALUES)


def fill_by_jinja(source: str) -> str:
    return sandbox.fill(make(source), VALUES)


pieces = st.lists(
    st.sampled_from(
        [
            "{{ name | sh }}",
            "{{  count  }}",
            "{{ header }}",
            "{{ words|sh }}",
            "{{ empty | sh }}",
            "{{ count | sh }}",
            "{{ name | comment }}",
            "{# remark #}",
            "{# two\nlines #}",
            "{##}",
            "{#}#}",
            "\n",
            "\n\n",
            "  ",
            "\t",
            " \n",
            "text",
            "${x%%y} }} %} #} $(( 1 )) # { ",
            "\x0b",
            "é",
        ]
    ),
    max_size=12,
).map("".join)


@given(pieces)
@example("{# a #}\n{# b #}\n#!/bin/sh\n")
@example("x  {# a #}\n\ny")
@example("{# a #}\n  {# b #}\nx{{ count }}\n\x0b{# c #}  {# d #}")
@example("  {# a #}  {# b #}\nz")
def test_holes_and_remarks_are_filled_as_jinja2_fills_them(source):
    assert filling._pieces(source) is not None
    assert fill(source) == fill_by_jinja(source)


@given(st.text(st.sampled_from(list("{}%#-+ \n|\"'abname")), max_size=30))
def test_any_template_that_is_filled_without_jinja2_reads_the_same_to_it(source):
    if filling._pieces(source) is None:
        return
    try:
        expected = fill_by_jinja(source)
    except RenderError:
        with pytest.raises(RenderError):
            fill(source)
    else:
        try:
            assert fill(source) == expected
        except RenderError as error:
            assert "quotes" in str(error)


@pytest.mark.parametrize("source", ["x\n{{ name }}\n", "x\n{{ words }}\n"])
@pytest.mark.parametrize("way", [fill, fill_by_jinja])
def test_a_value_without_a_filter_is_refused_with_its_template_and_line(source, way):
    with pytest.raises(RenderError, match=r"site/t\.sh\.j2, line 2: .*is not quoted"):
        way(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ name ~ (name | sh) }}",
        "{{ name | sh | upper }}",
        "{{ 'a literal' }}",
        "{{ none }}",
        "{{ true }}",
        "{{ 1.5 }}",
        "{{ words | join(' ') }}",
        "{% for word in words %}{{ word }}{% endfor %}",
        "{% set x %}{{ name }}{% endset %}",
        "{{ name | safe }}",
        "{% filter upper %}{{ name | sh }}{% endfilter %}{{ name }}",
    ],
)
def test_there_is_no_way_around_the_quoting_filter(source):
    with pytest.raises(RenderError, match=r"site/t\.sh\.j2, line 1"):
        fill(source)


def test_control_flow_macros_and_blocks_work_with_quoted_values():
    source = (
        "{% macro option(value) %}--x={{ value | sh }}{% endmacro %}\n"
        "{% set both %}{{ option(name) }} {{ count }}{% endset %}\n"
        "{% if count > 2 %}\n"
        "{% for word in words %}\n"
        "run {{ word | sh }} {{ both }}\n"
        "{% endfor %}\n"
        "{% endif %}\n"
    )
    assert fill(source) == (
        "run a --x=$'a b\\'$(x)\\n' 3\n"
        "run 'b c' --x=$'a b\\'$(x)\\n' 3\n"
        "run '' --x=$'a b\\'$(x)\\n' 3\n"
    )


@pytest.mark.parametrize("source", ["\n{{ nme | sh }}", "\n{{ nme }}", "\n{% if nme %}{% endif %}"])
def test_an_unknown_name_is_refused_with_its_line_and_those_there_are(source):
    with pytest.raises(
        RenderError,
        match=r"t\.sh\.j2, line 2: there is no value 'nme'; there are: count, empty, header, name",
    ):
        fill(source)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("a\n{% if %}", "line 2"),
        ("{{ name | shh }}", "No filter named 'shh'"),
        ("a\n{{ words[9] | sh }}", "line 2"),
        ("{{ 1 // 0 }}", "line 1.*zero"),
        ("{{ name.__class__ | sh }}", "line 1"),
        ("{% include '../../etc/passwd' %}", "is no name of a template"),
        ("{% for x in range(10**9) %}{% endfor %}", "line 1"),
    ],
)
def test_a_broken_template_is_refused_with_its_line(source, words):
    with pytest.raises(RenderError, match=words):
        fill(source)


def test_a_value_cannot_be_changed_by_a_template():
    with pytest.raises(RenderError, match=r"unsafe|no attribute|not callable"):
        filling.fill(make("{{ items.append(1) }}"), {"items": [1]})  # type: ignore[dict-item]


def test_a_site_template_extends_a_built_in_one(tmp_path):
    (tmp_path / "base.sh.j2").write_text(
        "#!/bin/sh\n{% block run %}{{ name | sh }}{% endblock %}\n"
    )
    (tmp_path / "mine.sh.j2").write_text(
        "{% extends 'base' %}{% block run %}nice {{ super() }}{% endblock %}"
    )
    path = tmp_path / "mine.sh.j2"
    template = read("mine", str(path), path.read_text(), str(path))
    assert filling.fill(template, {"name": "a b"}, (str(tmp_path),)) == "#!/bin/sh\nnice 'a b'"


@pytest.mark.parametrize(
    "line",
    [
        'echo "hello {{ name | sh }}"',
        "echo 'hello {{ name | sh }}'",
        'echo "a" "b{{ name | sh }}"',
        'x="\\"{{ name | sh }}"',
        'echo "{{ name | sh }}" "{% if count %}{% endif %}"',
    ],
)
def test_a_value_between_quotes_is_refused_since_they_undo_its_own(line):
    with pytest.raises(RenderError, match=r"line 2: a value stands between . quotes"):
        fill("#!/bin/sh\n" + line + "\n")


@pytest.mark.parametrize(
    "line",
    [
        'echo "hello" {{ name | sh }} "there"',
        'x="it\'s" {{ name | sh }}',
        "# don't {{ name | comment }} {{ name | sh }}",
        'echo "{{ count }} times"',
        'echo \\" {{ name | sh }}',
    ],
)
def test_a_value_outside_quotes_is_not_mistaken(line):
    assert fill(line)


def test_a_batch_script_is_rendered_without_importing_jinja2():
    program = (
        "import sys\n"
        "from tests.scripts import make_request, rendered\n"
        "rendered(make_request('python', 'train.py', environment=(('A', 'b'),)))\n"
        "print('jinja2' in sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "False"


def test_the_renderer_imports_nothing_that_gpu_submit_cannot_afford():
    program = (
        "import sys; sys.path.insert(0, '.'); "
        "import slurm_gpu_policy.adapters.rendering.renderer; "
        "print({'jinja2', 'json', 'pathlib', 'tempfile', 'subprocess', 'hashlib'} & {*sys.modules})"
    )
    run = subprocess.run(
        [sys.executable, "-S", "-c", program],  # -S: an editable install's own hooks import much
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "set()"
