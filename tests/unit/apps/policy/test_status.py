"""``gpu-policy status``: the controller's own word on itself."""

from __future__ import annotations

import pytest

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.errors import ControllerUnavailable

GOOD = {
    "actor": "gpu-policyd@ctl",
    "leading": True,
    "leader": "gpu-policyd@ctl:1:ab",
    "tick_seconds": 60,
    "enforcement": "enforce",
    "policy_problems": [],
    "last_time": 1_800_000_000,
    "last_duration_seconds": 0.4,
    "last_actions": 3,
    "last_errors": [],
    "pending_jobs": 12,
    "unfinished_entries": 0,
    "ledger": None,
}
BOOKS = {
    "up_to_date": True,
    "time": 1_800_000_000,
    "entries": 1234,
    "accounting_until": 1_799_999_990,
    "uncovered_jobs": 2,
    "problems": [],
}


@pytest.fixture
def says(monkeypatch):
    def answer(**changes):
        monkeypatch.setattr(bootstrap, "ask_controller", lambda _policy, _request: GOOD | changes)

    return answer


def test_a_leader_says_how_its_last_tick_went(gpu_policy, says):
    says()
    lines = gpu_policy("status").out.splitlines()
    assert lines[0] == "gpu-policyd@ctl leads (enforcement: enforce)"
    assert lines[1].startswith("last tick 2027-01-")
    assert lines[1].endswith(", 0.4 s: 3 actions")
    assert len(lines) == 2


def test_a_standby_says_who_leads(gpu_policy, says):
    says(leading=False, last_time=None)
    assert gpu_policy("status").out == (
        "gpu-policyd@ctl stands by; gpu-policyd@ctl:1:ab leads (enforcement: enforce)\n"
    )


def test_what_is_wrong_is_said(gpu_policy, says):
    says(last_errors=["Slurm is away"], unfinished_entries=2, policy_problems=["x.yaml:3: bad"])
    out = gpu_policy("status").out
    assert "s: Slurm is away" in out
    assert "2 actions begun and not finished" in out
    assert "  x.yaml:3: bad" in out


def test_how_the_books_stand_is_said(gpu_policy, says):
    says(ledger=BOOKS)
    lines = gpu_policy("status").out.splitlines()
    assert lines[2].startswith("the books: 1234 entries; the accounting is read until 2027-01-")
    assert lines[3] == "2 jobs wait for money"


def test_books_that_are_not_kept_say_why(gpu_policy, says):
    says(ledger=BOOKS | {"up_to_date": False, "problems": ["the disk is full"]})
    lines = gpu_policy("status").out.splitlines()
    assert lines[2:] == [
        "the books are not kept at the moment; what is missing is made good later:",
        "  the disk is full",
    ]


def test_the_times_of_the_books_are_told_in_json_as_the_others(gpu_policy, says):
    says(ledger=BOOKS)
    books = gpu_policy("status", "--json").json["ledger"]
    assert books["time"].startswith("2027-01-")
    assert books["accounting_until"].startswith("2027-01-")
    assert (books["entries"], books["uncovered_jobs"]) == (1234, 2)


def test_the_json_is_the_documented_one(gpu_policy, says):
    says()
    found = gpu_policy("status", "--json").json
    assert found.pop("last_time").startswith("2027-01-")
    assert found == {key: value for key, value in GOOD.items() if key != "last_time"}


def test_no_controller_is_exit_code_4(gpu_policy, monkeypatch):
    def nobody(_policy, _request):
        msg = "nobody listens there"
        raise ControllerUnavailable(msg)

    monkeypatch.setattr(bootstrap, "ask_controller", nobody)
    assert gpu_policy("status").code == 4
