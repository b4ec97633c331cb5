"""``gpu-policy doctor``: what is wrong between this program, its files and Slurm."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_gpu_policy import __version__, bootstrap
from slurm_gpu_policy.adapters.identity import current_user
from slurm_gpu_policy.apps.policy.slurm_report import report_findings
from slurm_gpu_policy.bootstrap import service
from slurm_gpu_policy.config.loader import find_policy_file
from slurm_gpu_policy.content_cache import cache_folder
from slurm_gpu_policy.errors import PolicyFileError, PolicyLayerError, SlurmUnavailable
from slurm_gpu_policy.model.finding import Finding
from slurm_gpu_policy.model.snapshot import Part
from slurm_gpu_policy.policy.health import cluster_findings, controller_finding
from slurm_gpu_policy.terminal.border import DONE, SLURM_REFUSED, UNREACHABLE, WRONG_POLICY_FILE
from slurm_gpu_policy.terminal.table import Column, print_table
from slurm_gpu_policy.terminal.text import print_json, say
from slurm_gpu_policy.units import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_gpu_policy.config.schema import Policy

_PATIENCE_SECONDS = 10.0
_COLUMNS = (Column(""), Column("LOOKED AT"), Column("FOUND", wraps=True))


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list (see docs/cli.md).")
def command(*, as_json: bool) -> int:
    """Look at everything this program needs, and say what to do where something is wrong.

    Ends with 0 unless something fails: 4 if Slurm cannot be reached, 5 if the policy file is
    wrong, else 1. Warnings do not change that.

    `--json` prints a list of objects: `level` (`ok`, `warn` or `fail`), `subject`, `message` and
    `remedy` (what to do; "" for `ok`).
    """
    findings = [Finding("ok", "version", f"gpu-policy {__version__}")]
    code = DONE
    try:
        policy = bootstrap.load_policy()
        findings.append(_policy_file(policy))
    except PolicyFileError as error:
        code = WRONG_POLICY_FILE
        first, *more = error.problems
        tail = f" (and {counted(len(more), 'more error')})" if more else ""
        findings.append(Finding("fail", "policy file", first + tail, "gpu-policy check"))
        policy = bootstrap.default_policy()
    findings += _templates(policy)
    findings.append(_cache())
    slurm_user = ""
    try:
        report = bootstrap.diagnose(policy)
        findings += report_findings(report)
        if report.controller_trouble:
            code = UNREACHABLE
        else:
            snapshot = bootstrap.connect(policy).read(Part.CONFIG, Part.NODES)
            findings += cluster_findings(snapshot)
            settings = snapshot.config.settings if snapshot.config else {}
            slurm_user = settings.get("SlurmUser", "").partition("(")[0]
    except PolicyLayerError as error:
        code = UNREACHABLE if isinstance(error, SlurmUnavailable) else code or SLURM_REFUSED
        findings.append(Finding("fail", "Slurm", str(error), "mend this, then ask again"))
    findings += _notices(policy, slurm_user)
    findings.append(_controller(policy))
    if any(finding.level == "fail" for finding in findings):
        code = code or SLURM_REFUSED
    _show(findings, as_json=as_json)
    return code


def _controller(policy: Policy) -> Finding:
    """Ask gpu-policyd the way that this machine would."""
    client = bootstrap.make_control_client(policy, answer_seconds=_PATIENCE_SECONDS)
    try:
        return controller_finding(policy, client.where, client.ask("status"), "")
    except PolicyLayerError as error:
        return controller_finding(policy, client.where, None, str(error))


def _policy_file(policy: Policy) -> Finding:
    path = find_policy_file()
    if path is None:
        return Finding(
            "warn",
            "policy file",
            "there is none: the built-in defaults are in force",
            "gpu-policy init",
        )
    what = f"{counted(len(policy.gpu_types), 'GPU type')}, enforcement {policy.enforcement}"
    return Finding("ok", "policy file", f"{path} is right ({what})")


def _templates(policy: Policy) -> Iterator[Finding]:
    for folder in policy.template_folders:
        if not Path(folder).is_dir():
            yield Finding(
                "warn", "templates", f"there is no folder {folder}", "see template_folders"
            )
    try:
        names = [item.name for item in bootstrap.make_renderer(policy).list_templates()]
    except PolicyLayerError as error:
        yield Finding("fail", "templates", str(error), "mend or remove the template")
    else:
        yield Finding("ok", "templates", f"{len(names)} script templates: {', '.join(names)}")


def _notices(policy: Policy, slurm_user: str) -> Iterator[Finding]:
    """Look at the files that sending notices needs; secret ones are for `gpu-policyd` only."""
    me = current_user()
    mail, webhook = policy.notify.mail, policy.notify.webhook
    secrets = {
        "mail": mail.password_file if mail else None,
        "webhook": webhook.url_file if webhook else None,
    }
    for way in service.make_ways(policy):
        subject = f"notices by {way.name}"
        secret = secrets[way.name]
        if secret and me != slurm_user and _is_hidden(secret):
            words = f"{secret} is not for {me} to read, so it was not looked at"
            yield Finding("ok", subject, words)
        elif problems := way.problems():
            remedy = f"mend this, then gpu-policy notify --test {me}"
            yield Finding("fail", subject, "; ".join(problems), remedy)
        else:
            yield Finding("ok", subject, "its files can be used; gpu-policy notify --test tries it")


def _is_hidden(path: str) -> bool:
    """Whether there is, or may be, a file that this user cannot read."""
    try:
        os.stat(path)  # noqa: PTH116
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(path, os.R_OK)


def _cache() -> Finding:
    """Say whether answers can be kept between runs; without a cache each start is slower."""
    folder = Path(cache_folder() or os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    there = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    if not folder.is_absolute() or not there.is_dir() or not os.access(there, os.W_OK):
        return Finding(
            "warn",
            "cache",
            f"{folder} cannot be written, so each start is slower",
            "make it writable for its owner, or set XDG_CACHE_HOME",
        )
    return Finding("ok", "cache", f"{folder} can be written")


def _show(findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {
                    "level": finding.level,
                    "subject": finding.subject,
                    "message": finding.message,
                    "remedy": finding.remedy,
                }
                for finding in findings
            ]
        )
        return
    rows = []
    for finding in findings:
        remedy = f" -> {finding.remedy}" if finding.remedy else ""
        message = finding.message.replace("\n", "; ")
        rows.append((finding.level, finding.subject, message + remedy))
    print_table(_COLUMNS, rows)
    levels = [finding.level for finding in findings]
    say(f"{levels.count('fail')} failed, {counted(levels.count('warn'), 'warning')}")
