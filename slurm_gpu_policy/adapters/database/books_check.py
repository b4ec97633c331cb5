"""Adds the ledger up anew, and says in words what does not agree.

Each question goes through a table once and returns only what is wrong, so that a million entries
take seconds and no memory. Sums are made in two halves of 32 bits, which cannot overflow.
"""

# ruff: noqa: S608 - the texts put together here are all our own

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from slurm_gpu_policy.adapters.database.books_balance import REFUNDS
from slurm_gpu_policy.adapters.database.books_sums import Sums, halves_of, whole
from slurm_gpu_policy.model.ledger import MOVES
from slurm_gpu_policy.policy import rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sqlalchemy import Row
    from sqlalchemy.engine import Connection

_MOVES: Final = {str(kind): moves for kind, moves in MOVES.items()}
_SHOWN = 100
"""Of one kind of problem; a table that is lost would fill screens."""


def problems_in(connection: Connection, cluster: str) -> Iterator[str]:
    """Yield what does not agree in the books of a cluster."""
    check = _Check(connection, cluster)
    for found in (
        check.funds(),
        check.site(),
        check.moves(),
        check.orphans(),
        check.legs(),
        check.sequences(),
        check.reservations(),
        check.ended_claims(),
        check.cluster_charges(),
        check.costs(),
        check.refunds(),
        check.policy_grants(),
    ):
        yield from _first(found)


def _first(found: Iterator[str]) -> Iterator[str]:
    yield from islice(found, _SHOWN)
    more = sum(1 for _ in found)
    if more:
        yield f"and {more} more of that kind"


