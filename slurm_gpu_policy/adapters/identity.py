"""Who is asking: the user as the operating system knows them, never as the environment says."""

from __future__ import annotations

import grp
import os
import pwd

from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.model.caller import Caller


def current_user() -> str:
    """Return the name of the effective user, the one Slurm will see.

    Raises:
        RequestError: the user id has no name on this machine.
    """
    user_id = os.geteuid()
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError as error:
        msg = f"user id {user_id} has no name on this machine, and Slurm needs one"
        raise RequestError(msg) from error


def user_id_of(user: str) -> int | None:
    """Return the id of a user by name or number; ``None`` where this machine does not know it."""
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def groups_of(user: str) -> tuple[str, ...]:
    """Return the names of a user's groups; empty where this machine does not know the user."""
    try:
        numbers = os.getgrouplist(user, pwd.getpwnam(user).pw_gid)
    except KeyError:
        return ()
    names = []
    for number in numbers:
        try:
            names.append(grp.getgrgid(number).gr_name)
        except KeyError:  # a group without a name here cannot be in AllowGroups
            continue
    return tuple(names)


def caller_of(user_id: int) -> Caller:
    """Return who a user id is; one without a name here gets one that no user can have."""
    try:
        user = pwd.getpwuid(user_id).pw_name
    except KeyError:
        return Caller(user_id, f"#{user_id}")
    return Caller(user_id, user, groups_of(user))
