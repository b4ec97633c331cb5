"""Quoting: a word is read back as it was, and a script holds nothing that could be a line."""

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.adapters.rendering.quoting import (
    Quoted,
    bash_word,
    bash_words,
    check_text,
    comment_text,
    posix_word,
)
from slurm_gpu_policy.errors import RequestError

bytes_but_nul = st.binary(max_size=60).map(lambda raw: raw.replace(b"\0", b""))
hostile = st.one_of(
    bytes_but_nul,
    st.text("\n\r\t '\"\\$`(){}[]#!~*?;&|<>-=%\x01\x7f\x1b\u2028é\U0001f40d", max_size=30).map(
        lambda text: text.encode()
    ),
).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


@given(hostile)
def test_a_bash_word_is_one_line_of_printable_text(value):
    assert bash_word(value).isprintable()


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_a_printable_bash_word_is_what_any_shell_reader_understands(value):
    assert shlex.split(bash_word(value)) == [value]


@given(hostile)
def test_no_dos_line_break_arises_in_a_posix_word(value):
    assert "\r\n" not in posix_word(value)


@given(st.lists(hostile, max_size=40))
def test_bash_reads_back_every_byte(values):
    script = f"printf '%s\\0' {bash_words(['x', *values])}"
    run = subprocess.run(
        ["bash"], input=script.encode("utf-8", "surrogateescape"), capture_output=True, check=True
    )
    expected = b"\0".join(each.encode("utf-8", "surrogateescape") for each in values)
    assert run.stdout == b"x\0" + expected + (b"\0" if values else b"")


@given(st.lists(hostile, max_size=40))
def test_a_posix_shell_reads_back_every_byte(values):
    words = " ".join(map(posix_word, ["x", *values]))
    run = subprocess.run(
        ["/bin/sh"],
        input=f"printf '%s\\0' {words}".encode("utf-8", "surrogateescape"),
        capture_output=True,
        check=True,
    )
    expected = b"\0".join(each.encode("utf-8", "surrogateescape") for each in values)
    assert run.stdout == b"x\0" + expected + (b"\0" if values else b"")


@pytest.mark.parametrize("word", ["if", "time", "a=b", "~", "", "!", "{", "[[", "a b"])
def test_words_that_mean_something_to_the_shell_are_put_in_quotes(word):
    assert bash_word(word) == f"'{word}'"


@pytest.mark.parametrize("word", ["train.py", "--lr=0.1", "-x", "a/b:c,d@e+f%j"])
def test_words_that_need_no_quotes_have_none(word):
    assert bash_word(word) == word


def test_a_text_with_nul_is_refused_by_its_name():
    with pytest.raises(RequestError, match=r"word 2 of the command holds a NUL byte"):
        check_text("a\0b", "word 2 of the command")


def test_a_lone_surrogate_that_stands_for_no_byte_is_refused():
    with pytest.raises(RequestError, match="stands for no byte"):
        check_text("a\ud800", "the job name")


@given(hostile)
def test_a_comment_stays_on_its_line(value):
    assert "\n" not in comment_text(value)
    assert comment_text(value).isprintable()


def test_what_is_made_of_a_quoted_text_is_no_longer_quoted():
    word = bash_word("$(x)")
    for derived in (word + "y", word[1:], word.upper(), f"{word}"):
        assert not isinstance(derived, Quoted)