class _Check:
    def __init__(self, connection: Connection, cluster: str) -> None:
        self._connection = connection
        self._cluster = cluster
        self._funds = {
            row.fund_id: row
            for row in self._rows("SELECT * FROM funds WHERE cluster = :cluster ORDER BY fund_id")
        }
        self._sums = Sums(
            self._rows(
                f"SELECT fund_id, kind, source, target, count(*), {halves_of('amount')} "
                "FROM entries WHERE cluster = :cluster GROUP BY fund_id, kind, source, target "
                "ORDER BY fund_id, kind, source, target"
            )
        )

    def funds(self) -> Iterator[str]:
        """Each fund's balances are the sums of its entries."""
        flying = self._flying()
        for fund_id, fund in self._funds.items():
            found = {bucket: self._sums.bucket(fund_id, bucket) for bucket in _BUCKETS}
            found["in_flight"] = flying.get(fund_id, 0)
            found["entries"] = self._sums.entries(fund_id)
            for name, value in found.items():
                kept = getattr(fund, name)
                if kept != value:
                    yield f"{_fund(fund)}: {name} is kept as {kept}, {_SOURCES[name]} {value}"
            if fund.reserved < 0:
                yield f"{_fund(fund)}: reserved is {fund.reserved}, below zero"

    def site(self) -> Iterator[str]:
        """What came from the site is what all funds have."""
        for unit in ("money", "gpu_seconds"):
            of_unit = [fund for fund in self._funds.values() if fund.unit == unit]
            site = sum(self._sums.bucket(fund.fund_id, "site") for fund in of_unit)
            kept = sum(fund.available + fund.reserved + fund.spent for fund in of_unit)
            if site != -kept:
                yield f"the site gave {-site} ({unit}) by the entries, all funds have {kept}"

    def moves(self) -> Iterator[str]:
        """Entries move what their kind may move, and never less than nothing."""
        for fund_id, kind, source, target, count in self._sums.moves():
            if (source, target) not in _MOVES.get(kind, ()):
                yield f"fund {fund_id}: {count} entries {kind} move from {source} to {target}"
        rows = self._rows(
            "SELECT entry_id, fund_id, amount FROM entries "
            "WHERE cluster = :cluster AND amount < 0 ORDER BY entry_id"
        )
        for row in rows:
            yield f"entry {row.entry_id} on fund {row.fund_id}: its amount is {row.amount}"

    def orphans(self) -> Iterator[str]:
        """Entries and legs belong to funds and claims that there are, of one cluster."""
        for fund_id in self._sums.fund_ids() - self._funds.keys():
            yield f"fund {fund_id}: it has entries and does not exist"
        rows = self._rows(
            "SELECT entries.entry_id, entries.claim_id FROM entries LEFT JOIN claims "
            "ON claims.claim_id = entries.claim_id AND claims.cluster = entries.cluster "
            "WHERE entries.cluster = :cluster AND entries.claim_id IS NOT NULL "
            "AND claims.claim_id IS NULL ORDER BY entries.entry_id"
        )
        for row in rows:
            yield f"entry {row.entry_id}: claim {row.claim_id} does not exist"
        rows = self._rows(
            "SELECT legs.claim_id, legs.fund_id FROM funds "
            "JOIN legs ON legs.fund_id = funds.fund_id "
            "LEFT JOIN claims "
            "ON claims.claim_id = legs.claim_id AND claims.cluster = funds.cluster "
            "WHERE funds.cluster = :cluster AND claims.claim_id IS NULL ORDER BY 1, 2"
        )
        for row in rows:
            yield f"claim {row.claim_id} has a part of fund {row.fund_id} and does not exist"
        rows = self._rows(
            "SELECT claims.*, legs.fund_id FROM claims JOIN legs "
            "ON legs.claim_id = claims.claim_id LEFT JOIN funds ON funds.fund_id = legs.fund_id "
            "AND funds.cluster = claims.cluster "
            "WHERE claims.cluster = :cluster AND funds.fund_id IS NULL ORDER BY claims.claim_id"
        )
        for row in rows:
            yield f"{_claim(row)} has a part of fund {row.fund_id}, which does not exist"

    def legs(self) -> Iterator[str]:
        """What each claim has of each fund is the sum of its entries."""
        sums = ", ".join(
            f"sum(({_LEGS[name]}) {halved} 4294967296) AS {name}_{half}"
            for name in _LEGS
            for half, halved in (("high", "/"), ("low", "%"))
        )
        differs = " OR ".join(
            f"coalesce(legs.{name}, 0) <> found.{name}_high * 4294967296 + found.{name}_low"
            for name in _LEGS
        )
        kept = ", ".join(f"coalesce(legs.{name}, 0) AS kept_{name}" for name in _LEGS)
        given = ", ".join(f"found.{name}_high, found.{name}_low" for name in _LEGS)
        rows = self._rows(
            f"SELECT claims.*, found.fund_id, {kept}, {given} "
            f"FROM (SELECT claim_id, fund_id, {sums} FROM entries WHERE cluster = :cluster "
            "AND claim_id IS NOT NULL GROUP BY claim_id, fund_id) AS found "
            "LEFT JOIN legs ON legs.claim_id = found.claim_id AND legs.fund_id = found.fund_id "
            "JOIN claims ON claims.claim_id = found.claim_id "
            f"WHERE legs.claim_id IS NULL OR {differs} ORDER BY found.claim_id, found.fund_id"
        )
        for row in rows:
            for name in _LEGS:
                stood = getattr(row, f"kept_{name}")
                value = whole(getattr(row, f"{name}_high"), getattr(row, f"{name}_low"))
                if stood != value:
                    yield (
                        f"{_claim(row)}, fund {row.fund_id}: {name} is kept as {stood}, "
                        f"its entries sum to {value}"
                    )
        rows = self._rows(
            "SELECT claims.*, legs.fund_id, legs.reserved, legs.charged FROM legs "
            "JOIN claims ON claims.claim_id = legs.claim_id "
            "WHERE claims.cluster = :cluster AND NOT EXISTS (SELECT 1 FROM entries "
            "WHERE entries.claim_id = legs.claim_id AND entries.fund_id = legs.fund_id) "
            "ORDER BY legs.claim_id, legs.fund_id"
        )
        for row in rows:
            yield (
                f"{_claim(row)}, fund {row.fund_id}: {row.reserved} reserved and {row.charged} "
                "charged are kept, and there is no entry"
            )

    def sequences(self) -> Iterator[str]:
        """Entries of one kind on one fund for one claim are numbered 0, 1, ..."""
        rows = self._rows(
            "SELECT claim_id, fund_id, kind, count(*) AS count, min(sequence) AS low, "
            "max(sequence) AS high FROM entries WHERE cluster = :cluster "
            "AND claim_id IS NOT NULL GROUP BY claim_id, fund_id, kind "
            "HAVING min(sequence) <> 0 OR max(sequence) <> count(*) - 1 "
            "ORDER BY claim_id, fund_id, kind"
        )
        for row in rows:
            yield (
                f"claim {row.claim_id}, fund {row.fund_id}: {row.count} entries {row.kind} "
                f"are numbered from {row.low} to {row.high}"
            )

    def reservations(self) -> Iterator[str]:
        """No claim has a negative reservation, and an ended one has none."""
        rows = self._rows(
            "SELECT claims.*, legs.fund_id, legs.reserved FROM legs "
            "JOIN claims ON claims.claim_id = legs.claim_id WHERE claims.cluster = :cluster "
            "AND (legs.reserved < 0 OR (legs.reserved > 0 AND claims.state = 'ended')) "
            "ORDER BY legs.claim_id, legs.fund_id"
        )
        for row in rows:
            what = "below zero" if row.reserved < 0 else "and it has ended"
            yield f"{_claim(row)}: {row.reserved} of fund {row.fund_id} is reserved, {what}"

    def ended_claims(self) -> Iterator[str]:
        """Every ended run that started is settled, and nothing else is."""
        rows = self._rows(
            "SELECT * FROM claims WHERE cluster = :cluster AND state = 'ended' "
            "AND start_time IS NOT NULL AND NOT settled ORDER BY claim_id"
        )
        for row in rows:
            yield f"{_claim(row)} ended ({row.end_state}) and is not settled"

    def cluster_charges(self) -> Iterator[str]:
        """A settled run is charged on each of the cluster's funds that it ran in, and no other."""
        rows = self._rows(
            f"{_OWN} SELECT claims.*, own.fund_id FROM claims JOIN own ON {_RAN_IN} "
            "LEFT JOIN entries ON entries.claim_id = claims.claim_id "
            "AND entries.fund_id = own.fund_id AND entries.kind = 'charge' "
            f"AND entries.sequence = 0 WHERE {_SETTLED} AND claims.seconds > 0 "
            "AND entries.claim_id IS NULL ORDER BY claims.claim_id, own.fund_id"
        )
        for row in rows:
            yield (
                f"{_claim(row)} ran in the period of fund {row.fund_id}, of the cluster, "
                "and is not charged there"
            )
        rows = self._rows(
            f"{_OWN} SELECT claims.*, own.fund_id FROM claims "
            "JOIN legs ON legs.claim_id = claims.claim_id "
            f"JOIN own ON own.fund_id = legs.fund_id WHERE {_SETTLED} AND NOT {_RAN_IN} "
            "AND (legs.charged <> 0 OR legs.gpu_seconds <> 0) "
            "ORDER BY claims.claim_id, own.fund_id"
        )
        for row in rows:
            yield (
                f"{_claim(row)} did not run in the period of fund {row.fund_id}, of the cluster, "
                "and is charged there"
            )
        rows = self._rows(
            f"{_OWN} SELECT * FROM claims WHERE {_SETTLED} AND claims.seconds > 0 "
            f"AND NOT EXISTS (SELECT 1 FROM own WHERE {_RAN_IN}) ORDER BY claim_id"
        )
        for row in rows:
            yield f"{_claim(row)} is settled, and the cluster has no fund for when it ran"

    def costs(self) -> Iterator[str]:
        """What a settled run is known to have cost is what the cluster's funds were charged."""
        charged, gpu_seconds = (
            f"coalesce(sum(legs.{name} / 4294967296) * 4294967296 "
            f"+ sum(legs.{name} % 4294967296), 0)"
            for name in ("charged", "gpu_seconds")
        )
        rows = self._rows(
            f"{_OWN} SELECT claims.*, {charged} AS charged, {gpu_seconds} AS gpu_seconds "
            "FROM claims LEFT JOIN legs ON legs.claim_id = claims.claim_id "
            f"AND legs.fund_id IN (SELECT fund_id FROM own) WHERE {_SETTLED} "
            "AND claims.accrued_until IS NOT NULL GROUP BY claims.claim_id "
            f"HAVING {charged} <> claims.accrued_micros "
            f"OR {gpu_seconds} <> claims.accrued_gpu_seconds ORDER BY claims.claim_id"
        )
        for row in rows:
            yield (
                f"{_claim(row)} cost {row.accrued_micros} micro-units and "
                f"{row.accrued_gpu_seconds} GPU-seconds, and the cluster's funds were charged "
                f"{row.charged} and {row.gpu_seconds}"
            )

    def refunds(self) -> Iterator[str]:
        """Of no settled run is more given back than was charged."""
        rows = self._rows(
            "SELECT claims.*, legs.fund_id, legs.charged, legs.refunded FROM legs "
            f"JOIN claims ON claims.claim_id = legs.claim_id WHERE {_SETTLED} "
            "AND legs.refunded > legs.charged ORDER BY legs.claim_id, legs.fund_id"
        )
        for row in rows:
            yield (
                f"{_claim(row)}: {row.refunded} is given back on fund {row.fund_id}, "
                f"of {row.charged} charged"
            )

    def policy_grants(self) -> Iterator[str]:
        """What a budget was granted by the policy file is kept beside, so that it is once.

        Closing a budget by hand passes it on to the fund that takes its place.
        """
        kept: dict[tuple[str, str, str], int] = {}
        marks = "SELECT name, value FROM marks WHERE cluster = :cluster AND name LIKE 'policy:%'"
        for name, value in self._rows(marks):
            number = name.partition(":")[2]
            fund = self._funds.get(int(number)) if number.isdecimal() else None
            if fund is None:
                yield f"{value} is kept as granted under {name!r}, and there is no such fund"
                continue
            kept[_budget(fund)] = kept.get(_budget(fund), 0) + value
        found = dict.fromkeys(kept, 0)
        rows = self._rows(
            f"SELECT fund_id, source, {halves_of('amount')} FROM entries WHERE cluster = :cluster "
            f"AND rule = '{rules.BUDGET_PERIOD}' AND kind IN ('grant', 'adjust') AND batch = '' "
            "GROUP BY fund_id, source"
        )
        for fund_id, source, high, low in rows:
            fund = self._funds.get(fund_id)
            if fund is not None and _budget(fund) in found:
                found[_budget(fund)] += whole(high, low) * (1 if source == "site" else -1)
        for budget, value in kept.items():
            if found[budget] != value:
                whose = " of ".join(repr(part) for part in budget if part)
                yield (
                    f"budget {whose}: {value} is kept as granted by the policy file, "
                    f"its entries sum to {found[budget]}"
                )

    def _flying(self) -> dict[int, int]:
        rows = self._rows(
            f"SELECT legs.fund_id, {halves_of('legs.reserved')} FROM claims JOIN legs "
            "ON legs.claim_id = claims.claim_id WHERE claims.cluster = :cluster "
            "AND claims.state <> 'ended' AND claims.state = 'running' GROUP BY legs.fund_id"
        )
        return {fund_id: whole(high, low) for fund_id, high, low in rows}

    def _rows(self, question: str) -> Iterable[Any]:
        return self._connection.execute(text(question), {"cluster": self._cluster})


