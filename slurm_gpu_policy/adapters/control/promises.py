"""Implements :class:`slurm_gpu_policy.services.ports.PromisePort` by a request to the books."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurm_gpu_policy.errors import ControllerUnavailable
from slurm_gpu_policy.services.ledger.promising import ask_fields, promise_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from slurm_gpu_policy.model.promise import Ask, Promise


class AskedPromises:
    """*ask* sends a request to the books and returns its answer."""

    def __init__(self, ask: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        self._ask = ask

    def promise(self, asks: Sequence[Ask], *, only_look: bool = False) -> tuple[Promise, ...]:
        """Set aside what all of *asks* may cost, or nothing."""
        request = {
            "request": "promise",
            "asks": [ask_fields(ask) for ask in asks],
            "only_look": only_look,
        }
        answer = self._ask(request)
        try:
            promises = tuple(promise_of(one) for one in answer["promises"])
            if [one.token for one in promises] != [ask.token for ask in asks]:
                raise KeyError("token")  # noqa: EM101, TRY301 - becomes words below
        except (KeyError, TypeError, AttributeError) as error:
            msg = "gpu-policyd answered what nobody can read: is it of the same release?"
            raise ControllerUnavailable(msg) from error
        return promises

    def withdraw(self, tokens: Sequence[str]) -> None:
        """Give back what was set aside for jobs that were not submitted after all."""
        self._ask({"request": "withdraw", "tokens": list(tokens)})
