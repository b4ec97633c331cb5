"""Text fit for a terminal: no control characters, and times that name their zone."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NOTHING = "-"
"""What a cell shows that has nothing to show."""


def safe(text: str) -> str:
    r"""Return *text* on one line, with everything unprintable written as an escape (``\x1b``).

    Names of jobs are other people's text: control characters, line ends, marks that turn the
    writing direction, and bytes that are no UTF-8 would otherwise reach the reader's terminal.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def safe_lines(text: str) -> str:
    """Return *text* as :func:`safe` does, but with its line ends kept."""
    return "\n".join(safe(line) for line in text.splitlines())


def iso(seconds: int | None) -> str | None:
    """Return Unix *seconds* as ISO-8601 in the local zone with its offset, ``None`` for none."""
    if seconds is None:
        return None
    try:
        local = time.localtime(seconds)
    except (OverflowError, ValueError, OSError):  # no calendar reaches that far
        return None
    sign = "-" if local.tm_gmtoff < 0 else "+"
    hours, minutes = divmod(abs(local.tm_gmtoff) // 60, 60)
    clock = time.strftime("%H:%M:%S", local)
    day = f"{local.tm_year:04d}-{local.tm_mon:02d}-{local.tm_mday:02d}"
    return f"{day}T{clock}{sign}{hours:02d}:{minutes:02d}"


def when(seconds: int | None) -> str:
    """Return Unix *seconds* for people: local date and time, to the minute."""
    text = iso(seconds)
    return NOTHING if text is None else text[:16].replace("T", " ")


def ranges(numbers: Sequence[int]) -> str:
    """Return sorted numbers the way Slurm writes them: ``0-3,6``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def print_json(value: object) -> None:
    """Write *value* to standard output as JSON, in ASCII; a list with one item a line."""
    import json  # noqa: PLC0415 - 10 ms that only --json pays

    if isinstance(value, list) and value:
        text = "[\n" + ",\n".join(json.dumps(item) for item in value) + "\n]"
    else:
        text = json.dumps(value, indent=2)
    print(text)  # noqa: T201 - what this module is for


def say(text: str = "") -> None:
    """Write *text* to standard output, safe but with its line ends kept."""
    print(safe_lines(text))  # noqa: T201 - what this module is for


def complain(program: str, text: str) -> None:
    """Write *text* to standard error the way Slurm's programs do: ``gpu-submit: error: …``."""
    first, *rest = safe_lines(text).split("\n")
    lines = [f"{program}: error: {first}", *(f"  {line}" for line in rest)]
    print(*lines, sep="\n", file=sys.stderr)  # noqa: T201 - what this module is for


def note(program: str, text: str) -> None:
    """Write a remark that is no error to standard error."""
    print(f"{program}: {safe_lines(text)}", file=sys.stderr)  # noqa: T201 - see above