_BUCKETS: Final = ("available", "reserved", "spent")
_SOURCES: Final[Mapping[str, str]] = {
    **dict.fromkeys(_BUCKETS, "its entries sum to"),
    "in_flight": "its running claims have",
    "entries": "it has",
}

_CORRECTS: Final = f"source = 'spent' AND rule = '{rules.BUDGET_CORRECTION}'"
_TAKES_BACK: Final = (
    f"source = 'available' AND target = 'spent' AND rule IN {tuple(map(str, REFUNDS))}"
)
_LEGS: Final[Mapping[str, str]] = {
    "reserved": "CASE WHEN target = 'reserved' THEN amount "
    "WHEN source = 'reserved' THEN -amount ELSE 0 END",
    "charged": f"CASE WHEN {_TAKES_BACK} THEN 0 WHEN target = 'spent' THEN amount "
    f"WHEN {_CORRECTS} THEN -amount ELSE 0 END",
    "refunded": f"CASE WHEN {_TAKES_BACK} THEN -amount WHEN {_CORRECTS} THEN 0 "
    "WHEN source = 'spent' THEN amount ELSE 0 END",
    "gpu_seconds": f"CASE WHEN {_TAKES_BACK} THEN 0 WHEN target = 'spent' THEN gpu_seconds "
    f"WHEN {_CORRECTS} THEN -gpu_seconds ELSE 0 END",
}
"""What a leg is made of, in an entry's words."""

