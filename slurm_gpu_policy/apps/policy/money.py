"""Amounts of the books as people write and read them, and asking for what writes into the books."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.errors import ControllerUnavailable, RequestError
from slurm_gpu_policy.terminal.text import say
from slurm_gpu_policy.units import format_money, parse_gpu_hours, parse_money

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slurm_gpu_policy.config.schema import Policy

GPU_SECONDS: Final = "GPU-seconds"
_HOUR_SECONDS: Final = 3600
AMOUNTS: Final = ("granted", "settled", "in_flight", "committed", "available")
F = TypeVar("F", bound="Callable[..., Any]")


def exact(amount: str, unit: str) -> str:
    """Return an amount for scripts: a decimal of the currency, or whole GPU-seconds."""
    return format_money(int(amount)) if unit == "money" else str(int(amount))


def counted_in(unit: str, currency: str) -> str:
    """Return what such an amount is counted in."""
    return currency if unit == "money" else GPU_SECONDS


def words(amount: str, unit: str, currency: str) -> str:
    """Return an amount for people; less than a GPU-hour to the second."""
    if unit != "money" and abs(int(amount)) < _HOUR_SECONDS:
        return f"{int(amount)} {GPU_SECONDS}"
    from slurm_gpu_policy.policy.ledger.affording import amount_words  # noqa: PLC0415 - 10 ms

    return amount_words(int(amount), "money" if unit == "money" else "gpu_seconds", currency)


def amount_options(does: str) -> Callable[[F], F]:
    """Add the options for an amount of either unit."""

    def add(function: F) -> F:
        for name, metavar, text in (
            ("--gpu-hours", "HOURS", f"GPU-hours to {does}, for budgets of GPU time."),
            ("--amount", "AMOUNT", f"Amount to {does}, in the currency: 1250 or 12.50."),
        ):
            function = click.option(name, metavar=metavar, help=text)(function)
        return function

    return add


def writing_options(function: F) -> F:
    """Add the options of everything that writes."""
    function = click.option(
        "--request-id",
        metavar="ID",
        help="To repeat a request whose answer was lost: the same id writes nothing twice.",
    )(function)
    return click.option(
        "--reason", required=True, metavar="TEXT", help="Why; it stays in the books."
    )(function)


def amount_fields(amount: str | None, gpu_hours: str | None) -> dict[str, str]:
    """Return the fields of a request for the amount that was given.

    Raises:
        RequestError: neither or both were given, or it is no amount.
    """
    if (amount is None) == (gpu_hours is None):
        msg = "give either --amount or --gpu-hours"
        raise RequestError(msg)
    text = (amount if amount is not None else gpu_hours or "").strip()
    sign = "-" if text.startswith("-") else ""
    parse = parse_money if amount is not None else parse_gpu_hours
    unit = "money" if amount is not None else "gpu_seconds"
    return {"amount": f"{sign}{parse(text.removeprefix('-'))}", "unit": unit}


def write(policy: Policy, request: Mapping[str, Any], request_id: str | None) -> dict[str, Any]:
    """Send a request that writes, under an id, and return its answer.

    Raises:
        ControllerUnavailable: with how to repeat it safely.
        PolicyLayerError: as it was answered.
    """
    own_id = request_id or os.urandom(16).hex()
    try:
        return bootstrap.ask_ledger(policy, {**request, "id": own_id})
    except ControllerUnavailable as error:
        msg = f"{error}\nto repeat it safely add: --request-id {own_id}"
        raise ControllerUnavailable(msg) from error


def say_written(answer: Mapping[str, Any], currency: str) -> None:
    """Say what was written, an entry a line; of a repeated request that it had been."""
    if not answer["written"]:
        say("this was done before; nothing was written again:")
    for entry in answer["entries"]:
        amount = words(entry["amount"], entry["unit"], currency)
        whose = f"user {entry['fund_user']} in " if entry["fund_user"] else ""
        account = f"account {entry['fund_account']}" if entry["fund_account"] else "the cluster"
        budget = f" (budget {entry['budget']})" if entry["budget"] else ""
        line = f"{entry['kind']}: {amount}, {entry['from']} -> {entry['to']}, {whose}{account}"
        say(f"{line}{budget}")
