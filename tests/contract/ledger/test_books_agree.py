"""Whatever is asked of the books, in whatever order: the fake and a database answer alike."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import replace

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from slurm_gpu_policy.adapters.database.connection import Database
from slurm_gpu_policy.adapters.database.ledger import DatabaseLedger
from slurm_gpu_policy.adapters.database.upgrade import upgrade
from slurm_gpu_policy.model.ledger import MOVES
from slurm_gpu_policy.model.prices import Cost, Prices, Tariff
from tests.contract.ledger.scenes import NOW, everything, fund, posting, promise, run
from tests.fakes.books import FakeLedger

small = st.integers(0, 4)
states = st.sampled_from(["promised", "pending", "running", "ended"])
moves = st.sampled_from(sorted((kind, *move) for kind in MOVES for move in MOVES[kind]))
rules = st.sampled_from(["B-011", "C-406", "C-411", "B-003"])
amounts = st.one_of(st.integers(-1, 20), st.sampled_from([2**62, 2**63]))
postings = st.builds(
    lambda move, fund_id, amount, claim_id, named, seconds: posting(
        move[0], fund_id, amount, move=move[1:], claim=claim_id, rule=named, gpu_seconds=seconds
    ),
    moves,
    st.integers(1, 5),
    amounts,
    st.one_of(st.none(), st.integers(1, 6)),
    rules,
    st.integers(0, 3),
)
funds = st.builds(
    lambda number, unit, start, closed: fund(
        f"b{number}", f"a{number % 2}", unit=unit, start=start, closed=closed
    ),
    small,
    st.sampled_from(["money", "gpu_seconds"]),
    st.integers(0, 1),
    st.booleans(),
)
claims = st.one_of(
    st.builds(
        lambda job, submit, state, token, start, length: run(
            job + 1,
            NOW + submit,
            state=state,
            token=token,
            start_time=start,
            end_time=None if start is None or state != "ended" else start + length,
            seconds=length,
        ),
        small,
        st.integers(0, 1),
        states,
        st.sampled_from(["", "t1"]),
        st.one_of(st.none(), st.integers(NOW, NOW + 5)),
        small,
    ),
    st.builds(lambda number, state: promise(f"t{number}", state=state), small, states),
)


class Agreement(RuleBasedStateMachine):
    """Each rule does one thing in a block of its own, on both."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="books")
        database = Database(f"sqlite:///{self.folder.name}/records.db")
        upgrade(database)
        self.both = (FakeLedger(), DatabaseLedger(database, "cluster"))

    def teardown(self) -> None:
        self.folder.cleanup()

    def on_both(self, work):
        """Do it on both and compare what came of it: an answer, or a refusal of the block."""
        answers = []
        for ledger in self.both:
            answer = "refused"
            with suppress(ValueError), ledger.writing() as books:
                answer = work(books)
            answers.append(answer)
        assert answers[0] == answers[1]
        return answers[0]

    @rule(given=st.lists(funds, max_size=3))
    def open_funds(self, given):
        self.on_both(lambda books: books.open_funds(given))

    @rule(which=st.integers(1, 5), number=small, closed=st.booleans())
    def change_funds(self, which, number, closed):
        changed = replace(fund(), fund_id=which, position=number, soft=number, closed=closed)
        self.on_both(lambda books: books.change_funds([changed]))

    @rule(given=st.lists(claims, max_size=4))
    def save_new(self, given):
        self.on_both(lambda books: books.save(given))

    @rule(which=st.integers(0, 5), state=states, cost=small, other=claims, become=st.booleans())
    def save_changed(self, which, state, cost, other, become):
        def work(books):
            known = [*books.claims_between(0, 2**60), *books.open_claims()]
            if not known:
                return ()
            claim = known[which % len(known)]
            changed = replace(claim, state=state, accrued=Cost(cost, cost))
            if become and claim.job_id is None:
                changed = replace(changed, job_id=other.job_id, submit_time=other.submit_time)
            return books.save([changed, other])

        self.on_both(work)

    @rule(given=st.lists(postings, max_size=5), now=st.integers(NOW, NOW + 9))
    def post(self, given, now):
        self.on_both(lambda books: books.post(now, given))

    @rule(
        which=st.integers(1, 5),
        claim=st.integers(1, 6),
        amount=st.integers(0, 9),
        given=st.booleans(),
    )
    def reserve_and_charge(self, which, claim, amount, given):
        def work(books):
            books.post(NOW, [posting("reserve", which, amount, claim=claim)])
            taken = {"claim": claim, "move": ("reserved", "spent")}
            books.post(NOW, [posting("charge", which, amount // 2, **taken)])
            if given:
                raise ValueError
            return books.views([which]), list(books.entries(claim_id=claim))

        self.on_both(work)

    @rule(name=st.sampled_from(["a", "ab", "b%"]), value=st.integers(-2, 2))
    def set_mark(self, name, value):
        self.on_both(lambda books: books.set_mark(name, value))

    @rule(since=st.integers(0, 3), cpu=small)
    def record_tariffs(self, since, cpu):
        tariffs = [Tariff(since, Prices(cpu=cpu, gpus={"h100": cpu}))]
        self.on_both(lambda books: books.record_tariffs(since, tariffs))

    @rule(
        ids=st.one_of(st.none(), st.sets(st.integers(0, 6))),
        claim_id=st.one_of(st.none(), st.integers(1, 6)),
        kinds=st.one_of(st.none(), st.sets(st.sampled_from(sorted(MOVES)))),
        since=st.one_of(st.none(), st.integers(NOW, NOW + 9)),
        after=st.integers(0, 9),
        limit=st.one_of(st.none(), st.integers(0, 9)),
    )
    def read_entries(self, **filters):
        filters["fund_ids"] = filters.pop("ids")
        self.on_both(lambda books: list(books.entries(**filters)))

    @rule(job=small, submit=st.integers(0, 1), start=small, length=small, token=small)
    def read_claims(self, job, submit, start, length, token):
        self.on_both(lambda books: books.claims([(job, NOW + submit), (job + 1, NOW)]))
        self.on_both(lambda books: books.claims_of(job))
        self.on_both(lambda books: list(books.claims_between(NOW + start, NOW + start + length)))
        self.on_both(lambda books: books.promise(f"t{token}"))
        self.on_both(lambda books: books.count_promises("u1"))

    @invariant()
    def they_agree(self):
        fake, stored = map(everything, self.both)
        assert fake == stored

    @invariant()
    def they_find_as_many_things_odd(self):
        fake, stored = (ledger.problems() for ledger in self.both)
        assert bool(fake) == bool(stored), (fake, stored)


TestAgreement = Agreement.TestCase
TestAgreement.settings = settings(
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink one would take minutes
    suppress_health_check=list(HealthCheck),
)
