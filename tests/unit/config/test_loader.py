"""Which policy file is in force, and that a kept copy is never a wrong one."""

from __future__ import annotations

import os

import pytest

from slurm_gpu_policy.config import loader
from slurm_gpu_policy.config.loader import find_policy_file, load_policy, load_user_options
from slurm_gpu_policy.errors import PolicyFileError, RequestError


@pytest.fixture(autouse=True)
def _own_surroundings(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(loader.FILE_VARIABLE, raising=False)
    monkeypatch.setenv(loader.USER_FILE_VARIABLE, str(tmp_path / "submit.yaml"))
    monkeypatch.setattr(loader, "SITE_FILE", str(tmp_path / "site.yaml"))


@pytest.fixture
def write(tmp_path):
    def to(name, text):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return to


def test_an_argument_comes_before_the_environment_and_that_before_the_site(write, monkeypatch):
    assert find_policy_file() is None
    site = write("site.yaml", "")
    assert find_policy_file() == site
    monkeypatch.setenv(loader.FILE_VARIABLE, "env.yaml")
    assert find_policy_file() == "env.yaml"
    assert find_policy_file("arg.yaml") == "arg.yaml"


def test_without_a_file_the_defaults_are_in_force():
    policy = load_policy()
    assert policy.enforcement == "observe"
    assert policy.workloads["training"].default_time == 86400


def test_a_changed_file_is_read_anew(write):
    path = write("p.yaml", "currency: EUR")
    assert load_policy(path).currency == "EUR"
    assert load_policy(path).currency == "EUR"
    write("p.yaml", "currency: USD")
    assert load_policy(path).currency == "USD"


def test_the_second_reading_needs_no_validation(write, monkeypatch):
    path = write("p.yaml", "currency: EUR")
    load_policy(path)
    monkeypatch.setattr("slurm_gpu_policy.config.validation.validate", None)
    assert load_policy(path).currency == "EUR"


def test_a_wrong_file_is_wrong_every_time(write):
    path = write("p.yaml", "bogus: 1")
    for _ in range(2):
        with pytest.raises(PolicyFileError) as caught:
            load_policy(path)
        assert caught.value.problems[0].startswith(f"{path}:1: bogus")


def test_a_damaged_copy_is_as_good_as_none(write, tmp_path):
    path = write("p.yaml", "currency: EUR")
    load_policy(path)
    (kept,) = (tmp_path / "cache/slurm-gpu-policy").iterdir()
    whole = kept.read_bytes()
    for content in (b"", b"\x00", whole[:10], whole[:-3], b"x" * len(whole)):
        kept.write_bytes(content)
        assert load_policy(path).currency == "EUR"


def test_a_copy_that_others_may_write_is_not_used(write, tmp_path, monkeypatch):
    path = write("p.yaml", "currency: EUR")
    load_policy(path)
    (kept,) = (tmp_path / "cache/slurm-gpu-policy").iterdir()
    kept.chmod(0o666)
    monkeypatch.setattr("slurm_gpu_policy.config.validation.validate", None)
    with pytest.raises(TypeError):
        load_policy(path)


@pytest.mark.parametrize("base", ["", "relative", "/dev/null"])
def test_without_a_cache_it_works_too(write, monkeypatch, base):
    monkeypatch.setenv("XDG_CACHE_HOME", base)
    monkeypatch.setenv("HOME", "/dev/null")
    assert load_policy(write("p.yaml", "currency: EUR")).currency == "EUR"


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    for path, why in (
        (str(tmp_path / "none"), "No such file"),
        (str(tmp_path), "Is a directory"),
        ("a\0b", "is not a path"),
    ):
        with pytest.raises(PolicyFileError, match=why):
            load_policy(path)


def test_a_file_that_is_far_too_large_is_not_read(tmp_path):
    path = tmp_path / "p.yaml"
    with path.open("wb") as stream:
        os.truncate(stream.fileno(), 100 * 1024**2)
    with pytest.raises(PolicyFileError, match="is larger than"):
        load_policy(str(path))


def test_a_users_settings_are_read_where_they_are(write):
    known = {"gpu-type": "gpu_type"}
    assert load_user_options(known) == {}
    write("submit.yaml", "gpu-type: h100\n")
    assert load_user_options(known) == {"gpu_type": "h100"}
    assert load_user_options(known) == {"gpu_type": "h100"}


def test_a_users_wrong_settings_are_wrong_use_and_named(write):
    path = write("submit.yaml", "gpu-typ: h100\n")
    with pytest.raises(RequestError, match=f"{path}:1: gpu-typ: found no such option"):
        load_user_options({"gpu-type": "gpu_type"})
