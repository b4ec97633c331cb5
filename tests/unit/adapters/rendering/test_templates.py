"""Templates: how they are found and what they say of themselves."""

import pytest

from slurm_gpu_policy.adapters.rendering import templates
from slurm_gpu_policy.adapters.rendering.templates import Param, find, names, read
from slurm_gpu_policy.errors import RenderError

HEAD = """{# summary: Runs things
   on two lines #}
{# command: optional #}
{# mode: interactive #}
{# param model : the model's name #}
{# param port int = 8888 : Port: where it listens #}
{# param engine a|b-c = a #}
{# param empty = #}
{# option ntasks-per-node = 1 #}
{# option exclusive #}
{# any other remark #}
#!/bin/bash
{# param late = 1 : below the first line of text, so it declares nothing #}
"""


def test_a_template_says_what_it_is():
    template = read("x", "x.sh.j2", HEAD)
    assert template.summary == "Runs things on two lines"
    assert template.command == "optional"
    assert template.interactive
    assert template.options == (("ntasks-per-node", "1"), ("exclusive", None))
    assert template.params == (
        Param("model", None, "the model's name"),
        Param("port", "8888", "Port: where it listens", "int"),
        Param("engine", "a", "", "a|b-c"),
        Param("empty", "", ""),
    )


def test_arguments_have_defaults_and_kinds():
    template = read("x", "x.sh.j2", HEAD)
    assert template.arguments([("model", "m"), ("port", "0")]) == {
        "model": "m",
        "port": 0,
        "engine": "a",
        "empty": "",
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            [],
            r"'x' needs --param model=…; it takes model \(required\), port=8888, engine=a, empty=",
        ),
        ([("model", "m"), ("prot", "1")], "no parameter 'prot'; it takes model"),
        ([("model", "m"), ("model", "n")], "'model' .* is given twice"),
        ([("model", "m"), ("port", "1;reboot")], "port is a whole number, not '1;reboot'"),
        ([("model", "m"), ("port", "٣")], "port is a whole number"),
        ([("model", "m"), ("engine", "c")], "engine is a or b-c, not 'c'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(given, words):
    with pytest.raises(RenderError, match=words):
        read("x", "x.sh.j2", HEAD).arguments(given)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{# x #}\n{# param 1x = 2 #}", r"p, line 2: cannot read '1x = 2'"),
        ("{# param command = 2 #}", "every template has a value of that name"),
        ("{# param port int = x #}", "port is a whole number, not 'x'"),
        ("{# option gpu = 2 #}", "is no option of sbatch"),
        ("{# mode: batchy #}", "mode is batch or interactive, not 'batchy'"),
        ("{# command: maybe #}", "command is required, optional or none, not 'maybe'"),
        ("{# array: file #}", "'file', which is not declared"),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_line(source, words):
    with pytest.raises(RenderError, match=words):
        read("x", "p", source)


def test_a_site_adds_and_overrides_by_folder(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "batch.sh.j2").write_text("{# summary: ours #}\n#!/bin/sh\n")
    (site / "extra.sh.j2").write_text("#!/bin/sh\n")
    (site / "README").write_text("no template")
    folders = (str(tmp_path / "missing"), str(site))
    assert find("batch", folders).summary == "ours"
    assert find("batch", folders).origin == str(site / "batch.sh.j2")
    assert find("torchrun", folders).origin == templates.BUILT_IN
    assert set(names(folders)) == {*names(()), "extra"}


@pytest.mark.parametrize(
    "name", ["../batch", "/etc/passwd", "a/b", "", ".hidden", "a\nb", "x" * 80]
)
def test_a_name_is_no_path(name, tmp_path):
    with pytest.raises(RenderError, match="is no name of a template"):
        find(name, (str(tmp_path),))


def test_an_unknown_template_is_refused_with_a_list_of_those_there_are():
    with pytest.raises(RenderError, match=r"no template 'bacth'; there are: batch, .*torchrun"):
        find("bacth", ())


def test_a_template_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "x.sh.j2").write_bytes(b"#!/bin/sh\n\xff")
    with pytest.raises(RenderError, match=r"cannot read the template .*x\.sh\.j2"):
        find("x", (str(tmp_path),))


@pytest.mark.parametrize("name", names(()))
def test_every_built_in_template_has_a_summary_and_describes_its_parameters(name):
    template = find(name, ())
    assert template.summary
    assert all(param.description for param in template.params)


@pytest.mark.parametrize("name", names(()))
def test_no_built_in_template_needs_jinja2(name):
    from slurm_gpu_policy.adapters.rendering import filling  # noqa: PLC0415

    assert filling._pieces(find(name, ()).source) is not None


def test_a_template_with_dos_line_breaks_is_read_as_one_without(tmp_path):
    (tmp_path / "x.sh.j2").write_bytes(b"{# summary: dos #}\r\n#!/bin/sh\r\ntrue\r\n")
    assert find("x", (str(tmp_path),)).source.endswith("#!/bin/sh\ntrue\n")
