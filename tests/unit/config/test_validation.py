"""A policy file is right, or each of its errors is named; nothing else ever happens."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from slurm_gpu_policy.config.frozen import Frozen, from_plain, to_plain
from slurm_gpu_policy.config.schema import Policy
from slurm_gpu_policy.config.validation import locate, validate, validate_options
from slurm_gpu_policy.errors import PolicyFileError
from tests.builders import make_policy

EXAMPLE = (Path(__file__).parents[3] / "tools/example_policy.yaml").read_bytes()
MANY = settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow], deadline=None)
FIELDS = sorted({
    *Policy.model_fields, "gpus", "time", "memory", "price_per_hour", "everyone", "users",
    "accounts", "pools", "cpu_fallback", "training", "h100", "gres_type", "typed", "timeout",
})  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["4h", "80G", "2.50", "*", "0", "-1", "1e9", "no", "999999999999d", "٣"])
)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=20,
)


def problems_of(source: bytes) -> tuple[str, ...]:
    """Return the problems of a file, none where it is right; any other error is a failure."""
    try:
        validate(source, "p.yaml")
    except PolicyFileError as error:
        problems = error.problems
    else:
        return ()
    assert problems
    assert all(problem.startswith("p.yaml:") for problem in problems)
    assert all(problem.split(":")[1].isdigit() for problem in problems)
    return problems


UNKNOWN_FIELD = (
    "p.yaml:3: limits.everyone.gpu: found a field that does not exist, "
    "wanted one of: gpus, gpus_per_job, time"
)
NO_DURATION = (
    "p.yaml:2: slurm.timeout: found 'soon', wanted write it as 4h, 1d12h, 90s, or like "
    "sbatch --time: minutes, hours:minutes:seconds, days-hours"
)
TWICE = "p.yaml:3: slurm.timeout: found the key a second time, wanted each key once"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("version: 2", ["p.yaml:1: version: found '2', wanted 1"]),
        ("gpus: 3", None),
        (
            "limits:\n  everyone:\n    gpu: 3\n",
            [UNKNOWN_FIELD],
        ),
        (
            "gpu_types:\n  h100: {memory: 80X}\n",
            ["p.yaml:2: gpu_types.h100.memory: found '80X', wanted write it as 64G, 500M or 1T"],
        ),
        (
            "slurm:\n  timeout: soon\n  timeout: 3s\n",
            [NO_DURATION, TWICE],
        ),
        ("defaults: {workload: nope}", None),
        ("- a\n", None),
        ("? {a: b}\n: c\n", None),
        ("a: [", None),
        ("gpu_types: 3", ["p.yaml:1: gpu_types: found '3', wanted a mapping"]),
        ("workloads: {x: 3}", None),
        ("limits:\n", None),
        ("a: &a [*a]\n", None),
        ("x: !!python/object/apply:os.system ['true']", None),
        ("\x00", None),
        ("--- 1\n--- 2\n", None),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text, problems):
    found = problems_of(text.encode())
    assert found
    if problems is not None:
        assert list(found) == problems


def test_all_errors_are_named_at_once_in_the_order_of_their_lines():
    text = b"enforcement: no\ngpu_types:\n  h100:\n    memory: x\ncurrency: ''\nfoo: 1\n"
    assert [int(problem.split(":")[1]) for problem in problems_of(text)] == [1, 4, 5, 6]


def test_a_file_that_is_no_utf8_says_where():
    (problem,) = problems_of(b"version: 1\ncurrency: \xff\n")
    assert problem == "p.yaml:2: is not UTF-8 text"


def test_a_character_that_yaml_forbids_says_where():
    (problem,) = problems_of(b"version: 1\n\n\x1b: 1\n")
    assert problem == "p.yaml:3: found the character U+001B, wanted a printable one"


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "version: 1", "version: '1'"])
def test_an_empty_file_is_right(text):
    assert problems_of(text.encode()) == ()


def test_the_example_in_the_documentation_is_right():
    assert problems_of(EXAMPLE) == ()


def test_deep_nesting_is_an_error_and_no_crash():
    for text in ("[" * 50_000, "{a: " * 20_000, "- " * 20_000, "a:\n " * 100):
        assert problems_of(text.encode())


def test_aliases_that_unfold_without_end_are_an_error_and_no_hang():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    found = problems_of("\n".join(lines).encode())
    assert any("unfolds" in problem for problem in found)


@MANY
@given(TREES)
def test_any_tree_is_right_or_has_problems(tree):
    problems_of(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))


@MANY
@given(st.binary(max_size=200))
def test_any_bytes_are_right_or_have_problems(source):
    problems_of(source)


@MANY
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_a_damaged_file_is_right_or_has_problems(seed, times):
    chance = random.Random(seed)  # noqa: S311 - which bytes are damaged is no secret
    source = bytearray(EXAMPLE)
    for _ in range(times):
        at = chance.randrange(len(source))
        match chance.randrange(4):
            case 0:
                source[at] = chance.randrange(256)
            case 1:
                del source[at : at + chance.randrange(1, 40)]
            case 2:
                source[at:at] = bytes(source[chance.randrange(len(source)) :][:30])
            case _:
                source[at:at] = chance.choice([b"\n", b"  ", b"&a ", b"*a", b"- ", b": ", b"\t"])
    problems_of(bytes(source))


# --- the frozen copy --------------------------------------------------------------------------


def same(validated, frozen) -> bool:
    """Whether the frozen copy holds what pydantic's tree does."""
    if isinstance(validated, BaseModel):
        names = set(type(validated).model_fields)
        return set(vars(frozen)) == names and all(
            same(getattr(validated, name), getattr(frozen, name)) for name in names
        )
    if isinstance(validated, dict):
        return dict(frozen).keys() == validated.keys() and all(
            same(value, frozen[key]) for key, value in validated.items()
        )
    if isinstance(validated, tuple):
        return len(validated) == len(frozen) and all(map(same, validated, frozen))
    return validated == frozen and type(validated) is type(frozen)


