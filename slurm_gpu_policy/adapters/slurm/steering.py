"""``scontrol``: what to call the fields, many commands at once, and which job was refused."""

from __future__ import annotations

import re
from time import gmtime, strftime
from typing import TYPE_CHECKING

from slurm_gpu_policy.adapters.slurm.run import reading_environment, run
from slurm_gpu_policy.adapters.slurm.words import error_for, error_in, said
from slurm_gpu_policy.errors import SlurmUnavailable
from slurm_gpu_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from slurm_gpu_policy.adapters.slurm.run import Answer

_OF_A_JOB = re.compile(r"^(.*) for job (\d+)$", re.MULTILINE | re.ASCII)
_OF_TASKS = re.compile(r"^(\d+)_([^ :]+): (.*)$", re.MULTILINE | re.ASCII)
_NO_ERROR = "No error"
"""What 22.05 says of the tasks that were changed, beside those that were not."""
_TOO_LATE = frozenset({"Job has already finished", "Job is no longer pending execution"})
_LINES = 1000
"""Commands that one scontrol is given: half a second's work."""
_BREAKS_A_LINE = r"[\s\"'\\\x00]"


def _time(text: str) -> str:
    """Return Unix seconds as scontrol takes them: a date in its zone, which we set to UTC."""
    if not text.isdigit():
        return text
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(int(text)))


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


def scontrol_many(lines: Mapping[str, Sequence[str]], *, timeout: float) -> dict[str, str]:
    """Do one command for each address, and return Slurm's words for those refused.

    One scontrol reads them from its standard input (2,000 in a second; a process for each would
    be 190). What cannot be said in such a line has a process of its own.

    Raises:
        SlurmUnavailable: nobody answered.
        SlurmTimeout: which of them took effect is unknown.
    """
    plain = [address for address, words in lines.items() if is_plain(words)]
    calls: list[tuple[tuple[str, ...], bytes, Sequence[str]]] = []
    for start in range(0, len(plain), _LINES):
        some = plain[start : start + _LINES]
        calls.append((("scontrol",), script([lines[one] for one in some]), some))
    for address, words in lines.items():
        if not is_plain(words):
            calls.append((("scontrol", *words), b"", (address,)))
    env = reading_environment()
    refused: dict[str, str] = {}
    for argv, stdin, asked in calls:  # slurmctld does one after another anyway
        refused |= refusals(run(argv, stdin=stdin, timeout=timeout, env=env), asked)
    return refused


def script(lines: Sequence[Sequence[str]]) -> bytes:
    """Return what ``scontrol`` reads on its standard input to do all *lines*, one after another.

    Each is a command in words that :func:`is_plain` holds for.
    """
    text = "".join(" ".join(line) + "\n" for line in lines)
    return text.encode("utf-8", "surrogateescape")


def is_plain(words: Sequence[str]) -> bool:
    """Return whether a command can go through scontrol's standard input as it is.

    There a blank ends a word. Quotes keep it together and stay in the value (22.05, 26.05:
    ``Comment="a b"`` sets a comment with two quotes), so a word with either goes as an argument.
    """
    return not any(re.search(_BREAKS_A_LINE, word) for word in words)


def refusals(answer: Answer, asked: Iterable[str]) -> dict[str, str]:
    """Return Slurm's words for those of the addresses *asked* that were refused.

    scontrol names the job in each complaint, on standard error, in no order with its output:
    ``WORDS for job 12``, or for tasks of an array ``12_3-5: WORDS`` (22.05), ``12_[3-5]: WORDS``.

    Raises:
        SlurmUnavailable: nobody answered, or the connection broke: nobody knows for which.
    """
    addresses = tuple(asked)
    text = said(answer)
    of_jobs = {number: words for words, number in _OF_A_JOB.findall(text)}
    of_tasks: dict[str, list[tuple[frozenset[int], str]]] = {}
    for number, tasks, words in _OF_TASKS.findall(text):
        if words != _NO_ERROR:
            of_tasks.setdefault(number, []).append((task_numbers(tasks), words))
    for words in (*of_jobs.values(), *(words for all_ in of_tasks.values() for _, words in all_)):
        error = error_for(words, answer.argv)
        if isinstance(error, SlurmUnavailable):
            raise error
    refused: dict[str, str] = {}
    for address in addresses:
        number, sign, tasks = address.partition("_")
        some = of_tasks.get(number, [])
        if not sign and number in of_jobs:
            refused[address] = of_jobs[number]
        elif words := _refused_tasks(task_numbers(tasks), some):
            refused[address] = words
    if answer.code == 0 or of_jobs or of_tasks or re.search(_OF_TASKS, text):
        return refused
    error = error_in(answer)
    if isinstance(error, SlurmUnavailable):
        raise error
    return dict.fromkeys(addresses, str(error))


def _refused_tasks(asked: frozenset[int], complaints: Iterable[tuple[frozenset[int], str]]) -> str:
    """Return why tasks were refused; ``""`` where only some of them had ended or started.

    Without numbers the whole array is asked for.
    """
    for tasks, words in complaints:
        is_whole = bool(asked) and asked <= tasks
        is_about = not asked or bool(asked & tasks)
        if is_whole or (is_about and words not in _TOO_LATE):
            return words
    return ""


def task_numbers(text: str) -> frozenset[int]:
    """Return the numbers in an array's task list: ``3``, ``[1-4,7]``, ``0-8:2%3``."""
    found: set[int] = set()
    for part in text.partition("%")[0].strip("[]").split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part, re.ASCII)
        if match is not None:
            first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
            found.update(range(first, last + 1, max(step, 1)))
    return frozenset(found)
