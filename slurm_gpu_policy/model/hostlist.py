"""Slurm's compressed lists of host names: ``gpu[01-02,7],login``."""

from __future__ import annotations

from functools import lru_cache

_MOST = 1 << 17
"""More hosts than any Slurm cluster has: a longer list is a mistake, not a machine room."""


@lru_cache(maxsize=4096)
def expand(text: str) -> tuple[str, ...]:
    """Return the host names in *text*, in its order, with zero padding kept.

    Raises:
        ValueError: brackets that do not match, or a range that is none.
    """
    hosts: list[str] = []
    for part in _split(text):
        hosts.extend(_expand_one(part))
        if len(hosts) > _MOST:
            msg = f"a host list of more than {_MOST} names: {text[:40]!r}..."
            raise ValueError(msg)
    return tuple(hosts)


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets."""
    if text in {"", "(null)", "N/A", "None"}:
        return []
    if "[" not in text and "]" not in text:
        return [part for part in text.split(",") if part]
    parts, start, depth = [], 0, 0
    for position, letter in enumerate(text):
        if letter == "[":
            depth += 1
        elif letter == "]":
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
        if depth not in {0, 1}:
            break
    if depth != 0:
        msg = f"brackets do not match in the host list {text!r}"
        raise ValueError(msg)
    parts.append(text[start:])
    return [part for part in parts if part]


def _expand_one(part: str) -> list[str]:
    """Expand every bracket of one name: ``r[1-2]n[1-2]`` has two."""
    head, bracket, rest = part.partition("[")
    if not bracket:
        return [part]
    ranges, _, tail = rest.partition("]")
    tails = _expand_one(tail)
    numbers = [number for span in ranges.split(",") for number in _span(span, part)]
    if len(numbers) * len(tails) > _MOST:
        msg = f"a host list of more than {_MOST} names: {part[:40]!r}"
        raise ValueError(msg)
    return [head + number + end for number in numbers for end in tails]


def _span(span: str, part: str) -> list[str]:
    first, dash, last = span.partition("-")
    last = last if dash else first
    if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
        msg = f"{span!r} is no range in the host list {part!r}"
        raise ValueError(msg)
    low, high = int(first), int(last)
    if not 0 <= high - low < _MOST:
        msg = f"{span!r} is no range in the host list {part!r}"
        raise ValueError(msg)
    return [f"{number:0{len(first)}d}" for number in range(low, high + 1)]


def indexes(text: str) -> tuple[int, ...]:
    """Return the numbers in ``0,2-3``, none for an unset value.

    Raises:
        ValueError: not a list of numbers and ranges.
    """
    if text in {"", "N/A", "(null)"}:
        return ()
    return tuple(int(number) for span in text.split(",") for number in _span(span, text))
