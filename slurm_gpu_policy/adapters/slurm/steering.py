"""``scontrol update``: what to call the fields, and which job of a list it refused."""

from __future__ import annotations

import re
from time import localtime, strftime
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.slurm.words import error_in, said
from slurm_gpu_policy.errors import SlurmUnavailable
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slurm_gpu_policy.adapters.slurm.run import Answer

_EACH = re.compile(r"^(.*) for job (\d+)$", re.MULTILINE | re.ASCII)
_NOTHING = ""


def _time(text: str) -> str:
    """Return Unix seconds as scontrol takes them: the local time, for it has no other."""
    if not text.isdigit():
        return text
    return strftime("%Y-%m-%dT%H:%M:%S", localtime(int(text)))


_WORDS: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "time_limit": ("TimeLimit", lambda text: format_duration(int(text))),
    "nice": ("Nice", str),
    "priority": ("Priority", str),
    "qos": ("QOS", str),
    "partition": ("Partition", str),
    "account": ("Account", str),
    "name": ("JobName", str),
    "comment": ("Comment", str),
    "admin_comment": ("AdminComment", str),
    "features": ("Features", str),
    "excluded_nodes": ("ExcNodeList", str),
    "site_factor": ("SiteFactor", str),
    "deadline": ("Deadline", _time),
    "begin_time": ("StartTime", _time),
}


def scontrol_words(changes: Mapping[str, str]) -> list[str]:
    """Return *changes* as arguments of ``scontrol update``.

    Raises:
        ValueError: a key that :meth:`SteerPort.modify` does not have.
    """
    words = []
    for key, value in changes.items():
        if key not in _WORDS:
            msg = f"a job has no changeable field {key!r}; it is one of {', '.join(_WORDS)}"
            raise ValueError(msg)
        name, write = _WORDS[key]
        words.append(f"{name}={write(value)}")
    return words


def refusals(answer: Answer, chunk: str) -> dict[JobId, str]:
    """Return Slurm's words for the jobs of *chunk* (a comma list) that were refused.

    Raises:
        SlurmUnavailable: nobody answered.
    """
    refused = {JobId(int(job_id)): words for words, job_id in _EACH.findall(said(answer))}
    if answer.code == 0 or refused:
        return refused
    error = error_in(answer)
    if isinstance(error, SlurmUnavailable):
        raise error
    return {JobId(int(job_id)): str(error) for job_id in chunk.split(",")}
