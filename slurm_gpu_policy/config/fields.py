"""The kinds of values that the policy file's fields have.

Durations become seconds, memory MiB, prices micro-units of the currency: integers all.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from slurm_gpu_policy.errors import RequestError
from slurm_gpu_policy.model.address import parse_address
from slurm_gpu_policy.units import parse_duration, parse_memory, parse_money


def _from_text(parse: Any) -> BeforeValidator:
    """Wrap a parser of units; an integer is taken as already converted."""

    def convert(value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if not isinstance(value, str):
            msg = f"{value!r} is not a text with a unit"
            raise ValueError(msg)  # noqa: TRY004 - pydantic collects ValueError, not TypeError
        try:
            return parse(value)
        except RequestError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(convert)


Duration = Annotated[int, _from_text(parse_duration), Field(json_schema_extra={"unit": "duration"})]
Memory = Annotated[int, _from_text(parse_memory), Field(json_schema_extra={"unit": "memory"})]
Price = Annotated[int, _from_text(parse_money), Field(json_schema_extra={"unit": "money"})]
Factor = Annotated[int, _from_text(parse_money), Field(json_schema_extra={"unit": "factor"})]
"""Millionths, written as a decimal of at most six places: ``0.5``."""
Percent = Annotated[int, Field(ge=0, le=100)]


def _check_address(value: str) -> str:
    if value:
        try:
            parse_address(value)
        except RequestError as error:
            raise ValueError(str(error)) from error
    return value


Address = Annotated[
    str, AfterValidator(_check_address), Field(json_schema_extra={"unit": "address"})
]
"""HOST:PORT; an empty text where the field's description says what that means."""
Version = Annotated[Literal[1], BeforeValidator(lambda value: 1 if value == "1" else value)]
"""The loader hands over texts, and a Literal takes nothing but its own value."""
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Name = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\s,|;=()]+$")]
GpuTypeName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
Points = Annotated[int, Field(ge=0, le=1_000_000_000)]
"""Points of priority, as Slurm counts them (site factor, PriorityWeight...)."""
LowerCase = AfterValidator(lambda named: {name.lower(): value for name, value in named.items()})
"""For mappings by account or QOS: Slurm keeps their names in lower case."""
RuleId = Annotated[str, Field(pattern=r"^[A-Z]-\d{3}$")]
PoolName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^(\*|[A-Za-z0-9_.-]+)$")]


class Strict(BaseModel):
    """A part of the policy file: read-only, and without fields that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
