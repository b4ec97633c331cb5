"""Which ways there are to run a request: what each costs, and when Slurm would start it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slurm_gpu_policy.errors import Refused, SlurmRefused
from slurm_gpu_policy.model.record import record
from slurm_gpu_policy.policy.prices.optimizing import (
    Choice,
    cheapest,
    in_order,
    later,
    soonest,
    variants,
    with_start,
)
from slurm_gpu_policy.policy.prices.pricing import price_book

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.request import Request
    from slurm_gpu_policy.services.ports import SlurmPort
    from slurm_gpu_policy.services.submit import Submit

MOST_CHOICES: Final = 40
"""Each is a question to Slurm, a few hundredths of a second."""


@record
class Options:
    """The choices, cheapest first, and which of them is the cheapest and which the soonest."""

    choices: tuple[Choice, ...]
    cheapest: Choice | None
    soonest: Choice | None
    left_out: int = 0
    """Choices that Slurm was not asked about, because there were too many."""


class Optimize:
    """The use case of ``gpu-policy optimize``; queues nothing."""

    def __init__(self, *, submit: Submit, slurm: SlurmPort, policy: Policy) -> None:
        self._submit = submit
        self._slurm = slurm
        self._policy = policy

    def options(self, request: Request, *, least_gpus: int | None = None) -> Options:
        """Return in what ways *request* can run, all by one reading of Slurm.

        *least_gpus* says how few GPUs would do; left out, it is what the request asks for.

        Raises:
            Refused: no way passes; with the reasons against the request as it stands.
            SlurmUnavailable: as :meth:`Submit.read`.
        """
        request = self._submit.expand(request)
        snapshot = self._submit.read([request])
        policy = self._policy
        name = snapshot.config.name if snapshot.config else ""
        cluster = policy.clusters.get(name, policy.cluster_defaults)
        book = price_book(policy)
        admitted: list[Choice] = []
        for one in variants(request, snapshot, policy, cluster, least_gpus=least_gpus):
            decision = self._submit.decide(one, snapshot)
            if decision.kind != "refuse":
                admitted.append(Choice(one, decision))
        if not admitted:
            raise Refused(self._submit.decide(request, snapshot))
        waiting = (later(one, book, snapshot.time) for one in admitted)
        found = [*admitted, *(one for one in waiting if one is not None)]
        asked = [
            with_start(one, start, book, snapshot.time)
            for one, start in self._starts(found[:MOST_CHOICES])
        ]
        return Options(
            in_order(asked),
            cheapest(asked),
            soonest(asked),
            left_out=len(found) - len(asked),
        )

    def _starts(self, choices: list[Choice]) -> Iterator[tuple[Choice, int | None]]:
        """Yield each choice with Slurm's own estimate; what Slurm itself refuses is left out."""
        for one in choices:
            if one.decision.kind == "hold":
                yield one, None
                continue
            submission = self._submit.prepare(one.request, one.decision)
            try:
                yield one, self._slurm.would_start(submission)
            except SlurmRefused:
                continue
