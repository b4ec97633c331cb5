"""``gpu-policy doctor``: each finding with what to do, and an exit code by the worst."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from slurm_gpu_policy import bootstrap
from tests.unit.apps.policy.conftest import healthy_report


@pytest.fixture
def report(monkeypatch, slurm):
    def use(**fields):
        monkeypatch.setattr(bootstrap, "diagnose", lambda _policy: healthy_report(**fields))

    return use


def levels(result):
    return {finding["subject"]: finding["level"] for finding in result.json}


def test_a_cluster_as_it_should_be_ends_with_zero(gpu_policy):
    result = gpu_policy("doctor", "--json")
    assert result.code == 0
    assert {name: level for name, level in levels(result).items() if level != "ok"} == {
        "policy file": "warn"
    }


@pytest.mark.parametrize(("adapter", "level"), [("commands of Slurm 26.05", "warn"), ("", "fail")])
def test_a_pyslurm_that_does_not_fit_is_not_said_to_be_in_use(gpu_policy, report, adapter, level):
    trouble = "pyslurm 25.11.2 was built for Slurm 25.11, and this is 26.05"
    report(adapter=adapter, pyslurm=trouble, pyslurm_trouble=trouble)
    result = gpu_policy("doctor", "--json")
    assert levels(result)["pyslurm"] == level
    assert f"installed, but not in use: {trouble}" in result.out
    assert result.code == (0 if adapter else 1)


def test_the_table_says_what_to_do(gpu_policy):
    out = gpu_policy("doctor").out
    assert "there is none: the built-in defaults are in force -> gpu-policy init" in out
    assert out.endswith("0 failed, 1 warning\n")


def test_the_policy_file_in_force_is_named(gpu_policy, monkeypatch, tmp_path):
    (tmp_path / "p.yaml").write_text("gpu_types: {h100: {}}")
    monkeypatch.setenv("GPU_POLICY_FILE", str(tmp_path / "p.yaml"))
    assert "p.yaml is right (1 GPU type, enforcement observe)" in gpu_policy("doctor").out


def test_a_wrong_policy_file_ends_with_five_and_the_rest_is_looked_at(
    gpu_policy, monkeypatch, tmp_path
):
    (tmp_path / "p.yaml").write_text("a: 1\nb: 2\n")
    monkeypatch.setenv("GPU_POLICY_FILE", str(tmp_path / "p.yaml"))
    result = gpu_policy("doctor", "--json")
    assert result.code == 5
    assert levels(result)["policy file"] == "fail"
    assert levels(result)["GPU nodes"] == "ok"
    assert "1 more error" in result.out


def test_when_slurm_is_away_it_ends_with_four(gpu_policy, report):
    report(controller_trouble="Unable to contact slurm controller")
    result = gpu_policy("doctor", "--json")
    assert result.code == 4
    assert levels(result)["controller"] == "fail"


def test_when_slurm_goes_away_in_the_middle_it_ends_with_four(gpu_policy, slurm):
    slurm.unavailable()
    result = gpu_policy("doctor", "--json")
    assert result.code == 4
    assert levels(result)["Slurm"] == "fail"


@pytest.mark.parametrize(
    ("fields", "fault", "code"),
    [
        ({"versions": {"sbatch": "", "squeue": "26.05.5"}}, {"programs": "fail"}, 1),
        ({"versions": {"sbatch": "26.05.5", "sprio": ""}}, {"programs": "warn"}, 0),
        ({"versions": {"sbatch": "24.11.5"}}, {"versions": "warn"}, 0),
        ({"versions": {"sbatch": "26.05.4"}}, {}, 0),
        ({"database_trouble": "no slurmdbd"}, {"database": "warn"}, 0),
        ({"database_trouble": "no slurmdbd", "settings": {}}, {}, 0),
        ({"clock_skew_seconds": -300}, {"clock": "warn"}, 0),
        ({"clock_skew_seconds": None}, {}, 0),
    ],
)
def test_what_the_adapter_reports_is_judged(gpu_policy, report, fields, fault, code):
    report(**fields)
    result = gpu_policy("doctor", "--json")
    found = {name: level for name, level in levels(result).items() if level != "ok"}
    assert (found, result.code) == ({"policy file": "warn", **fault}, code)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "u1 may steer their own jobs"),
        ({"coordinates": ("nlp",)}, "u1 may steer their own jobs, and those of accounts nlp"),
        (
            {"user": "op", "admin_level": "Operator", "may_set_site_factors": True},
            "op may steer everybody's jobs (Operator)",
        ),
    ],
)
def test_the_callers_rights_are_said(gpu_policy, report, fields, words):
    report(**fields)
    assert words in gpu_policy("doctor").out


def test_a_setting_that_makes_gpus_useless_ends_with_one(gpu_policy, slurm):
    settings = {**slurm.config.settings, "GresTypes": "(null)"}
    slurm.config = replace(slurm.config, settings=settings)
    result = gpu_policy("doctor", "--json")
    assert result.code == 1
    assert levels(result)["GPUs"] == "fail"


def test_a_drained_node_is_a_warning(gpu_policy, slurm):
    slurm.drain("gpu01", reason="bad fan")
    result = gpu_policy("doctor", "--json")
    assert (result.code, levels(result)["GPU nodes"]) == (0, "warn")
    assert "gpu01 is idle+drain (bad fan)" in result.out


def test_a_missing_template_folder_is_a_warning(gpu_policy, monkeypatch, tmp_path):
    (tmp_path / "p.yaml").write_text(f"template_folders: [{tmp_path}/none]\n")
    monkeypatch.setenv("GPU_POLICY_FILE", str(tmp_path / "p.yaml"))
    assert f"there is no folder {tmp_path}/none" in gpu_policy("doctor").out


def test_a_broken_template_is_a_failure(gpu_policy, monkeypatch, tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "bad.sh.j2").write_text("{# param 1x #}\n")
    (tmp_path / "p.yaml").write_text(f"template_folders: [{tmp_path}/t]\n")
    monkeypatch.setenv("GPU_POLICY_FILE", str(tmp_path / "p.yaml"))
    result = gpu_policy("doctor", "--json")
    assert result.code == 1
    assert levels(result)["templates"] == "fail"


@pytest.mark.parametrize("base", ["relative", "/dev/null"])
def test_a_cache_that_cannot_be_written_is_a_warning(gpu_policy, monkeypatch, base):
    monkeypatch.setenv("XDG_CACHE_HOME", base)
    assert levels(gpu_policy("doctor", "--json"))["cache"] == "warn"


@pytest.fixture
def webhook_policy(monkeypatch, tmp_path):
    """A policy file with a webhook; returns the file with its address."""
    secret = tmp_path / "secrets" / "url"
    secret.parent.mkdir()
    (tmp_path / "p.yaml").write_text(f"notify: {{webhook: {{url_file: {secret}}}}}")
    monkeypatch.setenv("GPU_POLICY_FILE", str(tmp_path / "p.yaml"))
    return secret


def test_files_that_notices_need_are_looked_at(gpu_policy, webhook_policy):
    result = gpu_policy("doctor", "--json")
    assert result.code == 1
    assert levels(result)["notices by webhook"] == "fail"
    assert "gpu-policy notify --test" in result.out
    webhook_policy.write_text("https://example.org/verysecret")
    webhook_policy.chmod(0o644)
    assert "can be read by everyone" in gpu_policy("doctor").out
    webhook_policy.chmod(0o600)
    result = gpu_policy("doctor", "--json")
    assert levels(result)["notices by webhook"] == "ok"
    assert "verysecret" not in result.out


@pytest.mark.parametrize("hidden", ["file", "folder"])
def test_a_secret_is_not_missed_by_who_may_not_read_it(
    gpu_policy, webhook_policy, monkeypatch, hidden
):
    stat = os.stat

    def refuse(path, *args, **options):
        if path == str(webhook_policy):
            raise PermissionError(13, "Permission denied")
        return stat(path, *args, **options)

    webhook_policy.write_text("https://example.org/x")
    monkeypatch.setattr("slurm_gpu_policy.apps.policy.doctor.current_user", lambda: "u1")
    if hidden == "file":
        monkeypatch.setattr("os.access", lambda path, _mode: path != str(webhook_policy))
    else:
        monkeypatch.setattr("os.stat", refuse)
    result = gpu_policy("doctor", "--json")
    assert levels(result)["notices by webhook"] == "ok"
    assert "is not for u1 to read" in result.out


def test_the_controller_is_asked_the_way_that_this_machine_would(gpu_policy, monkeypatch, tmp_path):
    policy = "controller: {{socket: {0}/none, reach: '127.0.0.1:1'}}\n"
    (tmp_path / "p.yaml").write_text(policy.format(tmp_path))
    monkeypatch.setenv("GPU_POLICY_FILE", str(tmp_path / "p.yaml"))
    result = gpu_policy("doctor", "--json")
    assert (result.code, levels(result)["gpu-policyd"]) == (0, "warn")
    assert "at 127.0.0.1:1: nobody listens there" in result.out


def test_a_controller_that_answers_is_said_to(gpu_policy, monkeypatch):
    answer = {"actor": "gpu-policyd@ctl", "leading": True, "policy_problems": []}
    asked = []

    class Client:
        where = "on its socket /run/x"

        def ask(self, request):
            asked.append(request)
            return answer | {"last_errors": []}

    monkeypatch.setattr(bootstrap, "make_control_client", lambda _policy, **_: Client())
    out = gpu_policy("doctor").out
    assert "gpu-policyd@ctl answers on its socket /run/x, and leads" in out
    assert asked == ["status"]