def test_the_frozen_copy_of_the_example_holds_the_same_values():
    policy = validate(EXAMPLE, "p.yaml")
    frozen = from_plain(to_plain(policy))
    assert same(policy, frozen)
    assert isinstance(frozen, Frozen)
    assert frozen.gpu_types["h100"].price_per_hour == 2_500_000
    assert frozen.limits.everyone.time == 3 * 86400


NAME = st.from_regex(r"[A-Za-z0-9_.-]{1,12}", fullmatch=True)
LIMIT = st.fixed_dictionaries(
    {}, optional={"gpus": st.integers(0, 99), "time": st.sampled_from(["4h", "1d12h", "90"])}
)
GPU_TYPE = st.fixed_dictionaries(
    {},
    optional={
        "memory": st.sampled_from(["80G", "500M", "1TB"]),
        "price_per_hour": st.decimals(0, 99, places=2).map(str),
        "partitions": st.lists(NAME, max_size=3),
    },
)
FILES = st.fixed_dictionaries(
    {},
    optional={
        "enforcement": st.sampled_from(["observe", "advise", "enforce"]),
        "gpu_types": st.dictionaries(NAME, GPU_TYPE, max_size=3),
        "limits": st.fixed_dictionaries(
            {}, optional={"everyone": LIMIT, "users": st.dictionaries(NAME, LIMIT, max_size=3)}
        ),
        "workloads": st.dictionaries(
            NAME | st.just("training"),
            st.fixed_dictionaries({}, optional={"default_time": st.just("2h")}),
            max_size=3,
        ),
    },
)


@given(FILES)
def test_the_frozen_copy_holds_what_the_validated_tree_does(tree):
    policy = validate(yaml.safe_dump(tree).encode(), "p.yaml")
    assert same(policy, from_plain(to_plain(policy)))


def test_the_frozen_copy_cannot_be_changed():
    frozen = from_plain(to_plain(validate(b"", "p.yaml")))
    with pytest.raises(AttributeError, match="read-only"):
        frozen.currency = "EUR"
    with pytest.raises(AttributeError, match="read-only"):
        del frozen.currency
    with pytest.raises(TypeError):
        frozen.workloads["x"] = 1


# --- small parts ------------------------------------------------------------------------------


def test_a_place_is_located_or_the_nearest_thing_around_it():
    line_of = locate(b"a: 1\nb:\n  c: 2\n", "p.yaml")
    assert [line_of(("a",)), line_of(("b", "c")), line_of(("b", "x")), line_of(("y",))] == [
        1,
        3,
        2,
        1,
    ]


