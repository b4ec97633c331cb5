"""Accounts, users, QOS and their limits by sacctmgr, of one cluster.

Measured on 22.05.8 and 26.05.5, and the reason for what may look odd here:

* sacctmgr changes every cluster of the database unless ``cluster=`` stands in the call.
* What it lists is what an association *inherits*, unless ``wopl`` and ``withrawqoslevel``.
* It ends with code 0 after some refusals, and with 1 where there was nothing to do.
* ``delete account … cluster=`` leaves the account's record behind.
* ``Preempt=`` with nothing leaves slurmdbd (22.05 always, 26.05 sometimes) believe in the old
  list, and refuse later lists as a loop. Taking an old name away once more wakes it up.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.slurm import parse_managed as form
from slurm_gpu_policy.adapters.slurm.run import Call, reading_environment, run, run_all
from slurm_gpu_policy.adapters.slurm.words import error_for, error_in, said
from slurm_gpu_policy.errors import NotAllowed, SlurmRefused
from slurm_gpu_policy.model.plan import INHERITED, NONE, UNLIMITED, YES
from slurm_gpu_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from slurm_gpu_policy.adapters.slurm.run import Answer
    from slurm_gpu_policy.model.plan import Change, Present

    Words = Mapping[str, tuple[str, Callable[[str], str]]]

_SHOW = ("sacctmgr", "-n", "-P", "show")
_WRITE = ("sacctmgr", "-i", "-Q")
_CLEAR = "-1"
_NOTHING_TO_DO = (
    "Nothing new added", "Nothing added", "Nothing deleted", "Nothing removed", "Already existing",
    "Request didn't affect anything",
)  # fmt: skip
_DENIED = ("Access/permission denied", "Only admins/operators", "doesn't have privilege")
_REFUSED = re.compile(
    r"^(error:|Error with request|Problem |Can't |No )|doesn't exist|is a child of"
    r"|don't have access to their default qos|^Nothing modified",
)
"""Lines that sacctmgr prints, often with code 0, when it has not done what it was asked."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*", re.ASCII)
_UNFIT = re.compile(r"[\x00-\x1f\x7f\"'`\\]")


def _same(text: str) -> str:
    return text


def _number(text: str) -> str:
    return _CLEAR if text == UNLIMITED else text


def _gpus(text: str) -> str:
    return f"gres/gpu={_number(text)}"


def _time(text: str) -> str:
    return _CLEAR if text == UNLIMITED else format_duration(int(text))


def _qos_list(text: str) -> str:
    return "" if text == INHERITED else text


def _one_qos(text: str) -> str:
    return _CLEAR if text == INHERITED else text


def _flags(text: str) -> str:
    return _CLEAR if text == NONE else text


_LIMITS: Words = {
    "gpus": ("GrpTRES", _gpus),
    "gpus_per_job": ("MaxTRESPerJob", _gpus),
    "time": ("MaxWall", _time),
}
_ASSOCIATION: Words = {
    **_LIMITS,
    "shares": ("Fairshare", _same),
    "qos": ("QOS", _qos_list),
    "default_qos": ("DefaultQOS", _one_qos),
    "priority": ("Priority", _same),
}
# (our field: sacctmgr's word for it, how the value is written)
_WORDS: Mapping[str, Words] = {
    "account": {
        **_ASSOCIATION,
        "parent": ("Parent", _same),
        "description": ("Description", _same),
        "organization": ("Organization", _same),
        "running_jobs": ("GrpJobs", _number),
        "submitted_jobs": ("GrpSubmitJobs", _number),
        "running_jobs_per_user": ("MaxJobs", _number),
        "submitted_jobs_per_user": ("MaxSubmitJobs", _number),
    },
    "user": {
        **_ASSOCIATION,
        "running_jobs": ("MaxJobs", _number),
        "submitted_jobs": ("MaxSubmitJobs", _number),
    },
    "qos": {
        **_LIMITS,
        "description": ("Description", _same),
        "priority": ("Priority", _same),
        "preempts": ("Preempt", _same),
        "preempt_mode": ("PreemptMode", _same),
        "min_run_time": ("PreemptExemptTime", _time),
        "grace_seconds": ("GraceTime", _same),
        "usage_factor": ("UsageFactor", _same),
        "flags": ("Flags", _flags),
        "gpus_per_user": ("MaxTRESPerUser", _gpus),
        "gpus_per_account": ("MaxTRESPerAccount", _gpus),
        "running_jobs": ("GrpJobs", _number),
        "submitted_jobs": ("GrpSubmitJobs", _number),
        "running_jobs_per_user": ("MaxJobsPerUser", _number),
        "submitted_jobs_per_user": ("MaxSubmitJobsPerUser", _number),
    },
}


