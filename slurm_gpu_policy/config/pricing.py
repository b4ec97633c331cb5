"""What jobs cost: the part ``pricing`` of the policy file."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field

from slurm_gpu_policy.config.fields import Factor, GpuTypeName, Name, Percent, Price, Strict

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_SECONDS = 86400


def _time_of_day(value: object) -> object:
    """Return the seconds of the day in ``20:00``; an integer is taken as already converted."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        hours, minutes = (int(part) for part in str(value).split(":"))
    except ValueError:
        hours, minutes = -1, 0
    seconds = (hours * 60 + minutes) * 60
    if not (0 <= minutes < 60 and 0 <= seconds <= _DAY_SECONDS):  # noqa: PLR2004 - minutes
        msg = f"{value!r} is no time of day: write it as 08:00 or 20:30, at most 24:00"
        raise ValueError(msg)
    return seconds


def _date_time(value: object) -> object:
    """Return *value* as ``2030-01-31T08:00``, without a zone: the zone is the part's own."""
    try:
        when = datetime.fromisoformat(str(value))
    except ValueError:
        when = None
    if when is None or when.tzinfo is not None:
        msg = f"{value!r} is no date: write it as 2030-01-31 or 2030-01-31T08:00, without a zone"
        raise ValueError(msg)
    return when.isoformat(timespec="minutes")


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        msg = f"{value!r} is no time zone: write it as Europe/Berlin or UTC"
        raise ValueError(msg) from error
    return value


TimeOfDay = Annotated[
    int, BeforeValidator(_time_of_day), Field(json_schema_extra={"unit": "time of day"})
]
"""Seconds since midnight, by the clock on the wall."""
DateTime = Annotated[str, BeforeValidator(_date_time), Field(json_schema_extra={"unit": "date"})]
"""A date and time by the clock on the wall, as ``2030-01-31T08:00``."""
TimeZone = Annotated[str, AfterValidator(_zone), Field(json_schema_extra={"unit": "time zone"})]


class Hours(Strict):
    """A time of the week with its own factor."""

    days: tuple[Day, ...] = Field(
        default=DAYS, min_length=1, description="Days on which it begins; all if left out."
    )
    start: TimeOfDay = Field(default=0, description="When it begins, such as `20:00`.")
    end: TimeOfDay = Field(
        default=_DAY_SECONDS,
        description="When it ends; on the next day where that is not after the start.",
    )
    factor: Factor = Field(description="What prices are multiplied by, such as `0.5`.")


class PriceSet(Strict):
    """Prices and factors; what is left out is as before."""

    gpu_types: dict[GpuTypeName, Price] = Field(
        default_factory=dict,
        description="Price of one GPU for an hour by type, where it is another than "
        "`gpu_types.*.price_per_hour`.",
    )
    cpu_hour: Price | None = Field(default=None, description="Price of one CPU for an hour.")
    memory_hour: Price | None = Field(
        default=None, description="Price of one GiB of memory for an hour."
    )
    qos: dict[Name, Factor] = Field(
        default_factory=dict, description="Factor by QOS, such as `low: 0.5`."
    )
    partitions: dict[Name, Factor] = Field(default_factory=dict, description="Factor by partition.")
    hours: tuple[Hours, ...] | None = Field(
        default=None,
        description="Times of the week with a factor of their own; the first that fits counts.",
    )


class PriceChange(PriceSet):
    """Prices from a date on."""

    since: DateTime = Field(description="From when it holds, such as `2030-01-01`.")


class Refunds(Strict):
    """How much of a run's cost its user gets back by itself."""

    node_failure: Percent = Field(
        default=100, description="Where a node failed under it (NODE_FAIL, BOOT_FAIL; C-406)."
    )
    preemption: Percent = Field(default=0, description="Where it was preempted (C-407).")


class Pricing(PriceSet):
    """What jobs cost (rules C-4xx), beside the prices in `gpu_types`.

    A change of this file counts from when `gpu-policyd` reads it, never for what ran before: the
    controller keeps every price list with the time from which it was in force.
    """

    timezone: TimeZone = Field(
        default="UTC", description="Time zone of `hours`, of dates, and of budgets' periods."
    )
    minimum_charge: Price = Field(
        default=0,
        description="Least that a run costs which is not free, however short (rule C-405).",
    )
    refunds: Refunds = Field(default=Refunds(), description="What is given back by rule.")
    idle_surcharge: Percent = Field(
        default=0,
        description="Surcharge on GPU time that the sidecar found idle, in percent of its price "
        "(rule C-408); nothing is charged more until a sidecar says so.",
    )
    changes: tuple[PriceChange, ...] = Field(
        default=(), description="Price changes by date, also in the future."
    )
