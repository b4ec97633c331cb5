"""What the adapter found out about Slurm, as findings with what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_gpu_policy.model.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_gpu_policy.adapters.slurm.diagnose import Report

_NEEDED = frozenset({"sbatch", "squeue", "scontrol", "scancel"})
"""Programs without which nothing works; without the others some answers are missing."""
_LARGEST_SKEW_SECONDS = 60


def report_findings(report: Report) -> Iterator[Finding]:
    """Yield what there is to say of the way to Slurm."""
    yield Finding("ok", "adapter", f"{report.adapter or 'none'} ({report.why})")
    yield from _programs(report)
    yield _pyslurm(report)
    if report.controller_trouble:
        yield Finding(
            "fail",
            "controller",
            report.controller_trouble,
            "scontrol ping; is this a machine of the cluster?",
        )
        return
    yield Finding("ok", "controller", f"slurmctld {report.release} of {report.cluster} answers")
    kind = report.settings.get("AccountingStorageType", "")
    if report.database_trouble and kind and not kind.endswith("none"):
        yield Finding(
            "warn",
            "database",
            f"slurmdbd cannot be asked: {report.database_trouble}",
            "look at slurmdbd; until then older answers are used",
        )
    elif not report.database_trouble:
        yield Finding("ok", "database", "slurmdbd answers")
    yield from _clock(report)
    yield _rights(report)


def _pyslurm(report: Report) -> Finding:
    if report.pyslurm_trouble:
        # Without an adapter it is the one that the policy file insists on.
        return Finding(
            "warn" if report.adapter else "fail",
            "pyslurm",
            f"installed, but not in use: {report.pyslurm_trouble}",
            "install the pyslurm of Slurm's release, or set slurm.adapter to commands",
        )
    has_pyslurm = report.pyslurm[:1].isdigit()
    return Finding("ok", "pyslurm", ("" if has_pyslurm else "not in use: ") + report.pyslurm)


def _programs(report: Report) -> Iterator[Finding]:
    missing = [name for name, version in report.versions.items() if not version]
    if missing:
        yield Finding(
            "fail" if _NEEDED.intersection(missing) else "warn",
            "programs",
            f"not on PATH, or not running: {', '.join(missing)}",
            "install Slurm's client commands, or load the site's Slurm module",
        )
    releases = {_release(version) for version in report.versions.values() if version}
    ours = ", ".join(sorted(releases))
    if report.release and releases - {_release(report.release)}:
        yield Finding(
            "warn",
            "versions",
            f"the client commands are of Slurm {ours}, the controller is {report.release}",
            "install the client commands of the controller's release",
        )
    elif releases and not missing:
        yield Finding("ok", "programs", f"all client commands are there, of Slurm {ours}")


def _release(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _clock(report: Report) -> Iterator[Finding]:
    skew = report.clock_skew_seconds
    if skew is None:
        return
    if abs(skew) > _LARGEST_SKEW_SECONDS:
        yield Finding(
            "warn",
            "clock",
            f"the controller's clock is {abs(skew)} s {'ahead of' if skew > 0 else 'behind'} ours",
            "set both clocks by NTP: MUNGE and all times depend on it",
        )
    else:
        yield Finding("ok", "clock", "the controller's clock agrees with ours")


def _rights(report: Report) -> Finding:
    if report.may_set_site_factors:
        level = report.admin_level if report.admin_level not in {"", "None"} else "SlurmUser"
        return Finding("ok", "rights", f"{report.user} may steer everybody's jobs ({level})")
    accounts = ", ".join(report.coordinates)
    more = f", and those of accounts {accounts}" if accounts else ""
    return Finding("ok", "rights", f"{report.user} may steer their own jobs{more}")