def test_a_users_options_are_read_by_their_long_names():
    known = {"gpu-type": "gpu_type", "mail-type": "mail_type"}
    source = b"gpu_type: h100\n--mail-type: [END, FAIL]\n"
    assert validate_options(source, "u.yaml", known) == {
        "gpu_type": "h100",
        "mail_type": ["END", "FAIL"],
    }


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (b"gpu-typ: x", "u.yaml:1: gpu-typ: found no such option"),
        (b"gpu-type: {a: b}", "u.yaml:1: gpu-type: found a mapping"),
        (b"gpu-type:", "u.yaml:1: gpu-type: found nothing"),
        (b"[1]", "u.yaml:1: the file: found something else"),
    ],
)
def test_a_wrong_option_in_a_users_file_is_named(source, problem):
    with pytest.raises(PolicyFileError) as caught:
        validate_options(source, "u.yaml", {"gpu-type": "gpu_type"})
    assert caught.value.problems[0].startswith(problem)


def test_accounts_and_qos_are_in_lower_case_as_slurm_keeps_them():
    policy = make_policy(
        accounts={"NLP": {"guaranteed_gpus": 8}},
        qos={"High": {"priority": 5}},
        limits={"accounts": {"Vision": {"gpus": 4}}},
        ordering={"kind": "priority", "classes": {"accounts": {"NLP": "high"}}},
    )
    assert (set(policy.accounts), set(policy.qos)) == ({"nlp"}, {"high"})
    assert set(policy.limits.accounts) == {"vision"}
    assert set(policy.ordering.classes.accounts) == {"nlp"}


def test_a_name_or_text_that_sacctmgr_would_rewrite_is_told_in_words():
    text = b'accounts:\n  a[1-3]: {}\n  b: {description: it\'s, users: ["u 1"]}\n'
    with pytest.raises(PolicyFileError) as raised:
        validate(text, "p.yaml")
    name = "letters, digits and _ . @ + -, with a letter, digit or _ first"
    words = "one line without quotes and backslashes, and no blank first"
    assert list(raised.value.problems) == [
        f"p.yaml:2: accounts.a[1-3]: found 'a[1-3]', wanted {name}",
        f'p.yaml:3: accounts.b.description: found "it\'s", wanted {words}',
        f"p.yaml:3: accounts.b.users.u 1: found 'u 1', wanted {name}",
    ]


@pytest.mark.parametrize("field", ["metrics", "listen", "reach"])
@pytest.mark.parametrize("value", ["nonsense", "host:99999", "'::1:80'", "http://h:1"])
def test_an_address_that_is_none_is_told_what_would_be_one(field, value):
    (problem,) = problems_of(f"controller: {{{field}: {value}}}".encode())
    found = value.strip("'")
    assert problem == (
        f"p.yaml:1: controller.{field}: found {found!r}, wanted a text HOST:PORT, such as "
        "ctl.site:9812, 127.0.0.1:9812 or [::1]:9812"
    )


@pytest.mark.parametrize("value", ["''", "'[::]:9812'", "ctl.site:9812", "0.0.0.0:9812"])
def test_an_address_or_none_is_right(value):
    each = ", ".join(f"{field}: {value}" for field in ("metrics", "listen", "reach"))
    assert problems_of(f"controller: {{{each}}}".encode()) == ()


def test_a_pace_of_nothing_is_told_what_would_be_one():
    (problem,) = problems_of(b"controller: {tick: 0s}")
    assert problem.startswith("p.yaml:1: controller.tick: found '0s', wanted more than zero, such")


def test_budgets_of_one_account_are_of_one_kind():
    text = b"""budgets:
  nlp: {amount: 5}
  u1: {account: NLP, user: u1, gpu_hours: 5}
  each: {account: nlp, each_user: true, amount: 5}
  more: {account: nlp, gpu_hours: 5}
  vision: {gpu_hours: 5}
"""
    each, more = problems_of(text)
    assert each.startswith(
        "p.yaml:4: budgets.each.amount: found '5', wanted gpu_hours: all budgets"
    )
    assert more.startswith(
        "p.yaml:5: budgets.more.gpu_hours: found '5', wanted amount: all budgets"
    )
    assert each.endswith("of users in account nlp are of one kind, as u1 is")
    assert more.endswith("of account nlp are of one kind, as nlp is")


def test_a_qos_for_those_who_have_spent_their_budget_has_a_name():
    spent = b"ledger: {when_spent: qos}"
    (problem,) = problems_of(spent)
    assert problem.startswith(
        "p.yaml:1: ledger.when_spent: found 'qos', wanted hold or nothing, or"
    )
    assert problems_of(spent + b"\nsubmission: {over_budget_qos: idle}") == ()
