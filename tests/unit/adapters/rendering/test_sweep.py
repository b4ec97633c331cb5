"""Parameter files: which lines are tasks, and which words a task gets."""

import pytest

from slurm_gpu_policy.adapters.rendering.sweep import array, cases, read_lines
from slurm_gpu_policy.errors import RenderError, RequestError


def lines_of(tmp_path, data: bytes):
    path = tmp_path / "params"
    path.write_bytes(data)
    return read_lines(str(path))


def test_blank_lines_and_remarks_are_no_tasks(tmp_path):
    assert lines_of(tmp_path, b"a\n\n  \n# no\n  # no\n#no\nb c") == ("a", "b c")


def test_a_file_from_windows_is_read_like_any_other(tmp_path):
    assert lines_of(tmp_path, b"\xef\xbb\xbfa 1\r\nb 2\r\n") == ("a 1", "b 2")


def test_only_a_line_feed_ends_a_line(tmp_path):
    data = "a\x0bb\x0cc\u2028d\x85e\n".encode()
    assert lines_of(tmp_path, data) == ("a\x0bb\x0cc\u2028d\x85e",)


def test_bytes_that_are_no_text_survive(tmp_path):
    assert lines_of(tmp_path, b"\xff\n") == ("\udcff",)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"# only\n"])
def test_a_file_without_a_task_is_refused(tmp_path, data):
    with pytest.raises(RenderError, match="holds no task"):
        lines_of(tmp_path, data)


def test_a_file_that_no_script_could_hold_is_refused(tmp_path):
    with pytest.raises(RenderError, match="longer than 3000000 bytes"):
        lines_of(tmp_path, b"x\n" * 1_600_000)


def test_a_missing_file_is_named():
    with pytest.raises(RenderError, match="cannot read the parameter file /none: No such file"):
        read_lines("/none")


def test_words_are_split_as_a_shell_would_with_nothing_expanded():
    assert cases(["--a '1 2' $HOME `x` *", '"" b\\ c'], "f") == (
        "1) SWEEP_LINE='--a '\"'\"'1 2'\"'\"' $HOME `x` *'; set -- --a '1 2' '$HOME' '`x`' '*' ;;\n"
        "2) SWEEP_LINE='\"\" b\\ c'; set -- '' 'b c' ;;"
    )


def test_a_line_that_cannot_be_split_is_refused_with_its_number():
    with pytest.raises(RenderError, match="task 2 of f: no closing quotation"):
        cases(["a", "it's"], "f")


def test_a_line_with_nul_is_refused():
    with pytest.raises(RequestError, match="task 1 of f holds a NUL byte"):
        cases(["a\0"], "f")


def test_tasks_are_counted_from_1_as_lines_are():
    assert array(8, 0) == "1-8"
    assert array(8, 2) == "1-8%2"
