"""Who is asking: the user as the operating system knows them, never as the environment says."""

from __future__ import annotations

import os
import pwd

from slurm_gpu_policy.errors import RequestError


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
