"""What the policy file wants of Slurm's accounts and QOS (``model.plan.Wanted``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.config.accounts import NO_NUMBER
from slurm_gpu_policy.model.plan import INHERITED, NONE, UNLIMITED, YES, ObjectId, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slurm_gpu_policy.config.accounts import Account, Member
    from slurm_gpu_policy.config.qos import Qos
    from slurm_gpu_policy.config.schema import Policy

ACCOUNT_LIMITS = (
    "gpus", "gpus_per_job", "time", "running_jobs", "submitted_jobs", "running_jobs_per_user",
    "submitted_jobs_per_user",
)  # fmt: skip
MEMBER_LIMITS = ("gpus", "gpus_per_job", "time", "running_jobs", "submitted_jobs")
QOS_LIMITS = (
    "gpus", "gpus_per_job", "gpus_per_user", "gpus_per_account", "time", "running_jobs",
    "submitted_jobs", "running_jobs_per_user", "submitted_jobs_per_user",
)  # fmt: skip


def wanted(policy: Policy) -> Wanted:
    """Return what the policy file names; whether it can be is for :func:`~.plan.difference`."""
    objects: dict[ObjectId, Mapping[str, str]] = {}
    accounts = policy.accounts
    for name, entry in policy.qos.items():
        objects["qos", name] = _qos(entry)
    preempts = _roles(policy, objects)
    for name, account in accounts.items():
        objects["account", name] = _account(account)
        for user, member in (account.users or {}).items():
            objects["user", name, user.lower()] = _member(member)
        for user in account.coordinators or ():
            objects["coordinator", name, user.lower()] = {}
    return Wanted(
        objects=objects,
        listed_users=frozenset(n for n, one in accounts.items() if one.users is not None),
        listed_coordinators=frozenset(
            n for n, one in accounts.items() if one.coordinators is not None
        ),
        closed=frozenset(n for n, one in accounts.items() if one.closed),
        opened=frozenset(n for n, one in accounts.items() if one.closed is False),
        also_preempts=preempts,
        also_qos=_also_qos(policy),
    )


def _roles(policy: Policy, objects: dict[ObjectId, Mapping[str, str]]) -> dict[str, frozenset[str]]:
    """Add the QOS that other parts of the file name; return which must preempt which.

    What the QOS' own entry says comes before what its role asks for.
    """
    if over_budget := policy.submission.over_budget_qos:
        objects.setdefault(("qos", over_budget.lower()), {})
    if policy.over_quota is None:
        return {}
    guaranteed = policy.over_quota.guaranteed_qos.lower()
    lent = policy.over_quota.over_quota_qos.lower()
    role = {"preempt_mode": "requeue", "min_run_time": time_text(policy.over_quota.min_run_time)}
    objects["qos", lent] = {**role, **objects.get(("qos", lent), {})}
    objects.setdefault(("qos", guaranteed), {})
    return {guaranteed: frozenset({lent})}


def _also_qos(policy: Policy) -> dict[str, frozenset[str]]:
    """Return the QOS that accounts must be able to use: rules Q-7xx and B-007."""
    found: dict[str, frozenset[str]] = {}
    if policy.over_quota is not None:
        both = {policy.over_quota.guaranteed_qos, policy.over_quota.over_quota_qos}
        for name, entry in policy.accounts.items():
            if entry.guaranteed_gpus is not None:
                found[name.lower()] = frozenset(map(str.lower, both))
    if qos := policy.submission.over_budget_qos:
        for name, budget in policy.budgets.items():
            account = (budget.account or name).lower()
            found[account] = found.get(account, frozenset()) | {qos.lower()}
    return found


def _qos(entry: Qos) -> dict[str, str]:
    found = _limits(entry.limits, QOS_LIMITS)
    if entry.description is not None:
        found["description"] = words_text(entry.description)
    if entry.priority is not None:
        found["priority"] = str(entry.priority)
    if entry.preempts is not None:
        found["preempts"] = list_text(entry.preempts)
    if entry.preempt_mode is not None:
        found["preempt_mode"] = entry.preempt_mode
    if entry.min_run_time is not None:
        found["min_run_time"] = time_text(entry.min_run_time)
    if entry.grace_seconds is not None:
        found["grace_seconds"] = str(entry.grace_seconds)
    if entry.usage_factor is not None:
        found["usage_factor"] = f"{float(entry.usage_factor):.6f}"
    if entry.flags is not None:
        found["flags"] = list_text(entry.flags)
    return found


def _account(entry: Account) -> dict[str, str]:
    found = {**_association(entry), **_limits(entry.limits, ACCOUNT_LIMITS)}
    if entry.parent is not None:
        found["parent"] = entry.parent.lower()
    if entry.description is not None:
        found["description"] = words_text(entry.description)
    if entry.organization is not None:
        found["organization"] = words_text(entry.organization)
    if entry.priority is not None:
        found["priority"] = str(entry.priority)
    return found


def _member(entry: Member) -> dict[str, str]:
    found = {**_association(entry), **_limits(entry.limits, MEMBER_LIMITS)}
    if entry.default:
        found["default"] = YES
    return found


def _association(entry: Account | Member) -> dict[str, str]:
    found = {}
    if entry.shares is not None:
        found["shares"] = "parent" if entry.shares == NO_NUMBER else str(entry.shares)
    if entry.qos is not None:
        found["qos"] = list_text(entry.qos, empty=INHERITED)
    if entry.default_qos is not None:
        found["default_qos"] = entry.default_qos.lower()
    return found


def _limits(limits: Any, names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        value = getattr(limits, name)
        if value is not None:
            found[name] = time_text(value) if name == "time" else number_text(value)
    return found


def number_text(value: int) -> str:
    """Return a limit as :mod:`~slurm_gpu_policy.model.plan` has it."""
    return UNLIMITED if value == NO_NUMBER else str(value)


def time_text(seconds: int) -> str:
    """Return a limit of time: Slurm keeps whole minutes, and rounds up."""
    return UNLIMITED if seconds == NO_NUMBER else str(-(-seconds // 60) * 60)


def list_text(names: Iterable[str], empty: str = NONE) -> str:
    """Return a list of names, in lower case and in order."""
    return ",".join(sorted({name.lower() for name in names})) or empty


def words_text(text: str) -> str:
    """Return a description as Slurm keeps it: A to Z in lower case, other letters as they are."""
    return "".join(char.lower() if char.isascii() else char for char in text)
