"""From YAML text to a validated policy, with every error's line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from slurm_gpu_policy.config.accounts import NAME_PATTERN, WORDS_PATTERN
from slurm_gpu_policy.config.builtin import WORKLOADS
from slurm_gpu_policy.config.schema import Policy
from slurm_gpu_policy.errors import PolicyFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic_core import ErrorDetails

_MOST_NODES = 200_000
"""Aliases can make a small file unfold without end; a real policy is far below this."""
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_PLAIN_WORDS = {
    "model_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "string_type": "a text",
}
"""For pydantic's kinds of error whose own words speak of Python."""

_PATTERN_WORDS = {
    NAME_PATTERN: "letters, digits and _ . @ + -, with a letter, digit or _ first",
    WORDS_PATTERN: "one line without quotes and backslashes, and no blank first",
}

Path = tuple[str | int, ...]


class _Document:
    """A YAML document as plain data, and the line each part of it stands on.

    Scalars stay texts, so that ``4:00:00`` is not read as a sexagesimal number, ``2.50`` keeps
    its digits and ``no`` stays a name; pydantic gives them their types.
    """

    def __init__(self, source: bytes, path: str) -> None:
        self.path = path
        self.lines: dict[Path, int] = {}
        self.problems: list[str] = []
        self._count = 0
        self.data = self._read(source)

    def _read(self, source: bytes) -> Any:
        text = ""
        try:
            text = source.decode("utf-8")
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            return {} if root is None or _is_null(root) else self._plain(root, ())
        except UnicodeDecodeError as error:
            line = source[: error.start].count(b"\n") + 1
            self.problems.append(f"{self.path}:{line}: is not UTF-8 text")
        except yaml.reader.ReaderError as error:
            line = text[: error.position].count("\n") + 1
            found = f"U+{error.character:04X}"
            self.problems.append(
                f"{self.path}:{line}: found the character {found}, wanted a printable one"
            )
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark else 1
            what = getattr(error, "problem", None) or str(error).splitlines()[0]
            self.problems.append(f"{self.path}:{line}: is not YAML: {what}")
        except RecursionError:
            self.problems.append(f"{self.path}:1: is nested too deeply")
        raise PolicyFileError(self.path, self.problems)

    def _plain(self, node: yaml.Node, where: Path) -> Any:
        self._count += 1
        if self._count > _MOST_NODES:
            mark = node.start_mark
            raise yaml.MarkedYAMLError(problem="it unfolds into too many values", problem_mark=mark)
        self.lines.setdefault(where, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return None if _is_null(node) else node.value
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*where, i)) for i, item in enumerate(node.value)]
        return self._plain_mapping(node, where)

    def _plain_mapping(self, node: yaml.Node, where: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.say(line, where, "a list or mapping as key", "a plain name as key")
                continue
            key = key_node.value
            if key in result:
                self.say(line, (*where, key), "the key a second time", "each key once")
                continue
            self.lines[(*where, key)] = line
            result[key] = self._plain(value_node, (*where, key))
        return result

    def line(self, where: Path) -> int:
        """Return the line of *where*, or of the nearest thing around it."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)

    def say(self, line: int, where: Path, found: str, wanted: str) -> None:
        """Note a problem: file, line, field, found, wanted."""
        field = ".".join(str(part) for part in where) or "the file"
        self.problems.append(f"{self.path}:{line}: {field}: found {found}, wanted {wanted}")


def _is_null(node: yaml.Node) -> bool:
    """Whether a node is YAML's way to say nothing (a quoted ``"null"`` is a text)."""
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NULL


def validate(source: bytes, path: str) -> Policy:
    """Return the policy in *source*.

    Raises:
        PolicyFileError: with all problems at once, each as ``file:line: field: found, wanted``.
    """
    document = _Document(source, path)
    policy: Policy | None = None
    try:
        policy = Policy.model_validate(document.data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            _say_error(document, details)
    _check_references(document)
    _check_budgets(document)
    if document.problems or policy is None:
        raise PolicyFileError(path, sorted(document.problems, key=_line_of))
    return policy


def locate(source: bytes, path: str) -> Callable[[Path], int]:
    """Return what tells the line of a place in *source*, or of the nearest thing around it.

    Raises:
        PolicyFileError: *source* is not YAML.
    """
    return _Document(source, path).line


def validate_options(
    source: bytes, path: str, known: Mapping[str, str]
) -> dict[str, str | list[str]]:
    """Return the option defaults in a user's settings file, by parameter name.

    Raises:
        PolicyFileError: with all problems at once.
    """
    document = _Document(source, path)
    result: dict[str, str | list[str]] = {}
    data = document.data
    if not isinstance(data, dict):
        document.say(1, (), "something else", "one `option: value` a line")
        data = {}
    for key, value in data.items():
        name = key.lstrip("-").replace("_", "-")
        line = document.line((key,))
        if name not in known:
            document.say(line, (key,), "no such option", "a long option of gpu-submit")
        elif isinstance(value, str) or (
            isinstance(value, list) and all(isinstance(item, str) for item in value)
        ):
            result[known[name]] = value
        else:
            document.say(line, (key,), _shown(value), "a plain value or a list of them")
    if document.problems:
        raise PolicyFileError(path, document.problems)
    return result


def _say_error(document: _Document, details: ErrorDetails) -> None:
    """Turn one of pydantic's errors into our form."""
    where = tuple(part for part in details["loc"] if part != "[key]")
    line = document.line(where)
    kind, message = details["type"], details["msg"]
    if kind == "extra_forbidden":
        document.say(line, where, "a field that does not exist", _fields_at(where[:-1]))
        return
    if kind == "value_error":  # our parsers of units say "'x' is not …: write it as …"
        message = message.removeprefix("Value error, ")
        message = message.partition(": ")[2] or message
    message = _PLAIN_WORDS.get(kind, message).removeprefix("Input should be ")
    message = _PATTERN_WORDS.get(details.get("ctx", {}).get("pattern", ""), message)
    document.say(line, where, _shown(details["input"]), message[:1].lower() + message[1:])


def _check_budgets(document: _Document) -> None:
    """Say which budgets are of another kind than one before them, and what spent ones lack."""
    data = document.data if isinstance(document.data, dict) else {}
    budgets = data.get("budgets")
    kinds: dict[tuple[str, bool], tuple[str, str]] = {}
    where: Path
    for name, budget in budgets.items() if isinstance(budgets, dict) else ():
        if not isinstance(budget, dict):
            continue
        given = [kind for kind in ("amount", "gpu_hours") if budget.get(kind) is not None]
        if len(given) != 1:
            continue
        account = str(budget.get("account") or name).lower()
        of_users = bool(budget.get("user") or budget.get("each_user"))
        (kind,) = given
        first, wanted = kinds.setdefault((account, of_users), (str(name), kind))
        if kind != wanted:
            where = ("budgets", name, kind)
            whose = f"users in account {account}" if of_users else f"account {account}"
            words = f"{wanted}: all budgets of {whose} are of one kind, as {first} is"
            document.say(document.line(where), where, _shown(budget[kind]), words)
    ledger, submission = data.get("ledger"), data.get("submission")
    way = ledger.get("when_spent") if isinstance(ledger, dict) else None
    qos = submission.get("over_budget_qos") if isinstance(submission, dict) else None
    if way == "qos" and qos is None:
        where = ("ledger", "when_spent")
        words = "hold or nothing, or that submission.over_budget_qos names the QOS"
        document.say(document.line(where), where, "'qos'", words)


def _check_references(document: _Document) -> None:
    """Say which workload names refer to no class; beside pydantic, so that all errors show."""
    data = document.data if isinstance(document.data, dict) else {}
    own = data.get("workloads")
    known = {*WORKLOADS, *(own if isinstance(own, dict) else ())}
    uses: list[tuple[Path, Any]] = []
    if isinstance(defaults := data.get("defaults"), dict) and "workload" in defaults:
        uses.append((("defaults", "workload"), defaults["workload"]))
    if isinstance(limits := data.get("limits"), dict):
        by_workload = limits.get("workloads")
        if isinstance(by_workload, dict):
            uses.extend((("limits", "workloads", name), name) for name in by_workload)
    if isinstance(approvals := data.get("approvals"), dict):
        uses.extend(_in_thresholds(approvals.get("thresholds")))
    uses.extend(_in_ordering(data))
    for where, name in uses:
        if name not in known:
            wanted = "one of: " + ", ".join(sorted(known))
            document.say(document.line(where), where, _shown(name), wanted)


def _in_thresholds(thresholds: Any) -> Iterator[tuple[Path, Any]]:
    for number, one in enumerate(thresholds if isinstance(thresholds, list) else ()):
        names = one.get("workloads") if isinstance(one, dict) else None
        for place, name in enumerate(names if isinstance(names, list) else ()):
            yield ("approvals", "thresholds", number, "workloads", place), name


def _in_ordering(data: Any) -> Iterator[tuple[Path, Any]]:
    """Yield the workload classes that the orderings name: as keys, or in a list."""
    for where in (
        ("ordering", "classes", "workloads"),
        ("ordering", "terms", "workload", "shares"),
        ("ordering", "terms", "interactive", "workloads"),
    ):
        found = data
        for key in where:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, dict):
            yield from (((*where, name), name) for name in found)
        elif isinstance(found, list):
            named = enumerate(found)
            yield from (((*where, n), name) for n, name in named if isinstance(name, str))


def _fields_at(where: Path) -> str:
    """Return the names that are allowed at *where*, for an unknown one beside them."""
    model: Any = Policy
    for part in where:
        fields = getattr(model, "model_fields", {})
        annotation = fields[part].annotation if part in fields else model
        model = _model_in(annotation) or model
    return "one of: " + ", ".join(model.model_fields)


def _model_in(annotation: Any) -> Any:
    """Return the pydantic model inside a type such as ``dict[str, GpuType]``."""
    if hasattr(annotation, "model_fields"):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _model_in(argument)) is not None:
            return found
    return None


def _shown(value: object) -> str:
    """Return a value for a message, kept short."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…'"  # noqa: PLR2004


def _line_of(problem: str) -> int:
    """Return the line number a problem names, to sort by it."""
    for part in problem.split(":"):
        if part.isdigit():
            return int(part)
    return 0
