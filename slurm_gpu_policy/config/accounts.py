"""The accounts of the policy file: what ``gpu-policy apply`` keeps in Slurm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WrapValidator

from slurm_gpu_policy.config.fields import Count, Duration, Strict

if TYPE_CHECKING:
    from collections.abc import Callable

NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.@+-]*$"
WORDS_PATTERN = r"^[^\x00-\x1f\x7f\"'`\\\s][^\x00-\x1f\x7f\"'`\\]*$"
ManagedName = Annotated[str, Field(min_length=1, max_length=255, pattern=NAME_PATTERN)]
"""A name that sacctmgr takes as it stands: it unfolds brackets and rewrites quotes."""
Words = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        pattern=WORDS_PATTERN,
        json_schema_extra={"unit": "words"},
    ),
]
"""One line without quotes, which sacctmgr would rewrite."""
NO_NUMBER = -1
"""What `unlimited` and `parent` become, where else a number stands."""


def _or(word: str) -> WrapValidator:
    """Take *word* besides what the type itself takes."""

    def convert(value: object, convert_number: Callable[[object], int]) -> int:
        return NO_NUMBER if value == word else convert_number(value)

    return WrapValidator(convert)


Many = Annotated[Count, _or("unlimited"), Field(json_schema_extra={"unit": "many"})]
Long = Annotated[Duration, _or("unlimited"), Field(json_schema_extra={"unit": "long"})]
Shares = Annotated[Count, _or("parent"), Field(json_schema_extra={"unit": "shares"})]


def _no_twins(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse names that differ in case only: Slurm keeps them in lower case."""
    seen: dict[str, str] = {}
    for name in value:
        if (other := seen.setdefault(name.lower(), name)) != name:
            msg = (
                f"{name!r} and {other!r} are one name to Slurm: names that differ in more than case"
            )
            raise ValueError(msg)
    return value


def _members(value: object) -> object:
    """Take a list of users for a mapping in which each has nothing of their own."""
    if not isinstance(value, list):
        return value
    if any(not isinstance(name, str) for name in value):
        return value
    if len(set(value)) != len(value):
        msg = "a user stands here twice: each user once"
        raise ValueError(msg)
    return {name: {} for name in value}


def _only_true(value: bool) -> bool:
    if not value:
        msg = "false says nothing: true, at the account that is the default instead"
        raise ValueError(msg)
    return value


NoTwins = AfterValidator(_no_twins)
FromList = BeforeValidator(_members)


class MemberLimits(Strict):
    """Slurm's own limits of one user in one account. `unlimited` takes a limit away."""

    gpus: Many | None = Field(
        default=None, description="GPUs held at once (GrpTRES of the association)."
    )
    gpus_per_job: Many | None = Field(default=None, description="GPUs of one job (MaxTRESPerJob).")
    time: Long | None = Field(default=None, description="Time limit of one job (MaxWall).")
    running_jobs: Many | None = Field(default=None, description="Jobs that run (MaxJobs).")
    submitted_jobs: Many | None = Field(
        default=None, description="Jobs that wait or run (MaxSubmitJobs)."
    )


class AccountLimits(Strict):
    """Slurm's own limits of one account. `unlimited` takes a limit away."""

    gpus: Many | None = Field(
        default=None,
        description="GPUs held at once by the account and all below it (GrpTRES).",
    )
    gpus_per_job: Many | None = Field(
        default=None,
        description="GPUs of one job (MaxTRESPerJob); accounts and users below inherit it.",
    )
    time: Long | None = Field(
        default=None, description="Time limit of one job (MaxWall); inherited."
    )
    running_jobs: Many | None = Field(
        default=None, description="Jobs that run in the account and below it (GrpJobs)."
    )
    submitted_jobs: Many | None = Field(
        default=None,
        description="Jobs that wait or run in the account and below it (GrpSubmitJobs).",
    )
    running_jobs_per_user: Many | None = Field(
        default=None, description="Jobs of one user that run (MaxJobs); inherited."
    )
    submitted_jobs_per_user: Many | None = Field(
        default=None, description="Jobs of one user that wait or run (MaxSubmitJobs); inherited."
    )


class Member(Strict):
    """One user in one account. What is left out is left as it is in Slurm."""

    shares: Shares | None = Field(
        default=None, description="Shares of the account's usage, or `parent`."
    )
    default: Annotated[bool, AfterValidator(_only_true)] | None = Field(
        default=None, description="`true`: this is the user's default account."
    )
    qos: tuple[ManagedName, ...] | None = Field(
        default=None, description="QOS the user may use here, instead of the account's."
    )
    default_qos: ManagedName | None = Field(
        default=None, description="QOS of jobs that name none (DefaultQOS)."
    )
    limits: MemberLimits = Field(default=MemberLimits(), description="The user's limits here.")


class Account(Strict):
    """One Slurm account. What is left out is left as it is in Slurm."""

    parent: ManagedName | None = Field(
        default=None, description="The account above; `root` for a new one if left out."
    )
    description: Words | None = Field(
        default=None, description="A line about it; Slurm keeps it in lower case."
    )
    organization: Words | None = Field(default=None, description="Whose it is.")
    shares: Shares | None = Field(
        default=None,
        description="Shares of the usage of the account above (Fairshare), or `parent`.",
    )
    priority: Count | None = Field(
        default=None, description="Association priority (PriorityWeightAssoc)."
    )
    users: Annotated[dict[ManagedName, Member], NoTwins, FromList] | None = Field(
        default=None,
        description="Its users: a list, or a mapping of users to their shares and limits. Of a "
        "list that is given, users that `gpu-policy apply` put in and that it no longer names "
        "are taken out; others stay.",
    )
    coordinators: tuple[ManagedName, ...] | None = Field(
        default=None, description="Users who may manage it in Slurm."
    )
    guaranteed_gpus: Count | None = Field(
        default=None,
        description="GPUs this account can count on at any time (rules Q-7xx); what it holds "
        "beyond is lent to it, and given back when others need their own.",
    )
    limits: AccountLimits = Field(default=AccountLimits(), description="Its limits in Slurm.")
    qos: tuple[ManagedName, ...] | None = Field(
        default=None,
        description="QOS its users may use; accounts and users below inherit them.",
    )
    default_qos: ManagedName | None = Field(
        default=None, description="QOS of jobs that name none (DefaultQOS); inherited."
    )
    closed: bool | None = Field(
        default=None,
        description="`true`: no new jobs, here or below (GrpSubmitJobs=0 and job_submit.lua); "
        "those that wait or run go on. When it goes, the limit that was there before is back.",
    )
