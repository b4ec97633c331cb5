"""Giving back what a run cost, or a part of it, by hand (rule C-411)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from slurm_gpu_policy.errors import NotAllowed, PolicyLayerError, RequestError
from slurm_gpu_policy.model.ids import JobId
from slurm_gpu_policy.model.ledger import Posting
from slurm_gpu_policy.policy import rules
from slurm_gpu_policy.policy.ledger.affording import amount_words
from slurm_gpu_policy.policy.ledger.budget import is_present
from slurm_gpu_policy.policy.ledger.refunds import everything_left, paid, refund_parts
from slurm_gpu_policy.services.explain import parse_job_id
from slurm_gpu_policy.services.ledger import asked as fields
from slurm_gpu_policy.services.ledger.entries import written_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from slurm_gpu_policy.config.schema import Policy
    from slurm_gpu_policy.model.caller import Caller
    from slurm_gpu_policy.model.ledger import Bucket, Claim, Fund, Leg
    from slurm_gpu_policy.services.ledger.books import Books
    from slurm_gpu_policy.services.ledger.membership import Membership
    from slurm_gpu_policy.services.ledger.writing import Writing
    from slurm_gpu_policy.services.ports import AccountPort

_WHOLE: Final = 100
_MOST_RESTARTS: Final = 1_000_000


class Refunding:
    """Answers ``refund``: for operators, and who coordinates the account or one above it.

    What a run cost goes back to the funds that paid for it; by a coordinator, to those of the
    accounts that are theirs to manage only, and never what their own jobs cost: else the charge on
    an account above, and on the site's own books, would be theirs to undo.
    """

    def __init__(
        self,
        writing: Writing,
        membership: Membership,
        accounting: AccountPort,
        policy: Callable[[], Policy],
    ) -> None:
        self._writing = writing
        self._membership = membership
        self._accounting = accounting
        self._policy = policy

    def refund(self, caller: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Give back an ``amount`` (in ``unit``), ``percent`` of a run's cost, or all that is left.

        Raises:
            NotAllowed: the caller may not, or does not manage such a run.
            RequestError: the books do not have it, it still runs, it has several runs, or more is
                asked than was charged.
        """
        rights = self._membership.rights(caller, self._policy())
        job = fields.needed("job", fields.name(asked, "job"))
        if not (rights.operates or rights.coordinated):
            raise _refused(caller, job)
        job_ids = self._job_ids(job)
        restart = fields.number(asked, "restart", 0, _MOST_RESTARTS)
        why = fields.reason(asked)
        currency = self._policy().currency

        def decide(books: Books, batch: str, now: int) -> tuple[Posting, ...]:
            runs = [
                claim
                for job_id in job_ids
                for claim in books.claims_of(job_id)
                if rights.manages(claim.account)
            ]
            if not runs:
                raise _refused(caller, job, operates=rights.operates)
            run = _one_of(runs, restart)
            if run.user == caller.user and not rights.operates:
                msg = f"job {job} is {caller.user}'s own: somebody else must refund it"
                raise NotAllowed(msg)
            funds = {fund.fund_id: fund for fund in books.funds()}
            legs = [
                leg
                for leg in run.legs
                if rights.operates or rights.manages(funds[leg.fund_id].account)
            ]
            parts = _parts(run, legs, funds, asked, currency)
            return tuple(_postings(run, funds, parts, now, (caller.user, why, batch)))

        return written_json(self._writing.once(caller, asked, decide))

    def _job_ids(self, job: str) -> tuple[JobId, ...]:
        """Return the numbers Slurm gave a job, which of an array's task only the accounting has."""
        if job.isascii() and job.isdecimal():
            return (JobId(int(job)),)
        parse_job_id(job)
        found = self._accounting.accounting(job_ids=[job])
        return tuple(dict.fromkeys(record.job_id for record in found))


def _refused(caller: Caller, job: str, *, operates: bool = False) -> PolicyLayerError:
    if operates:
        return RequestError(f"the books have no job {job!r}")
    return NotAllowed(
        f"{caller.user} may refund no job {job!r}: operators may, and coordinators of its account "
        "(or of one above), if the books have it"
    )


def _one_of(runs: Sequence[Claim], restart: int | None) -> Claim:
    """Return the run that is meant, if it has ended and is settled."""
    ended = [run for run in runs if run.settled and run.start_time is not None]
    if not ended:
        msg = "it has no run that has ended and is charged: nothing can be given back yet"
        raise RequestError(msg)
    if restart is not None:
        ended = [run for run in ended if run.restart == restart]
        if not ended:
            msg = f"it has no run that was restart {restart} and has ended"
            raise RequestError(msg)
    if len(ended) > 1:
        each = ", ".join(f"{run.restart} ({run.end_state or 'ended'})" for run in ended)
        msg = f"it has {len(ended)} runs; say which one by its restart count: {each}"
        raise RequestError(msg)
    return ended[0]


def _parts(
    run: Claim,
    legs: Sequence[Leg],
    funds: Mapping[int, Fund],
    asked: Mapping[str, Any],
    currency: str,
) -> dict[int, int]:
    """Return by fund what is to be given back of these legs."""
    micros, before, gpu_seconds = paid(run, funds)
    percent = fields.number(asked, "percent", 1, _WHOLE)
    if percent is None and asked.get("amount") is None:
        parts = everything_left(legs)
    else:
        numerator, denominator = percent or 0, _WHOLE
        if percent is None:
            numerator = fields.amount(asked)
            denominator = micros if fields.unit(asked) == "money" else gpu_seconds
        if numerator < 0 or not denominator:
            msg = "nothing of that kind was charged" if numerator >= 0 else "amount: less than 0"
            raise RequestError(msg)
        try:
            parts = refund_parts(legs, funds, numerator, denominator)
        except ValueError as error:
            cost = amount_words(micros, "money", currency)
            back = amount_words(before, "money", currency)
            msg = f"it was charged {cost}, of which {back} was given back: no more than the rest"
            raise RequestError(msg) from error
    if not parts:
        msg = "there is nothing left of its cost that could be given back"
        raise RequestError(msg)
    return parts


def _postings(
    run: Claim,
    funds: Mapping[int, Fund],
    parts: Mapping[int, int],
    now: int,
    why: tuple[str, str, str],
) -> Iterator[Posting]:
    actor, reason, batch = why

    def entry(fund: Fund, move: tuple[Bucket, Bucket], amount: int, *, moves: bool) -> Posting:
        return Posting(
            "transfer" if moves else "refund",
            fund.fund_id,
            *move,
            amount,
            rules.REFUND_BY_HAND,
            actor,
            reason,
            claim_id=None if moves else run.claim_id,
            batch=batch,
        )

    for fund_id, amount in parts.items():
        fund = funds[fund_id]
        yield entry(fund, ("spent", "available"), amount, moves=False)
        later = _later(fund, funds, now)
        if later is not None:
            yield entry(fund, ("available", "site"), amount, moves=True)
            yield entry(later, ("site", "available"), amount, moves=True)


def _later(fund: Fund, funds: Mapping[int, Fund], now: int) -> Fund | None:
    """Return where what a fund of an earlier period gets back can be spent: its budget's now."""
    if fund.unlimited or not (fund.closed or (fund.end is not None and fund.end <= now)):
        return None
    return next(
        (
            one
            for one in funds.values()
            if (one.budget, one.level, one.unit) == (fund.budget, fund.level, fund.unit)
            and is_present(one, now)
        ),
        None,
    )
