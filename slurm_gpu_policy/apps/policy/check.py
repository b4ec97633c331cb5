"""``gpu-policy check``: is the policy file right, and does the cluster know its names?"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.config.loader import BUILTIN, find_policy_file, read_source
from slurm_gpu_policy.errors import PolicyFileError
from slurm_gpu_policy.terminal.border import DONE, WRONG_POLICY_FILE
from slurm_gpu_policy.terminal.text import print_json, say
from slurm_gpu_policy.units import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_gpu_policy.config.schema import Policy

_STDIN = "(standard input)"
_FOUND_WANTED = re.compile(r"(?P<field>.+?): found (?P<found>.*), wanted (?P<wanted>.*)", re.DOTALL)


@click.command("check")
@click.argument("file", required=False)
@click.option("--live", is_flag=True, help="Also ask the cluster whether it has what is named.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object (see docs/cli.md).")
def command(*, file: str | None, live: bool, as_json: bool) -> int:
    """Say whether a policy file is right: FILE, or the one in force; `-` is standard input.

    All errors are named at once, each with file, line, field, what was found and what would be
    right. Ends with 0 if the file is right and 5 if it is not; warnings (odd prices, and what
    `--live` finds) change nothing about that.

    `--json` prints an object: `file`, `ok`, `problems` and `warnings` (lists of `file`, `line`
    (int), `field`, `found`, `wanted`, `message`; null where one does not apply), and `contents`
    (an object with counts; null if the file is wrong).
    """
    path = _STDIN if file == "-" else find_policy_file(file) or BUILTIN
    source = b""
    problems: list[dict[str, Any]] = []
    warnings: list[dict[str, Any]] = []
    policy: Policy | None = None
    try:
        source = _source(path)
        policy = _validated(source, path)
    except PolicyFileError as error:
        problems = [problem_json(path, problem) for problem in error.problems]
    if policy is not None:
        warnings = _odd_prices(policy, source, path)
    if policy is not None and live:
        warnings += _live_warnings(policy, source, path)
    if as_json:
        contents = None if policy is None else _contents(policy)
        answer = {"file": path, "ok": policy is not None, "problems": problems}
        print_json({**answer, "warnings": warnings, "contents": contents})
    else:
        _show(path, policy, problems, warnings)
    return DONE if policy is not None else WRONG_POLICY_FILE


def _source(path: str) -> bytes:
    """Return the content of a policy file.

    Raises:
        PolicyFileError: it cannot be read.
    """
    if path == _STDIN:
        return sys.stdin.buffer.read()
    return b"" if path == BUILTIN else read_source(path)


def _validated(source: bytes, path: str) -> Policy:
    from slurm_gpu_policy.config.validation import validate  # noqa: PLC0415 - pydantic

    policy = validate(source, path)
    bootstrap.need_known_rules(policy, path)
    return policy


def problem_json(path: str, problem: str) -> dict[str, Any]:
    """Return a problem, ``path:line: field: found …, wanted …``, taken apart."""
    rest = problem.removeprefix(f"{path}:")
    line, sign, text = rest.partition(": ")
    if rest == problem or not sign or not line.isdigit():
        line, text = "", rest.strip()
    match = _FOUND_WANTED.fullmatch(text)
    parts = match.groupdict() if match else {"field": None, "found": None, "wanted": None}
    return {"file": path, "line": int(line) if line else None, **parts, "message": text}


def _odd_prices(policy: Policy, source: bytes, path: str) -> list[dict[str, Any]]:
    """Return a warning for each price that is right and yet hardly meant."""
    from slurm_gpu_policy.adapters.clock import SystemClock  # noqa: PLC0415
    from slurm_gpu_policy.config.validation import locate  # noqa: PLC0415
    from slurm_gpu_policy.policy.prices.price_checks import odd_prices  # noqa: PLC0415

    line_of = locate(source, path)
    return [
        {
            "file": path,
            "line": line_of(odd.where),
            "field": ".".join(map(str, odd.where)),
            "found": odd.found,
            "wanted": odd.wanted,
            "message": f"{odd.found}: {odd.wanted}",
        }
        for odd in odd_prices(policy, SystemClock().now())
    ]


def _live_warnings(policy: Policy, source: bytes, path: str) -> list[dict[str, Any]]:
    """Return a warning for each name that the cluster does not have."""
    from slurm_gpu_policy.config.validation import locate  # noqa: PLC0415
    from slurm_gpu_policy.model.snapshot import Part  # noqa: PLC0415
    from slurm_gpu_policy.policy.naming import unknown_names  # noqa: PLC0415

    parts = (Part.PARTITIONS, Part.NODES, Part.ASSOCIATIONS, Part.QOS, Part.CONFIG)
    snapshot = bootstrap.connect(policy).read(*parts)
    templates = [item.name for item in bootstrap.make_renderer(policy).list_templates()]
    line_of = locate(source, path)
    return [
        {
            "file": path,
            "line": line_of(unknown.where),
            "field": ".".join(map(str, unknown.where)),
            "found": unknown.name,
            "wanted": unknown.known,
            "message": unknown.message,
        }
        for unknown in unknown_names(policy, snapshot, templates)
    ]


def _contents(policy: Policy) -> dict[str, Any]:
    from slurm_gpu_policy.policy.prices.pricing import price_book  # noqa: PLC0415

    limits = policy.limits
    priced = price_book(policy)[0].prices.gpus
    return {
        "clusters": len(policy.clusters),
        "gpu_types": len(policy.gpu_types),
        "priced_gpu_types": sum(
            (entry.gres_type or name).lower() in priced for name, entry in policy.gpu_types.items()
        ),
        "workloads": len(policy.workloads),
        "limited_users": len(limits.users),
        "limited_accounts": len(limits.accounts),
        "limits_everyone": any(value is not None for value in vars(limits.everyone).values()),
        "accounts": len(policy.accounts),
        "qos": len(policy.qos),
        "budgets": len(policy.budgets),
        "ordering": policy.ordering.kind if policy.ordering else None,
        "approval_thresholds": len(policy.approvals.thresholds),
        "enforcement": policy.enforcement,
        "currency": policy.currency,
    }


def _parts_in_use(policy: Policy) -> Iterator[str]:
    """Yield a line for each part of the file that is not always there."""
    if policy.accounts or policy.qos:
        accounts = counted(len(policy.accounts), "account")
        yield f"  in Slurm    {accounts}, {len(policy.qos)} QOS (gpu-policy plan)"
    if policy.pricing:
        hours, changes = policy.pricing.hours or (), policy.pricing.changes
        bands = counted(len(hours), "band")
        yield f"  prices      {bands} of hours, {counted(len(changes), 'change')} by date"
    if policy.budgets:
        yield f"  budgets     {', '.join(policy.budgets)}"
    if policy.ordering:
        yield f"  ordering    {policy.ordering.kind}"
    if policy.approvals.thresholds:
        yield f"  approvals   {counted(len(policy.approvals.thresholds), 'threshold')}"


def _show(
    path: str,
    policy: Policy | None,
    problems: list[dict[str, Any]],
    warnings: list[dict[str, Any]],
) -> None:
    for problem in problems:
        at = "" if problem["line"] is None else f"{path}:{problem['line']}: "
        say(f"{at}{problem['message']}")
    for warning in warnings:
        say(f"{path}:{warning['line']}: {warning['field']}: warning: {warning['message']}")
    if policy is None:
        say(f"{path} is wrong: {counted(len(problems), 'error')}")
        return
    if path == BUILTIN:
        say("there is no policy file: the built-in defaults are in force (gpu-policy init)")
    found = _contents(policy)
    types = ", ".join(policy.gpu_types) or "none listed"
    say(f"{path} is right" + (f", with {counted(len(warnings), 'warning')}" if warnings else ""))
    say(f"  GPU types   {types} ({found['priced_gpu_types']} with a price in {policy.currency})")
    say(f"  workloads   {', '.join(policy.workloads)}")
    limited = [
        *(["everyone"] if found["limits_everyone"] else []),
        counted(found["limited_users"], "user"),
        counted(found["limited_accounts"], "account"),
    ]
    say(f"  limits      {', '.join(limited)}")
    for words in _parts_in_use(policy):
        say(words)
    say(f"  enforcement {policy.enforcement}")
