"""What ``gpu-policy doctor`` is told, on real clusters."""

from __future__ import annotations

from slurm_gpu_policy.adapters.clock import SystemClock
from slurm_gpu_policy.adapters.slurm.commands import CommandSlurm
from slurm_gpu_policy.adapters.slurm.diagnose import diagnose


def _report(slurm, user):
    return diagnose(slurm, "commands", "because", user, SystemClock().now())


def test_a_healthy_cluster_has_no_trouble(real_cluster):
    report = _report(real_cluster.slurm, "root")
    assert report.controller_trouble == report.database_trouble == ""
    assert report.cluster
    assert report.release == report.versions["sbatch"]
    assert all(report.versions.values())
    assert report.settings["JobSubmitPlugins"] == "lua"
    assert report.tracks_gpus
    assert abs(report.clock_skew_seconds) <= 2
    assert report.admin_level == "Administrator"
    assert report.may_set_site_factors


def test_an_ordinary_user_may_not_set_site_factors(real_cluster):
    def rights(slurm):
        report = _report(slurm, "u1")
        return report.admin_level, report.may_set_site_factors, report.coordinates

    assert real_cluster.as_user("u1", rights) == ("None", False, ())


def test_a_machine_without_slurm_is_told_so_and_nothing_is_raised(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    report = _report(CommandSlurm(SystemClock()), "u1")
    assert "PATH" in report.controller_trouble
    assert "PATH" in report.database_trouble
    assert set(report.versions.values()) == {""}
    assert report.clock_skew_seconds is None
