"""``gpu-policy plan`` and ``apply``, as an administrator sees them."""

from __future__ import annotations

import io
import sys

import pytest
import yaml

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.services.plan import Planning
from tests.fakes.accounts import FakeAccounts, FakeFiles, FakeMade

LAB = {"accounts": {"lab": {"shares": 3, "users": ["u1"]}}, "apply": {"job_submit": False}}


@pytest.fixture
def accounts(slurm, monkeypatch):
    manage, made, files = FakeAccounts(), FakeMade(), FakeFiles()

    def make(policy, slurm, on_wait=None):
        return Planning(
            slurm=slurm, manage=manage, made=made, files=files, policy=policy, script="/none"
        )

    monkeypatch.setattr(bootstrap, "make_planning", make)
    return manage


@pytest.fixture
def site(monkeypatch, tmp_path, accounts):
    def use(policy):
        path = tmp_path / "policy.yaml"
        path.write_text(yaml.safe_dump(policy))
        monkeypatch.setenv("GPU_POLICY_FILE", str(path))

    use(LAB)
    return use


def test_plan_says_each_step_in_words_and_does_none(gpu_policy, site, accounts):
    result = gpu_policy("plan")
    assert result.code == 0
    assert result.out.splitlines() == [
        "+ make account lab: account above root, shares 3",
        "+ make user u1 in account lab",
        "2 changes for cluster fake",
    ]
    assert accounts.writes == []


def test_check_ends_with_1_on_drift_and_0_without(gpu_policy, site):
    assert gpu_policy("plan", "--check").code == 1
    assert gpu_policy("apply", "--yes").code == 0
    assert gpu_policy("plan", "--check").code == 0


def test_plan_as_json(gpu_policy, site):
    answer = gpu_policy("plan", "--json").json
    assert answer["cluster"] == "fake"
    assert answer["changes"][0] == {
        "verb": "create",
        "kind": "account",
        "name": ["lab"],
        "fields": [
            {"field": "parent", "before": "", "after": "root"},
            {"field": "shares", "before": "", "after": "3"},
        ],
        "words": "make account lab: account above root, shares 3",
    }
    assert (answer["files"], answer["remarks"]) == ([], [])


def test_files_are_shown_as_differences(gpu_policy, site):
    site({})
    result = gpu_policy("plan")
    assert "+ write /etc/slurm-gpu-policy/limits.lua" in result.out
    assert "    +return {" in result.out
    (file,) = gpu_policy("plan", "--json").json["files"]
    assert (file["path"], file["exists"]) == ("/etc/slurm-gpu-policy/limits.lua", False)
    assert "+return {" in file["diff"]


def test_apply_says_what_it_did_and_the_second_time_does_nothing(gpu_policy, site, accounts):
    result = gpu_policy("apply", "--yes")
    assert result.code == 0
    assert result.out.splitlines()[-3:] == [
        "done + make account lab: account above root, shares 3",
        "done + make user u1 in account lab",
        "2 steps done, 0 refused on cluster fake",
    ]
    again = gpu_policy("apply", "--yes")
    assert again.out == "nothing to do: cluster fake is as the policy file wants it\n"
    assert len(accounts.writes) == 2


def test_apply_as_json(gpu_policy, site):
    answer = gpu_policy("apply", "--yes", "--json").json
    assert [one["kind"] for one in answer["done"]] == ["account", "user"]
    assert (answer["refused"], answer["left"]) == ([], 0)
    again = gpu_policy("apply", "--yes", "--json").json
    assert (again["done"], again["changes"]) == ([], [])


def test_a_refused_step_ends_with_1_in_slurms_words(gpu_policy, site, accounts, monkeypatch):
    carry_out = accounts.carry_out

    def refuse(cluster, change):
        if change.what[0] == "account":
            return False
        return carry_out(cluster, change)

    monkeypatch.setattr(accounts, "carry_out", refuse)
    result = gpu_policy("apply", "--yes")
    assert result.code == 1
    assert "REFUSED + make user u1 in account lab: This account 'lab' doesn't exist." in result.out
    answer = gpu_policy("apply", "--yes", "--json").json
    assert answer["left"] == 2
    assert answer["refused"][1]["reason"] == "This account 'lab' doesn't exist."


def test_what_slurm_does_not_take_over_is_found_by_looking_again(
    gpu_policy, site, accounts, monkeypatch
):
    gpu_policy("apply", "--yes")
    site({**LAB, "accounts": {"lab": {"shares": 9}}})
    monkeypatch.setattr(accounts, "carry_out", lambda _cluster, _change: True)
    result = gpu_policy("apply", "--yes")
    assert result.code == 1
    assert "! Slurm has not taken over" in result.out
    assert "shares 3 -> 9" in result.out


def test_what_cannot_be_is_a_wrong_policy_file(gpu_policy, site, accounts):
    site({"accounts": {"lab": {"parent": "nowhere"}}})
    for args in (("plan",), ("plan", "--check"), ("apply", "--yes")):
        result = gpu_policy(*args)
        assert result.code == 5
        assert "accounts.lab.parent: found 'nowhere', wanted an account" in result.err
    assert accounts.writes == []


def test_an_ordinary_user_is_told_who_may(gpu_policy, site, accounts):
    accounts.is_administrator = False
    result = gpu_policy("apply", "--yes")
    assert result.code == 1
    assert "does not let this user change accounts" in result.err


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("answer", "writes"), [("y\n", 2), ("n\n", 0), ("\n", 0)])
def test_on_a_terminal_it_asks(gpu_policy, site, accounts, monkeypatch, answer, writes):
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    result = gpu_policy("apply")
    assert result.code == 0
    assert "do it? [y/N]" in result.out
    assert len(accounts.writes) == writes


def test_without_a_terminal_it_needs_yes(gpu_policy, site, accounts):
    for args in (("apply",), ("apply", "--json")):
        result = gpu_policy(*args)
        assert result.code == 2
        assert "say --yes" in result.err
    assert accounts.writes == []
