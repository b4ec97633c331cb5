"""approve, deny, set-priority, approvals and audit, with a controller that answers as told."""

from __future__ import annotations

import json

import pytest

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.policy.audit import _since
from slurm_gpu_policy.errors import ControllerUnavailable, NotAllowed
from tests.builders import NOW

VOTED = {
    "job_id": 7, "state": "approved", "approvals": 1, "approvals_needed": 1,
    "asks_for": "4 GPUs for 01:00:00", "level": "enforce",
}  # fmt: skip
WAITS = {
    "job_id": 7, "user": "u1", "account": "nlp", "name": "a\x1b[31mb", "gpus": 4, "array_tasks": 1,
    "time_limit_seconds": 3600, "asks_for": "4 GPUs for 01:00:00", "cost_micros": 2_500_000,
    "reason": "needs 2 approvals", "state": "pending", "is_held": True, "submit_time": NOW,
    "expires": None, "approvals_needed": 2, "may_vote": True,
    "votes": [{"approver": "u3", "verdict": "approve", "reason": "good\nbad", "time": NOW}],
}  # fmt: skip
ENTRY = {
    "entry_id": 1, "time": NOW, "actor": "u2", "job": "7", "job_id": 7, "user": "u1",
    "verb": "release", "rule": "V-903", "reason": "yes", "before": "held",
    "after": "free", "level": "enforce", "outcome": "refused", "words": "no \x1b[2J",
    "finished": None,
}  # fmt: skip


@pytest.fixture
def controller(monkeypatch):
    """Answers with what is put into it, and keeps what it was asked."""
    asked, answers = [], []

    def ask(_policy, request):
        asked.append(request)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(bootstrap, "ask_controller", ask)
    return asked, answers


def test_an_approval_is_sent_with_its_reason_and_its_result_is_said(gpu_policy, controller):
    asked, answers = controller
    answers.append(VOTED)
    result = gpu_policy("approve", "7", "--reason", "for the paper")
    assert asked == [{"request": "approve", "job": "7", "reason": "for the paper"}]
    assert (result.code, result.out) == (0, "job 7 (4 GPUs for 01:00:00) is approved and let go\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": "denied"}, "is denied"),
        ({"state": "pending", "approvals_needed": 2}, "has 1 of 2 approvals"),
        ({"level": "observe"}, "enforces no approvals"),
    ],
)
def test_each_result_has_words(gpu_policy, controller, change, words):
    controller[1].append({**VOTED, **change})
    assert words in gpu_policy("deny", "7", "--reason", "no").out


def test_a_reason_is_needed(gpu_policy, controller):
    assert gpu_policy("approve", "7").code == 2
    assert controller[0] == []


@pytest.mark.parametrize(
    ("error", "code"), [(NotAllowed("u2 is no approver"), 1), (ControllerUnavailable("away"), 4)]
)
def test_refusals_have_words_and_a_code(gpu_policy, controller, error, code):
    controller[1].append(error)
    result = gpu_policy("approve", "7", "--reason", "x")
    assert (result.code, str(error) in result.err) == (code, True)


def test_a_class_is_set_and_taken_away(gpu_policy, controller):
    asked, answers = controller
    answers += [{"job_id": 7, "class": "high"}, {"job_id": 7, "class": None}]
    assert gpu_policy("set-priority", "7", "high").out == "job 7 has the priority class high\n"
    assert gpu_policy("set-priority", "7", "none").out == "job 7 has no class\n"
    assert [one["class"] for one in asked] == ["high", "none"]
    assert gpu_policy("set-priority", "7", "urgent").code == 2


def test_what_waits_is_a_table_without_anybodys_control_characters(gpu_policy, controller):
    controller[1].append({"approvals": [WAITS]})
    out = gpu_policy("approvals").out
    assert "1 of 2; u3: approve" in out
    assert "2.50 credits" in out
    assert "\x1b" not in out


def test_what_waits_as_json_names_its_units(gpu_policy, controller):
    controller[1].append({"approvals": [WAITS]})
    (job,) = gpu_policy("approvals", "--json").json
    assert (job["cost"], job["currency"], job["time_limit_seconds"]) == ("2.50", "credits", 3600)
    assert job["votes"][0]["time"].startswith("20")
    assert "cost_micros" not in job


def test_nothing_waits_and_the_log_is_empty(gpu_policy, controller):
    controller[1].extend([{"approvals": []}, {"entries": []}])
    assert "no job" in gpu_policy("approvals").out
    assert "nothing" in gpu_policy("audit").out


def test_the_audit_log_shows_who_did_what_and_what_slurm_said(gpu_policy, controller):
    asked, answers = controller
    answers += [{"entries": [ENTRY]}, {"entries": [{**ENTRY, "outcome": ""}]}]
    out = gpu_policy("audit", "--job", "7").out
    assert asked == [{"request": "audit", "job": "7"}]
    assert "u2" in out
    assert "refused (no \\x1b[2J)" in out
    (entry,) = json.loads(gpu_policy("audit", "--json").out)
    assert (entry["finished"], entry["outcome"]) == (None, "")


def test_since_is_so_long_ago_or_a_date(gpu_policy, controller):
    assert _since("2h", NOW) == NOW - 7200
    assert _since("2030-01-31", NOW) < _since("2030-01-31T08:00", NOW)
    assert gpu_policy("audit", "--since", "the day before").code == 2
    controller[1].append({"entries": []})
    gpu_policy("audit", "--since", "7d")
    assert isinstance(controller[0][0]["since"], int)
