"""gpu-submit and the books: what is set aside before a job, and what becomes of it."""

from __future__ import annotations

import pytest

from slurm_gpu_policy.adapters.control.promises import AskedPromises
from slurm_gpu_policy.errors import ControllerUnavailable
from slurm_gpu_policy.model.caller import Caller
from slurm_gpu_policy.services.submit import Submit
from slurm_gpu_policy.units import MICRO
from tests.builders import make_request
from tests.unit.services.ledger.test_promising import Site
from tests.unit.services.test_submit import PlainRenderer

HOUR = 3600


class Desk:
    """gpu-submit of u1 at a site with books."""

    def __init__(self, **fields):
        self.site = Site(enforcement="enforce", **fields)
        self.fund = self.site.fund(100 * MICRO)
        self.asked = []
        self.away = False
        numbers = iter(range(1, 1000))
        self.use = Submit(
            slurm=self.site.slurm,
            renderer=PlainRenderer(),
            policy=self.site.policy,
            clock=self.site.clock,
            new_token=lambda: f"t{next(numbers)}",
            promises=AskedPromises(self.answer),
        )

    def answer(self, request):
        self.asked.append(request["request"])
        if self.away:
            msg = "gpu-policyd cannot be reached"
            raise ControllerUnavailable(msg)
        caller = Caller(6001, "u1")
        handle = getattr(self.site.promising, request["request"])
        return handle(caller, request)

    def plan(self, *, only_look=False, **fields):
        request = make_request(account="nlp-pretrain", **fields)
        (decision,) = self.use.decide_all([request])
        prepared = [(self.use.prepare(request, decision), decision)]
        (judged,) = self.use.set_aside([request], prepared, only_look=only_look)
        return prepared[0][0], judged

    @property
    def available(self):
        return self.site.available(self.fund)


@pytest.fixture
def desk():
    return Desk()


def test_a_job_that_is_covered_is_admitted_and_its_cost_set_aside(desk):
    _, decision = desk.plan(gpus=4, time_seconds=10 * HOUR)
    assert decision.kind == "admit"
    assert desk.available == 60 * MICRO
    assert decision.reasons[-1].limit == "60.00 credits"


def test_a_job_beyond_the_budget_is_refused_with_what_would_pass(desk):
    _, decision = desk.plan(gpus=8, time_seconds=100 * HOUR)
    assert decision.kind == "refuse"
    (reason,) = decision.reasons
    assert reason.rule == "B-001"
    assert "--time=12:30:00 at most" in reason.remedy
    assert desk.available == 100 * MICRO


def test_looking_sets_nothing_aside(desk):
    _, decision = desk.plan(only_look=True, gpus=4, time_seconds=10 * HOUR)
    assert decision.kind == "admit"
    assert desk.available == 100 * MICRO


def test_what_was_set_aside_for_a_job_that_slurm_refused_is_given_back(desk):
    submission, _ = desk.plan(gpus=4, time_seconds=10 * HOUR)
    desk.use.withdraw([submission])
    assert desk.available == 100 * MICRO


def test_nobody_is_asked_where_nothing_is_to_be_given_back(desk):
    desk.use.withdraw([])
    assert desk.asked == []


def test_a_withdrawal_that_does_not_arrive_is_no_error(desk):
    submission, _ = desk.plan(gpus=4, time_seconds=10 * HOUR)
    desk.away = True
    desk.use.withdraw([submission])


@pytest.mark.parametrize(("unreachable", "kind"), [("open", "admit"), ("closed", "refuse")])
def test_while_the_books_are_away_the_site_says_whether_jobs_go(unreachable, kind):
    desk = Desk(ledger={"unreachable": unreachable})
    desk.away = True
    _, decision = desk.plan(gpus=1, time_seconds=HOUR)
    assert decision.kind == kind
    assert decision.reasons[0].rule == "B-001"


@pytest.mark.parametrize(
    "answer",
    [{}, {"promises": []}, {"promises": [{"token": "t1"}]}, {"promises": [1]}, {"promises": None},
     {"promises": [{"token": "other", "covered": True, "purses": []}]}],
)  # fmt: skip
def test_an_answer_that_nobody_can_read_counts_as_none(desk, answer):
    desk.use._promises = AskedPromises(lambda _: answer)
    _, decision = desk.plan(gpus=1, time_seconds=HOUR)
    assert "cannot be found out" in decision.reasons[0].message
