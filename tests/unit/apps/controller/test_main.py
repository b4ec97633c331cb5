"""``gpu-policyd --once`` and ``--dry-run`` on a fake Slurm, as an operator would see them."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
import yaml

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.controller.main import cli
from slurm_gpu_policy.bootstrap import service
from slurm_gpu_policy.model.action import Lease
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.terminal.border import run_app
from tests.fakes.clock import FakeClock
from tests.fakes.slurm import FakeSlurm
from tests.unit.services.controlled import submitted


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def slurm(monkeypatch):
    fake = FakeSlurm(clock=FakeClock(), user="root")
    monkeypatch.setattr(bootstrap, "connect", lambda _policy: fake)
    return fake


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "policy.yaml"
    policy = {
        "enforcement": "enforce",
        "ordering": {"kind": "fcfs"},
        "controller": {
            "database": f"sqlite:///{tmp_path}/policy.db",
            "socket": str(tmp_path / "sock"),
            "metrics": "",
        },
    }
    path.write_text(yaml.safe_dump(policy))
    return path


@pytest.fixture
def policyd(slurm, file, capsys):
    def run(*args):
        code = run_app(cli, "gpu-policyd", ["--config", str(file), *args])
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return run


@pytest.fixture
def waiting(slurm):
    return [submitted(slurm, "wait") for _ in range(3)]


def sites(slurm):
    return {one.job_id: one.site for one in slurm.read(Part.PRIORITIES).priorities}


def test_a_dry_run_says_what_it_would_do_and_does_nothing(policyd, slurm, waiting, tmp_path):
    result = policyd("--dry-run")
    assert result.code == 0
    assert "3 changes to make; nothing was changed (--dry-run)" in result.out
    assert "P-603" in result.out
    assert set(sites(slurm).values()) == {0}
    assert not (tmp_path / "policy.db").exists()


def test_the_json_of_a_dry_run_is_the_documented_one(policyd, waiting):
    found = policyd("--dry-run", "--json").json
    assert (found["dry_run"], found["leading"], found["pending_jobs"]) == (True, False, 3)
    action = found["actions"][0]
    assert action.pop("reason").startswith("place 1 of 3")
    site = action.pop("after")
    assert site.startswith("site factor ")
    assert action == {
        "job_id": waiting[0],
        "display_id": str(waiting[0]),
        "user": "u1",
        "rule": "P-603",
        "level": "enforce",
        "verb": "site_factor",
        "before": "site factor 0",
        "outcome": "wanted",
        "words": "",
    }


def test_a_dry_run_tells_what_has_to_wait_for_a_later_tick(policyd, file, waiting):
    policy = yaml.safe_load(file.read_text())
    policy["controller"]["updates_per_tick"] = 1
    file.write_text(yaml.safe_dump(policy))
    words = [one["words"] for one in policyd("--dry-run", "--json").json["actions"]]
    assert words == ["", *["in a later tick: updates_per_tick"] * 2]


def test_one_tick_does_it_and_a_second_has_nothing_to_do(policyd, slurm, waiting):
    first = policyd("--once", "--json").json
    assert [action["outcome"] for action in first["actions"]] == ["done"] * 3
    assert (first["leading"], first["errors"]) == (True, [])
    assert all(sites(slurm).values())
    second = policyd("--once")
    assert second.code == 0
    assert second.out.startswith("0 actions done, 0 not, in ")


def test_what_is_left_at_saying_is_not_counted_as_done(policyd, file, waiting):
    file.write_text(file.read_text().replace("enforcement: enforce", "enforcement: observe"))
    assert "0 actions done, 3 not, in " in policyd("--once").out


def test_one_tick_where_another_leads_does_nothing(policyd, slurm, waiting, monkeypatch):
    policyd("--once")
    for job in waiting:
        slurm.records[job].site = 0

    class Busy:
        """Somebody who renews the lease all the time."""

        renewals = 0

        def lease(self):
            self.renewals += 1
            return Lease("another", self.renewals)

        def take(self, holder, seen):
            return None

        def resign(self, holder):
            pass

    clock = FakeClock()
    monkeypatch.setattr(service, "_records_opener", lambda _policy: lambda _cluster: Busy())
    monkeypatch.setattr("slurm_gpu_policy.apps.controller.main.SystemClock", lambda: clock)
    result = policyd("--once")
    assert result.code == 0
    assert "waits until they renew it" in result.err
    assert "another controller leads; nothing was done" in result.err
    told = policyd("--once", "--json").json
    assert (told["leading"], told["actions"]) == (False, [])
    assert set(sites(slurm).values()) == {0}


@pytest.mark.parametrize("how", ["--once", "--dry-run"])
def test_without_slurm_it_is_exit_code_4(policyd, slurm, how):
    slurm.unavailable(times=9)
    result = policyd(how)
    assert result.code == 4
    assert "Unable to contact" in result.err


def test_a_slurm_that_goes_away_in_the_middle_is_exit_code_4(policyd, slurm, waiting):
    policyd("--once")
    slurm.calls.clear()
    whole = slurm.read

    def read(*parts, **more):
        if Part.JOBS in parts:
            slurm.unavailable()
        return whole(*parts, **more)

    slurm.read = read
    assert policyd("--once").code == 4


def test_without_a_database_it_is_exit_code_4(policyd, file, waiting):
    policy = yaml.safe_load(file.read_text())
    policy["controller"]["database"] = "sqlite:////proc/nowhere/policy.db"
    file.write_text(yaml.safe_dump(policy))
    result = policyd("--once")
    assert result.code == 4
    assert policyd("--dry-run").code == 0


def test_a_wrong_policy_file_is_exit_code_5(policyd, file):
    file.write_text("controller: {tick: never}\n")
    result = policyd()
    assert result.code == 5
    assert "controller.tick" in result.err


def test_a_rule_that_does_not_exist_is_a_wrong_policy_file(policyd, file):
    file.write_text(f"{file.read_text()}rules: {{P-999: enforce}}\n")
    result = policyd("--once")
    assert result.code == 5
    assert "rules.P-999: found no such rule" in result.err


def test_what_is_not_installed_is_named(policyd, monkeypatch):
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "sqlalchemy" else name
    )
    result = policyd("--once")
    assert result.code == 1
    assert "gpu-policyd needs sqlalchemy: install it with pip" in result.err


def test_json_of_a_service_is_wrong_use(policyd):
    assert policyd("--json").code == 2