class CommandManaging:
    """Implements :class:`slurm_gpu_policy.services.ports.ManagePort`."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds

    def managed(self, cluster: str) -> Present:
        """See :meth:`slurm_gpu_policy.services.ports.ManagePort.managed`."""
        env = reading_environment()
        calls = [Call((*_SHOW, *words), env=env) for words in form.QUESTIONS]
        answers = run_all(calls, timeout=self._timeout)
        for answer in answers:
            if answer.code != 0:
                raise error_in(answer)
        return form.present(cluster, *(answer.stdout for answer in answers))

    def carry_out(self, cluster: str, change: Change) -> bool:
        """See :meth:`slurm_gpu_policy.services.ports.ManagePort.carry_out`."""
        if change.what[0] == "record":
            return self._drop_record(change.what[1])
        done = False
        for argv in calls_for(cluster, change):
            done = self._write(argv) or done
        return done

    def _drop_record(self, account: str) -> bool:
        """Forget an account that no cluster has any more."""
        check_names([account])
        argv = (*_SHOW, "assoc", "where", f"account={account}", "format=cluster")
        answer = run(argv, timeout=self._timeout, env=reading_environment())
        if answer.code != 0:
            raise error_in(answer)
        if answer.stdout.strip():
            return False
        return self._write(("delete", "account", "where", f"name={account}"))

    def _write(self, words: Iterable[str]) -> bool:
        answer = run((*_WRITE, *words), timeout=self._timeout, env=reading_environment())
        return outcome(answer)


def outcome(answer: Answer) -> bool:
    """Return whether sacctmgr did what it was asked; ``False`` where there was nothing to do.

    Raises:
        NotAllowed: the caller is no administrator of Slurm.
        SlurmError: it was refused, or nobody answered.
    """
    printed = [line.strip() for line in answer.stdout.splitlines() if line.strip()]
    lines = [*said(answer).splitlines(), *printed]
    if denied := next((line for line in lines if any(phrase in line for phrase in _DENIED)), None):
        msg = (
            f"Slurm does not let this user change accounts and QOS ({denied}): be root, "
            "SlurmUser or a user whom `sacctmgr show user` calls Administrator"
        )
        raise NotAllowed(msg)
    text = "\n".join(lines)
    if answer.code != 0 and any(phrase in text for phrase in _NOTHING_TO_DO):
        return False
    wrong = [line for line in printed if _REFUSED.search(line)]
    if answer.code == 0 and not wrong:
        return True
    complaints = [line for line in lines if line not in printed] + wrong
    raise error_for("; ".join(complaints or lines), answer.argv, answer.code)


def calls_for(cluster: str, change: Change) -> Iterator[tuple[str, ...]]:
    """Yield what to say to sacctmgr for one step, as arguments.

    Raises:
        SlurmRefused: a name or a text that sacctmgr would unfold or rewrite.
    """
    kind, *names = change.what
    check_names([cluster, *names])
    values = {one.name: one.after for one in change.fields}
    here = f"cluster={cluster}"
    if kind == "qos":
        yield from _qos_calls(change, values)
    elif kind == "coordinator":
        verb = "add" if change.verb == "create" else "delete"
        yield (verb, "coordinator", f"account={names[0]}", f"name={names[1]}")
    elif kind == "account":
        name = f"name={names[0]}"
        if change.verb == "create":
            yield ("add", "account", name, here, *_words(kind, values))
        elif change.verb == "set":
            yield ("modify", "account", "where", name, here, "set", *_words(kind, values))
        else:
            yield ("delete", "account", "where", name, here)
    else:
        yield from _user_calls(change, values, here)


def _user_calls(change: Change, values: dict[str, str], here: str) -> Iterator[tuple[str, ...]]:
    _kind, account, user = change.what
    is_default = values.pop("default", "") == YES
    words = _words("user", values)
    where = ("where", f"name={user}", f"account={account}", here)
    if change.verb == "create":
        default = (f"DefaultAccount={account}",) if is_default else ()
        yield ("add", "user", f"name={user}", f"account={account}", here, *default, *words)
        return
    if change.verb == "remove":
        yield ("delete", "user", *where)
        return
    if words:  # `partition=`: not the associations with one partition, which are others'
        yield ("modify", "user", *where, "partition=", "set", *words)
    if is_default:
        yield ("modify", "user", "where", f"name={user}", here, "set", f"DefaultAccount={account}")


def _qos_calls(change: Change, values: dict[str, str]) -> Iterator[tuple[str, ...]]:
    name = f"name={change.what[1]}"
    if change.verb == "create":
        yield ("add", "qos", name, *_words("qos", values))
    elif change.verb == "remove":
        yield ("delete", "qos", "where", name)
    else:
        modify = ("modify", "qos", "where", name, "set")
        if values.get("preempts") == NONE:
            del values["preempts"]
            before = next(one.before for one in change.fields if one.name == "preempts")
            yield (*modify, "Preempt=")
            yield (*modify, f"Preempt=-{before.partition(',')[0]}")
        if words := _words("qos", values):
            yield (*modify, *words)


def _words(kind: str, values: Mapping[str, str]) -> tuple[str, ...]:
    words = []
    for name, value in values.items():
        word, write = _WORDS[kind][name]
        if _UNFIT.search(value):
            msg = f"sacctmgr would rewrite the {name} {value!r}: no quotes, no control characters"
            raise SlurmRefused(msg)
        words.append(f"{word}={write(value)}")
    return tuple(words)


def check_names(names: Iterable[str]) -> None:
    """Refuse names that sacctmgr would unfold or rewrite.

    Raises:
        SlurmRefused: there is one.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            msg = (
                f"the name {name!r} cannot be given to sacctmgr, which would unfold or rewrite "
                "it: letters, digits, and _ . @ + - inside"
            )
            raise SlurmRefused(msg)
