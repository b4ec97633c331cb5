"""@record makes what dataclass(frozen=True, slots=True) makes, only sooner."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpu_policy.model.record import record


@record
class Point:
    """A record of the tests."""

    x: int
    y: int = 2
    names: dict = dataclasses.field(default_factory=dict)

    @property
    def sum(self):
        return self.x + self.y


@dataclasses.dataclass(frozen=True, slots=True)
class Plain:
    """The same by the standard library."""

    x: int
    y: int = 2
    names: dict = dataclasses.field(default_factory=dict)


@given(x=st.integers(), y=st.integers())
def test_it_is_made_shown_and_compared_like_a_dataclass(x, y):
    assert repr(Point(x, y=y)).partition("(")[2] == repr(Plain(x, y=y)).partition("(")[2]
    assert (Point(x, y) == Point(y, x)) == (Plain(x, y) == Plain(y, x))
    assert Point(x) == Point(x, 2, {})
    assert Point(x) != Plain(x)


def test_default_factories_make_a_new_value_each_time():
    assert Point(1).names is not Point(1).names


def test_it_cannot_be_changed():
    point = Point(1)
    for change in (lambda: setattr(point, "x", 2), lambda: delattr(point, "x")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.z = 1
    assert not hasattr(point, "__dict__")


def test_dataclasses_own_functions_work_on_it():
    assert dataclasses.replace(Point(1), y=5).sum == 6
    assert [each.name for each in dataclasses.fields(Point)] == ["x", "y", "names"]
    assert dataclasses.asdict(Point(1)) == {"x": 1, "y": 2, "names": {}}


def test_missing_and_unknown_arguments_are_type_errors():
    for call in (Point, lambda: Point(1, z=3)):
        with pytest.raises(TypeError):
            call()


def test_it_hashes_by_its_values():
    @record
    class Pair:
        """Of two."""

        a: int
        b: str = ""

    assert len({Pair(1, "x"), Pair(1, "x"), Pair(2, "x")}) == 2


def test_it_can_be_copied_and_pickled():
    assert copy.deepcopy(Point(1)) == Point(1)
    assert pickle.loads(pickle.dumps(Point(1))) == Point(1)  # noqa: S301 - our own bytes
