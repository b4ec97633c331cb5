"""``gpu-policy check``: all errors at once, and an exit code that scripts can use."""

from __future__ import annotations

import io
import sys

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_gpu_policy.apps.policy.check import problem_json

WRONG = """\
enforcement: perhaps
gpu_types:
  h100:
    memory: 80X
    colour: red
"""


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "policy.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_odd_prices_are_warned_of_at_their_lines(gpu_policy, file):
    path = file("pricing:\n  hours:\n    - {factor: 1}\n    - {days: [sat], factor: 0.5}\n")
    result = gpu_policy("check", path)
    assert result.code == 0
    assert f"{path}:4: pricing.hours.1: warning: hours that never count" in result.out
    assert "  prices      2 bands of hours, 0 changes by date" in result.out


def test_a_rule_that_does_not_exist_is_wrong(gpu_policy, file):
    result = gpu_policy("check", file("rules: {P-999: enforce}"))
    assert result.code == 5
    assert "rules.P-999: found no such rule" in result.out + result.err
    (problem,) = gpu_policy("check", "--json", file("rules: {P-999: enforce}")).json["problems"]
    assert (problem["line"], problem["field"]) == (None, "rules.P-999")


def test_a_right_file_ends_with_zero_and_says_what_it_holds(gpu_policy, file):
    path = file("gpu_types: {h100: {price_per_hour: 2.50}}\ncurrency: EUR\n")
    result = gpu_policy("check", path)
    assert result.code == 0
    assert f"{path} is right" in result.out
    assert "h100 (1 with a price in EUR)" in result.out


def test_a_right_file_says_which_of_its_parts_do_something(gpu_policy, file):
    path = file(
        "limits: {everyone: {gpus: 8}, users: {u1: {gpus: 2}}}\n"
        "accounts: {vision: {}}\nqos: {low: {}}\n"
        "budgets: {vision: {amount: 100}}\nordering: {kind: fcfs}\n"
        "approvals: {thresholds: [{gpus: 4}], approvers: {users: [u2]}}\n"
    )
    out = gpu_policy("check", path).out
    assert "limits      everyone, 1 user, 0 accounts" in out
    assert "in Slurm    1 account, 1 QOS (gpu-policy plan)" in out
    assert "budgets     vision" in out
    assert "ordering    fcfs" in out
    assert "approvals   1 threshold" in out
    contents = gpu_policy("check", "--json", path).json["contents"]
    assert contents["limits_everyone"]
    assert (contents["budgets"], contents["ordering"]) == (1, "fcfs")


def test_every_error_is_named_with_file_line_field_found_and_wanted(gpu_policy, file):
    path = file(WRONG)
    result = gpu_policy("check", path)
    assert result.code == 5
    lines = result.out.splitlines()
    assert lines[0].startswith(f"{path}:1: enforcement: found 'perhaps', wanted 'observe'")
    assert lines[1].startswith(f"{path}:4: gpu_types.h100.memory: found '80X', wanted write it as")
    assert lines[2].startswith(f"{path}:5: gpu_types.h100.colour: found a field that does not")
    assert lines[3] == f"{path} is wrong: 3 errors"


def test_the_json_takes_each_error_apart(gpu_policy, file):
    path = file(WRONG)
    result = gpu_policy("check", "--json", path)
    assert result.code == 5
    answer = result.json
    assert (answer["ok"], answer["file"], answer["contents"]) == (False, path, None)
    assert answer["problems"][1] == {
        "file": path,
        "line": 4,
        "field": "gpu_types.h100.memory",
        "found": "'80X'",
        "wanted": "write it as 64G, 500M or 1T",
        "message": "gpu_types.h100.memory: found '80X', wanted write it as 64G, 500M or 1T",
    }


def test_the_json_of_a_right_file_says_so(gpu_policy, file):
    answer = gpu_policy("check", "--json", file("version: 1\n")).json
    assert (answer["ok"], answer["problems"], answer["warnings"]) == (True, [], [])
    assert answer["contents"]["gpu_types"] == 0


def test_without_a_file_the_built_in_defaults_are_right(gpu_policy):
    result = gpu_policy("check")
    assert result.code == 0
    assert "the built-in defaults are in force" in result.out


def test_the_file_in_force_is_checked(gpu_policy, file, monkeypatch):
    monkeypatch.setenv("GPU_POLICY_FILE", file(WRONG))
    assert gpu_policy("check").code == 5


def test_standard_input_is_checked(gpu_policy, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(WRONG.encode())))
    result = gpu_policy("check", "-")
    assert result.code == 5
    assert result.out.startswith("(standard input):1: enforcement")


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_file_that_cannot_be_read_ends_with_five(gpu_policy, tmp_path, as_json):
    for path in (tmp_path / "none", tmp_path):
        result = gpu_policy("check", str(path), *as_json)
        assert result.code == 5
        assert "cannot be read" in result.out


def test_no_slurm_is_asked_without_live(gpu_policy, file, slurm):
    gpu_policy("check", file(""))
    assert slurm.calls == []


def test_live_warns_of_names_the_cluster_does_not_have(gpu_policy, file):
    path = file("gpu_types:\n  h100: {}\n  b200:\n    partitions: [gpu, moon]\n")
    result = gpu_policy("check", "--live", path)
    assert result.code == 0
    assert f"{path}:3: gpu_types.b200: warning: this cluster has no GPU type b200" in result.out
    assert f"{path}:4: gpu_types.b200.partitions: warning: this cluster has no" in result.out
    assert "is right, with 2 warnings" in result.out
    answer = gpu_policy("check", "--live", "--json", path).json
    assert [warning["found"] for warning in answer["warnings"]] == ["b200", "moon"]


def test_live_needs_slurm(gpu_policy, file, slurm):
    slurm.unavailable()
    assert gpu_policy("check", "--live", file("")).code == 4


def test_a_hostile_file_never_reaches_the_terminal(gpu_policy, file):
    result = gpu_policy("check", file('"\\e[2J": 1\n'))
    assert result.code == 5
    assert "\x1b" not in result.out


@pytest.mark.parametrize(
    ("problem", "line", "field"),
    [
        ("p:3: a.b: found x, wanted y", 3, "a.b"),
        ("p:3: is not YAML: what", 3, None),
        ("p: cannot be read: no", None, None),
    ],
)
def test_a_problem_is_taken_apart(problem, line, field):
    found = problem_json("p", problem)
    assert (found["line"], found["field"]) == (line, field)


@settings(max_examples=500, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["limits", "everyone", "gpus", "gpu_types", "slurm", "x"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=8,
    ).map(lambda tree: yaml.safe_dump(tree).encode("utf-8", "surrogatepass"))
)
def test_any_file_ends_with_zero_or_five(gpu_policy, file, content):
    result = gpu_policy("check", file(content))
    assert result.code in {0, 5}
    assert ("is wrong" in result.out) == (result.code == 5)
    assert "\x1b" not in result.out