_OWN: Final = (
    # DISTINCT has SQLite look these few up once, and not for each claim.
    "WITH own AS (SELECT DISTINCT fund_id, begins, ends FROM funds "
    "WHERE cluster = :cluster AND account = '' AND user_name = '')"
)
_RAN_IN: Final = (
    "(own.begins < claims.start_time + claims.seconds "
    "AND (own.ends IS NULL OR own.ends > claims.start_time))"
)
_SETTLED: Final = (
    "claims.cluster = :cluster AND claims.state = 'ended' AND claims.settled "
    "AND claims.start_time IS NOT NULL"
)


def _budget(fund: Row[Any]) -> tuple[str, str, str]:
    return fund.budget, fund.account, fund.user_name


def _fund(fund: Row[Any]) -> str:
    of = f"account {fund.account!r}" if fund.account else "the cluster"
    user = f", user {fund.user_name!r}" if fund.user_name else ""
    name = f"budget {fund.budget!r} of {of}{user}" if fund.budget else of
    return f"fund {fund.fund_id} ({name}, from {fund.begins})"


def _claim(claim: Row[Any]) -> str:
    if claim.job_id is None:
        return f"claim {claim.claim_id} (promise {claim.token!r})"
    return f"claim {claim.claim_id} (job {claim.job_id}, submitted {claim.submit_time})"
