"""The cache keeps what depends on content alone, and is never believed when it might lie."""

from __future__ import annotations

import os

import pytest

from slurm_gpu_policy.content_cache import cached


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "slurm-gpu-policy"


def counting(value):
    calls = []

    def make():
        calls.append(1)
        return value

    return make, calls


def test_a_value_is_made_once_for_each_content(folder):
    make, calls = counting({"a": (1, None, "é")})
    assert cached("k", b"source", make) == cached("k", b"source", make)
    assert len(calls) == 1
    cached("k", b"other", make)
    cached("other kind", b"source", make)
    assert len(calls) == 3


@pytest.mark.parametrize("damage", [b"", b"junk", b"\xfb" * 100])
def test_a_damaged_entry_is_made_anew(folder, damage):
    make, calls = counting(7)
    cached("k", b"s", make)
    (entry,) = folder.iterdir()
    entry.write_bytes(damage)
    assert cached("k", b"s", make) == 7
    assert len(calls) == 2


def test_an_entry_that_others_could_have_written_is_not_read(folder):
    make, calls = counting(7)
    cached("k", b"s", make)
    (entry,) = folder.iterdir()
    entry.chmod(0o666)
    cached("k", b"s", make)
    assert len(calls) == 2


def test_an_entry_of_another_owner_is_not_read(folder, monkeypatch):
    make, calls = counting(7)
    cached("k", b"s", make)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    cached("k", b"s", make)
    assert len(calls) == 2


def test_the_folder_and_its_entries_are_the_users_alone(folder):
    cached("k", b"s", lambda: 1)
    assert folder.stat().st_mode & 0o777 == 0o700
    (entry,) = folder.iterdir()
    assert entry.stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_made_costs_time_only(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert cached("k", b"s", lambda: 7) == 7


def test_a_home_that_is_no_path_costs_time_only(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cached("k", b"s", lambda: 7) == 7


def test_what_make_raises_passes_through_and_nothing_is_kept(folder):
    def fail():
        msg = "no"
        raise ValueError(msg)

    with pytest.raises(ValueError, match="no"):
        cached("k", b"s", fail)
    assert not folder.exists() or not list(folder.iterdir())
