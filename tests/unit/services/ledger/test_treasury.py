"""Who may see which money, and move it; what is written once; what a statement says."""

from __future__ import annotations

import threading

import pytest

from slurm_gpu_policy.errors import (
    ControllerUnavailable,
    NotAllowed,
    RecordsUnavailable,
    RequestError,
    SlurmUnavailable,
)
from slurm_gpu_policy.model.caller import Caller
from slurm_gpu_policy.policy.ledger.allowed import Rights
from slurm_gpu_policy.services.ledger.importing import packed
from tests.builders import DAY, NOW
from tests.unit.services.treasuries import BOSS, MICRO, ROOT, STRANGER, U1, U2, U3, U4, Site

MONTH = "2027-01"  # NOW lies in it


@pytest.fixture
def site():
    made = Site()
    yield made
    made.sound()


def seen(answer):
    return [(one["account"], one["user"]) for one in answer["budgets"]]


# --- budgets --------------------------------------------------------------------------------


def test_my_budgets_are_those_of_my_line_the_highest_account_first(site):
    site.open("nlp")
    site.open("nlp-finetune")
    site.open("nlp-finetune", "u1")
    site.open("nlp-finetune", "u2")
    site.open("vision")
    site.open("vision-seg")
    site.own()
    assert seen(site.ask(U1, "budget")) == [
        ("nlp", ""), ("vision", ""), ("nlp-finetune", ""), ("nlp-finetune", "u1"),
    ]  # fmt: skip
    assert seen(site.ask(U3, "budget")) == [("vision", ""), ("vision-seg", "")]


def test_past_and_future_budgets_are_not_what_is_there_now(site):
    site.open("nlp", start=NOW - 9 * DAY, end=NOW)
    site.open("nlp", start=NOW + DAY, end=None)
    site.open("nlp", start=NOW, end=NOW + 1)
    assert [one["period_end"] for one in site.ask(U1, "budget")["budgets"]] == [NOW + 1]


def test_a_budget_has_exact_amounts_as_texts(site):
    fund, own = site.open("nlp"), site.own()
    site.run(1, [fund, own], cost=12_345_678)
    (one,) = site.ask(U1, "budget")["budgets"]
    assert one["granted"] == "100000000"
    assert (one["settled"], one["available"]) == ("12345678", "87654322")
    assert (one["in_flight"], one["committed"], one["period_end"]) == ("0", "0", NOW + 20 * DAY)


def test_a_user_sees_no_other_account_and_no_other_user(site):
    site.open("vision-seg")
    site.open("nlp-finetune", "u2")
    site.open("nlp-finetune", "u1")
    assert seen(site.ask(U1, "budget", account="nlp-finetune")) == [("nlp-finetune", "u1")]
    for asked in ({"account": "vision-seg"}, {"user": "u2"}, {"all": True}):
        with pytest.raises(NotAllowed):
            site.ask(U1, "budget", **asked)


@pytest.mark.parametrize("name", ["budget", "statement", "forecast"])
def test_an_account_one_may_not_see_is_answered_like_one_that_does_not_exist(site, name):
    site.open("vision-seg")
    words = []
    for account in ("vision-seg", "nosuchone!"):
        with pytest.raises(NotAllowed) as refused:
            site.ask(U2, name, account=account, month=MONTH)
        words.append(str(refused.value).replace(account, "X"))
    assert words[0] == words[1]


@pytest.mark.parametrize("name", ["budget", "statement"])
def test_a_user_one_may_not_see_is_answered_like_one_that_does_not_exist(site, name):
    words = []
    for user in ("u2", "nobody-at-all"):
        with pytest.raises(NotAllowed) as refused:
            site.ask(U3, name, user=user, month=MONTH)
        words.append(str(refused.value).replace(user, "X"))
    assert words[0] == words[1]


def test_a_coordinator_sees_the_account_and_all_below_and_nothing_else(site):
    site.open("nlp")
    site.open("nlp-finetune", "u2")
    site.open("vision")
    assert seen(site.ask(BOSS, "budget", account="nlp")) == [("nlp", ""), ("nlp-finetune", "u2")]
    assert seen(site.ask(BOSS, "budget", user="u2")) == [("nlp-finetune", "u2")]
    assert seen(site.ask(BOSS, "budget", user="nobody")) == []
    with pytest.raises(NotAllowed):
        site.ask(BOSS, "budget", account="vision")


def test_operators_see_all_but_the_clusters_own(site):
    site.open("nlp")
    site.open("vision", "u1")
    site.own()
    for caller in (ROOT, Caller(7000, "oper")):
        assert seen(site.ask(caller, "budget", all=True)) == [("nlp", ""), ("vision", "u1")]


def test_who_asks_is_never_what_the_request_says(site):
    site.open("vision-seg")
    forged = {"caller": "root", "user_id": 0, "is_root": True, "actor": "root", "operates": True}
    with pytest.raises(NotAllowed):
        site.ask(U1, "budget", account="vision-seg", **forged)
    with pytest.raises(NotAllowed):
        site.write(U1, "grant", account="vision-seg", amount="1", unit="money", **forged)
    assert site.ask(STRANGER, "budget", **forged)["budgets"] == []


def test_a_name_is_no_proof_of_an_operator(site):
    with pytest.raises(NotAllowed):
        site.ask(Caller(6001, "root"), "budget", all=True)


# --- grants ---------------------------------------------------------------------------------


def test_an_operator_grants_and_takes_back_and_the_entry_says_who_and_why(site):
    fund = site.open("nlp")
    answer = site.write(ROOT, "grant", account="NLP", amount="5000000", unit="money")
    (entry,) = answer["entries"]
    assert (entry["kind"], entry["actor"], entry["reason"]) == ("grant", "root", "because")
    assert (entry["rule"], entry["amount"], answer["written"]) == ("B-012", "5000000", True)
    assert site.fund(fund.fund_id).available == 105 * MICRO
    site.write(ROOT, "grant", account="nlp", amount="-105000000", unit="money")
    assert site.fund(fund.fund_id).granted == 0
    assert site.entries()[-1].posting.kind == "adjust"


def test_nobody_else_grants_closes_or_imports(site):
    site.open("nlp-finetune")
    for caller in (U1, BOSS, STRANGER):
        for name, fields in (
            ("grant", {"account": "nlp-finetune", "amount": "1", "unit": "money"}),
            ("close", {"account": "nlp-finetune"}),
            ("import", {"rows": [[2, "nlp", "", "1", "EUR", "", "", "", "x"]]}),
            ("verify", {}),
            ("reconcile", {}),
            ("entries", {}),
        ):
            with pytest.raises(NotAllowed, match="operators may"):
                site.write(caller, name, **fields)
    assert len(site.entries()) == 1


def test_what_is_spent_or_set_aside_is_taken_back_only_by_force(site):
    fund, own = site.open("nlp"), site.own()
    site.run(1, [fund, own], cost=60 * MICRO)
    taken = {"account": "nlp", "amount": "-50000000", "unit": "money"}
    with pytest.raises(RequestError, match=r"40\.00 EUR available"):
        site.write(ROOT, "grant", **taken)
    site.write(ROOT, "grant", force=True, **taken)
    assert site.fund(fund.fund_id).available == -10 * MICRO


def test_an_account_without_a_budget_gets_one_that_lasts(site):
    site.write(ROOT, "grant", account="vision", amount="7200", unit="gpu_seconds")
    (one,) = site.ask(U1, "budget")["budgets"]
    assert (one["budget"], one["unit"], one["granted"]) == ("granted", "gpu_seconds", "7200")
    assert one["period_end"] is None
    end = NOW + DAY
    site.write(
        ROOT, "grant", account="vision", user="u1", budget="sprint", amount="60",
        unit="gpu_seconds", end=end,
    )  # fmt: skip
    assert site.ask(U1, "budget")["budgets"][1]["period_end"] == end


def test_all_budgets_of_a_level_are_of_one_unit(site):
    site.open("nlp")
    for more in ({}, {"budget": "other", "end": NOW + DAY}):
        with pytest.raises(RequestError, match="money"):
            site.write(ROOT, "grant", account="nlp", amount="1", unit="gpu_seconds", **more)
    assert len(site.fund(1).budget) == 3


def test_of_several_budgets_one_is_to_be_named(site):
    site.open("nlp", budget="a")
    second = site.open("nlp", budget="b", position=1)
    with pytest.raises(RequestError, match="a, b"):
        site.write(ROOT, "grant", account="nlp", amount="1", unit="money")
    site.write(ROOT, "grant", account="nlp", budget="b", amount="1", unit="money")
    assert site.fund(second.fund_id).available == 100 * MICRO + 1


def test_an_account_or_user_that_nobody_knows_is_a_slip(site):
    for account, user in (("nlpp", ""), ("nlp", "u1")):
        with pytest.raises(RequestError, match="Slurm has no"):
            site.write(ROOT, "grant", account=account, user=user, amount="1", unit="money")
    assert site.entries() == ()


@pytest.mark.parametrize("amount", [None, 5, 5.0, "5.0", "", "1e3", "0", "-0", "9" * 20, "١"])
def test_an_amount_is_a_whole_number_as_text(site, amount):
    with pytest.raises(RequestError, match="amount"):
        site.write(ROOT, "grant", account="nlp", amount=amount, unit="money")


def test_where_no_books_are_kept_nothing_is_granted():
    site = Site(ledger={"keep": False})
    with pytest.raises(RequestError, match="no books are kept"):
        site.write(ROOT, "grant", account="nlp", amount="1", unit="money")


def test_a_reason_and_an_id_are_needed(site):
    grant = {"account": "nlp", "amount": "1", "unit": "money"}
    with pytest.raises(RequestError, match="reason"):
        site.write(ROOT, "grant", reason=" ", **grant)
    for bad in (None, "short", 5, "with blank 1", "x" * 37, "../../etc"):
        with pytest.raises(RequestError, match="id"):
            site.write(ROOT, "grant", id=bad, **grant)


# --- once -----------------------------------------------------------------------------------


def test_the_same_id_again_answers_the_same_and_writes_nothing(site):
    site.open("nlp")
    grant = {"account": "nlp", "amount": "5", "unit": "money", "id": "abcdefgh"}
    first = site.write(ROOT, "grant", **grant)
    site.write(ROOT, "grant", account="nlp", amount="7", unit="money")
    site.clock.advance(1000)
    again = site.write(ROOT, "grant", **grant)
    assert again == {**first, "written": False}
    assert site.fund(1).available == 100 * MICRO + 12


def test_an_id_stands_for_one_request_of_one_caller(site):
    site.open("nlp")
    grant = {"account": "nlp", "unit": "money", "id": "abcdefgh"}
    site.write(ROOT, "grant", amount="5", **grant)
    with pytest.raises(RequestError, match="another request"):
        site.write(ROOT, "grant", amount="6", **grant)
    site.write(Caller(7000, "oper"), "grant", amount="5", **grant)  # his own id
    assert site.fund(1).available == 100 * MICRO + 10


def test_many_at_once_with_one_id_write_once(site):
    site.open("nlp")
    answers = []

    def grant():
        answers.append(
            site.write(ROOT, "grant", id="one-and-only", account="nlp", amount="5", unit="money")
        )

    threads = [threading.Thread(target=grant) for _ in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sum(one["written"] for one in answers) == 1
    assert len({one["entries"][0]["entry_id"] for one in answers}) == 1
    assert site.fund(1).available == 100 * MICRO + 5


def test_what_could_not_be_written_is_written_by_its_repetition(site):
    site.open("nlp")
    grant = {"account": "nlp", "amount": "5", "unit": "money", "id": "abcdefgh"}
    for after in range(6):
        site.ledger.fail_after(after)
        with pytest.raises(RecordsUnavailable):
            site.write(ROOT, "grant", **grant)
        assert site.fund(1).available == 100 * MICRO
    site.ledger._countdown = None
    assert site.write(ROOT, "grant", **grant)["written"]
    assert site.fund(1).available == 100 * MICRO + 5


# --- transfers and closing ------------------------------------------------------------------


def test_a_transfer_moves_and_makes_nothing(site):
    one, two = site.open("nlp-finetune"), site.open("nlp-pretrain")
    ends = {"from": {"account": "nlp-finetune"}, "to": {"account": "nlp-pretrain"}}
    answer = site.write(BOSS, "transfer", amount="30000000", unit="money", **ends)
    assert len({entry["batch"] for entry in answer["entries"]}) == 1
    assert site.fund(one.fund_id).available == 70 * MICRO
    assert site.fund(two.fund_id).available == 130 * MICRO
    with pytest.raises(RequestError, match=r"70\.00 EUR"):
        site.write(BOSS, "transfer", amount="70000001", unit="money", **ends)
    with pytest.raises(RequestError, match=r"70\.00 EUR"):  # force is the operators' alone
        site.write(BOSS, "transfer", amount="70000001", unit="money", force=True, **ends)
    with pytest.raises(RequestError, match="more than 0"):
        site.write(BOSS, "transfer", amount="-1", unit="money", **ends)


def test_who_does_not_manage_both_accounts_moves_nothing(site):
    site.open("nlp-finetune")
    site.open("vision")
    words = set()
    for caller, source, target in (
        (U1, "nlp-finetune", "vision"),
        (BOSS, "vision", "nlp-finetune"),
        (BOSS, "nlp-finetune", "vision"),
        (BOSS, "nlp-finetune", "nosuchone"),
        (U4, "nlp-finetune", "nlp-finetune"),
        (BOSS, "nlp", ""),
    ):
        ends = {"from": {"account": source}, "to": {"account": target}}
        with pytest.raises((NotAllowed, RequestError)) as refused:
            site.write(caller, "transfer", amount="1", unit="money", **ends)
        if caller is BOSS and target in {"vision", "nosuchone"}:
            words.add(str(refused.value).replace(target, "X"))
    assert len(words) == 1
    assert len(site.entries()) == 2


def test_money_does_not_become_gpu_time(site):
    site.open("nlp-finetune")
    site.open("nlp-pretrain", unit="gpu_seconds")
    ends = {"from": {"account": "nlp-finetune"}, "to": {"account": "nlp-pretrain"}}
    with pytest.raises(RequestError, match="not of one unit"):
        site.write(BOSS, "transfer", amount="1", unit="money", **ends)
    same = {"from": {"account": "nlp-finetune"}, "to": {"account": "nlp-finetune"}}
    with pytest.raises(RequestError, match="same budget"):
        site.write(BOSS, "transfer", amount="1", unit="money", **same)


@pytest.mark.parametrize("cost", [10, 130])
def test_closing_ends_a_budget_and_leaves_an_empty_one_in_its_place(site, cost):
    fund, own = site.open("nlp"), site.own()
    with site.ledger.writing() as books:
        books.set_mark(f"policy:{fund.fund_id}", 100 * MICRO)
    site.run(1, [fund, own], cost=cost * MICRO)
    site.write(ROOT, "close", account="nlp")
    closed = site.fund(fund.fund_id)
    assert (closed.available, closed.end) == (0, NOW)
    with site.ledger.reading() as books:
        (empty,) = [one for one in books.funds() if one.account == "nlp" and one.start == NOW]
        marks = books.marks("policy:")
    assert (empty.granted, empty.end, empty.budget) == (0, fund.end, fund.budget)
    # what the file grants has been granted: nothing is added to it, nor rolls over
    assert marks == {f"policy:{fund.fund_id}": 0, f"policy:{empty.fund_id}": 100 * MICRO}
    with pytest.raises(RequestError, match="nothing in it"):
        site.write(ROOT, "close", account="nlp")
    site.write(ROOT, "grant", account="nlp", amount="5", unit="money")
    assert site.fund(empty.fund_id).available == 5


def test_what_may_be_overdrawn_is_closed_too(site):
    site.open("nlp", overdraft=30 * MICRO)
    site.write(ROOT, "close", account="nlp")
    (one,) = [one for one in site.ask(U1, "budget")["budgets"] if one["period_start"] == NOW]
    assert int(one["available"]) + int(one["overdraft"]) == 0


# --- refunds --------------------------------------------------------------------------------


def test_a_refund_goes_back_to_each_fund_that_paid_in_proportion(site):
    own, first, second = (
        site.own(),
        site.open("nlp-finetune"),
        site.open("nlp-finetune", budget="b"),
    )
    above, hours = site.open("nlp"), site.open("root", unit="gpu_seconds", amount=10_000)
    site.run(7, [own, first, second, above, hours], cost=(10, 3, 7, 10, 7200))
    site.write(ROOT, "refund", job="7", percent=50)
    spent = [site.fund(one.fund_id).spent for one in (own, first, second, above, hours)]
    assert spent == [5, 2, 3, 5, 3600]
    site.write(ROOT, "refund", job="7")  # the rest
    assert [site.fund(one.fund_id).spent for one in (own, first, second, above, hours)] == [0] * 5
    with pytest.raises(RequestError, match="nothing left"):
        site.write(ROOT, "refund", job="7")


def test_a_coordinator_gives_back_to_accounts_of_theirs_and_nothing_above(site):
    own, fund, above, top = (
        site.own(), site.open("nlp-finetune"), site.open("nlp"), site.open("root")
    )  # fmt: skip
    site.run(7, [own, fund, above, top], cost=10)
    site.write(BOSS, "refund", job="7", amount="4", unit="money")
    assert [site.fund(one.fund_id).spent for one in (own, fund, above, top)] == [10, 6, 6, 10]
    site.write(BOSS, "refund", job="7")
    assert [site.fund(one.fund_id).spent for one in (own, fund, above, top)] == [10, 0, 0, 10]
    site.run(8, [own, fund], cost=10, user="boss")
    with pytest.raises(NotAllowed, match="boss's own"):
        site.write(BOSS, "refund", job="8")
    site.run(9, [own, top], cost=10)
    with pytest.raises(RequestError, match="nothing left"):
        site.write(BOSS, "refund", job="9")


def test_no_more_is_given_back_than_was_charged_less_what_was_given_back(site):
    own, fund = site.own(), site.open("nlp-finetune")
    site.run(7, [own, fund], cost=10 * MICRO)
    site.write(ROOT, "refund", job="7", amount="4000000", unit="money")
    with pytest.raises(RequestError, match=r"charged 10\.00 EUR, of which 4\.00 EUR"):
        site.write(ROOT, "refund", job="7", amount="6000001", unit="money")
    with pytest.raises(RequestError):
        site.write(ROOT, "refund", job="7", percent=61)
    site.write(ROOT, "refund", job="7", amount="6000000", unit="money")
    assert site.fund(fund.fund_id).available == 100 * MICRO
    for entry in site.entries()[-2:]:
        assert (entry.posting.rule, entry.job_id, entry.posting.actor) == ("C-411", 7, "root")


def test_an_operator_is_told_that_the_books_do_not_have_a_job(site):
    with pytest.raises(RequestError, match="the books have no job '99'"):
        site.write(ROOT, "refund", job="99")


def test_only_who_manages_the_account_gives_back_and_others_learn_nothing(site):
    own = site.own()
    site.run(7, [own])
    words = set()
    for caller, job in ((U1, "7"), (U1, "8"), (STRANGER, "7")):
        with pytest.raises(NotAllowed) as refused:
            site.write(caller, "refund", job=job)
        words.add(str(refused.value).replace(caller.user, "X").replace(job, "N"))
    site.people.named_coordinators = {"vision": frozenset({"u3"})}
    with pytest.raises(NotAllowed) as refused:
        site.write(U3, "refund", job="7")
    words.add(str(refused.value).replace("u3", "X").replace("'7'", "'N'"))
    assert len(words) == 1
    assert len(site.entries()) == 1


def test_of_several_runs_one_is_to_be_named_and_a_running_one_waits(site):
    own = site.own()
    site.run(7, [own], cost=10)
    site.run(7, [own], cost=20, submit_time=NOW - DAY, restart=1)
    with pytest.raises(RequestError, match=r"0 \(COMPLETED\), 1 \(COMPLETED\)"):
        site.write(ROOT, "refund", job="7")
    site.write(ROOT, "refund", job="7", restart=1)
    assert site.fund(own.fund_id).spent == 10
    site.run(8, [], state="running", settled=False, end_time=None, end_state="")
    with pytest.raises(RequestError, match="no run that has ended"):
        site.write(ROOT, "refund", job="8")


def test_what_a_past_period_gets_back_can_be_spent_in_the_present_one(site):
    own = site.own(start=NOW - 40 * DAY, end=NOW - 10 * DAY)
    past = site.open("nlp", start=NOW - 40 * DAY, end=NOW - 10 * DAY)
    present = site.open("nlp")
    site.run(7, [own, past], cost=10 * MICRO, start_time=NOW - 20 * DAY, end_time=NOW - 19 * DAY)
    site.write(ROOT, "refund", job="7")
    assert site.fund(past.fund_id).available == 90 * MICRO
    assert site.fund(present.fund_id).available == 110 * MICRO


# --- statements -----------------------------------------------------------------------------


def _spend(site):
    own = site.own(start=NOW - 14 * DAY, end=NOW + 16 * DAY)
    fund = site.open("nlp-finetune")
    site.run(1, [own, fund], cost=10 * MICRO)
    site.run(2, [own, fund], cost=20 * MICRO, user="u2", use=_gpus(a100=1))
    site.run(3, [own], cost=5 * MICRO, account="vision-seg", user="u3", use=_gpus(h100=1, a100=1))
    return own


def _gpus(**gpus):
    from slurm_gpu_policy.model.prices import Use  # noqa: PLC0415

    return Use(gpus=gpus)


def test_a_statement_adds_up_per_user_type_and_job(site):
    _spend(site)
    site.write(ROOT, "refund", job="1", percent=50)
    answer = site.ask(ROOT, "statement", month=MONTH, all=True)
    total = answer["total"]
    assert (total["charged"], total["refunded"], total["cost"]) == (
        "35000000",
        "5000000",
        "30000000",
    )
    assert (total["runs"], total["gpu_seconds"]) == (3, 3 * 7200)
    for part in ("users", "gpu_types", "jobs"):
        assert sum(int(one["cost"]) for one in answer[part]) == 30 * MICRO
        assert sum(one["gpu_seconds"] for one in answer[part]) == 3 * 7200
    assert [one["gpu_type"] for one in answer["gpu_types"]] == ["a100", "a100+h100", "h100"]
    assert [(one["account"], one["user"]) for one in answer["users"]] == [
        ("nlp-finetune", "u1"), ("nlp-finetune", "u2"), ("vision-seg", "u3"),
    ]  # fmt: skip
    assert [one["job_id"] for one in answer["jobs"]] == [1, 2, 3]
    assert [one["account"] for one in answer["budgets"]] == ["nlp-finetune"]


def test_a_member_sees_the_accounts_sum_and_their_own_lines_only(site):
    _spend(site)
    for account in ("nlp-finetune", "nlp"):
        answer = site.ask(U1, "statement", month=MONTH, account=account)
        assert answer["total"]["cost"] == "30000000"
        assert [one["user"] for one in answer["users"]] == ["u1"]
        assert [one["job_id"] for one in answer["jobs"]] == [1]
        assert [one["gpu_type"] for one in answer["gpu_types"]] == ["h100"]
    assert "u2" not in str(answer)


def test_mine_is_what_i_spent_anywhere(site):
    _spend(site)
    answer = site.ask(U3, "statement", month=MONTH)
    assert (answer["total"]["cost"], answer["user"]) == ("5000000", "u3")
    assert site.ask(STRANGER, "statement", month=MONTH)["total"]["runs"] == 0


def test_a_coordinator_sees_all_lines_of_the_accounts_below(site):
    _spend(site)
    answer = site.ask(BOSS, "statement", month=MONTH, account="nlp")
    assert [one["user"] for one in answer["users"]] == ["u1", "u2"]
    assert site.ask(BOSS, "statement", month=MONTH, account="nlp", user="u2")["total"]["runs"] == 1
    with pytest.raises(NotAllowed):
        site.ask(BOSS, "statement", month=MONTH, account="vision-seg")
    assert site.ask(BOSS, "statement", month=MONTH, user="u3")["total"]["runs"] == 0


def test_a_statement_of_some_time_is_what_was_booked_in_it(site):
    own = site.own()
    site.run(1, [own], cost=10)
    site.clock.advance(DAY)
    site.run(2, [own], cost=20)
    parts = [
        site.ask(ROOT, "statement", all=True, start=start, end=start + DAY)["total"]["cost"]
        for start in (NOW, NOW + DAY)
    ]
    assert parts == ["10", "20"]
    for asked in ({"month": "2027-13"}, {"month": "x"}, {"start": 5}, {"start": 5, "end": 5}):
        with pytest.raises(RequestError):
            site.ask(ROOT, "statement", all=True, **asked)


def test_a_month_is_the_clusters_fund_of_that_month_whenever_it_was_booked(site):
    new_year = 1_798_761_600
    december = site.own(start=new_year - 31 * DAY, end=new_year)
    january = site.own(start=new_year, end=new_year + 31 * DAY)
    site.run(
        1, [december, january], cost=(3, 4), start_time=new_year - 1800, end_time=new_year + 1800
    )
    assert site.ask(ROOT, "statement", all=True, month="2027-01")["total"]["cost"] == "4"
    assert site.ask(ROOT, "statement", all=True, month="2026-12")["total"]["cost"] == "3"


# --- forecast, export, checks ---------------------------------------------------------------


def test_a_forecast_lays_an_even_burn_on_what_is_left(site):
    own, fund = site.own(), site.open("nlp-finetune", end=None)
    for day in range(10):
        began = NOW - (day + 1) * DAY
        site.run(
            day + 1, [own, fund], cost=MICRO, start_time=began, end_time=began + DAY,
            submit_time=began,
        )  # fmt: skip
    (one,) = site.ask(U1, "forecast")["forecasts"]
    assert (one["per_day"], one["left"], one["certainty"]) == ("1000000", "90000000", "good")
    assert one["runs_out"] == NOW + 90 * DAY


def test_a_forecast_from_too_little_says_so(site):
    site.open("nlp-finetune", start=NOW - 100)
    (one,) = site.ask(U1, "forecast")["forecasts"]
    assert (one["certainty"], one["runs_out"]) == ("none", None)


def test_entries_come_in_pages_to_operators_and_of_an_account_to_who_manages_it(site):
    site.open("nlp-finetune")
    site.open("vision")
    _spend(site)
    found, after = [], 0
    while after is not None:
        answer = site.ask(ROOT, "entries", after=after, limit=2)
        found += answer["entries"]
        after = answer["next"]
    assert [one["entry_id"] for one in found] == [one.entry_id for one in site.entries()]
    below = site.ask(BOSS, "entries", account="nlp")["entries"]
    assert {one["fund_account"] for one in below} == {"nlp-finetune"}
    for asked in ({}, {"account": "vision"}, {"account": "nosuch"}):
        with pytest.raises(NotAllowed):
            site.ask(BOSS, "entries", **asked)


def test_verifying_and_reconciling_are_the_operators(site):
    site.open("nlp")
    assert site.ask(ROOT, "verify") == {"entries": 1, "checked": 1, "differences": []}
    assert site.ask(ROOT, "reconcile", since=5)["checked"] == 2
    site.ask(ROOT, "reconcile", repair=True)
    assert site.reconciled == [(5, False), (None, True)]


def test_long_readings_of_users_leave_room_for_others(site):
    turns = site.treasury._turns
    person = {name: Rights(name) for name in ("u1", "u2", "u3")}
    with turns.take(person["u1"]):
        with pytest.raises(ControllerUnavailable, match="of yours"):
            site.ask(U1, "statement", month=MONTH)
        site.ask(U2, "forecast")
        with turns.take(person["u2"]):
            with pytest.raises(ControllerUnavailable, match="too many"):
                site.ask(U3, "statement", month=MONTH)
            site.ask(ROOT, "statement", month=MONTH, all=True)
            site.ask(U3, "budget")
    with pytest.raises(NotAllowed):
        site.ask(U3, "statement", month=MONTH, account="nlp")  # its turn is given back
    for caller in (U1, U2, U3):
        site.ask(caller, "statement", month=MONTH)


# --- imports --------------------------------------------------------------------------------

ROWS = [
    [2, "nlp", "", "100.50", "EUR", "extra", "2027-01-01", "2027-12-31", "new year"],
    [3, "vision", "u1", "1.5", "GPU-hours", "", "", "", "for u1"],
]


def test_an_import_grants_all_lines_once(site):
    answer = site.ask(ROOT, "import", rows=ROWS)
    assert answer["written"]
    budgets = site.ask(ROOT, "budget", all=True)["budgets"]
    assert [(one["budget"], one["granted"]) for one in budgets] == [
        ("extra", "100500000"), ("granted", "5400"),
    ]  # fmt: skip
    elsewhere = [[line + 7, *(f" {cell} " for cell in cells)] for line, *cells in ROWS]
    again = site.ask(Caller(7000, "oper"), "import", rows=elsewhere)
    assert again == {**answer, "written": False}
    assert len(site.entries()) == 2


def test_an_import_with_wrong_lines_names_them_and_writes_nothing(site):
    wrong = [
        *ROWS,
        [4, "nlpp", "", "5", "EUR", "", "", "", "x"],
        [5, "nlp", "", "-5", "EUR", "", "", "", "x"],
        [6, "nlp", "", "5", "USD", "", "", "", "x"],
        [7, "nlp", "", "5", "EUR", "", "31.12.2027", "", "x"],
        [8, "nlp", "", "5", "EUR", "", "", "", ""],
        [9, "nlp", "", "0.0001", "GPU-hours", "", "", "", "x"],
        [10, "nlp", "", "5"],
    ]
    with pytest.raises(RequestError) as refused:
        site.ask(ROOT, "import", rows=wrong)
    words = str(refused.value)
    assert [f"line {line}:" in words for line in range(2, 11)] == [False] * 3 + [True] * 6
    with pytest.raises(RequestError, match="line 4: Slurm has no account 'nlpp'"):
        site.ask(ROOT, "import", rows=wrong[:3])
    assert site.entries() == ()
    with site.ledger.reading() as books:
        assert books.funds() == ()


def test_packed_rows_are_the_same_rows_and_a_bomb_is_refused(site):
    assert site.ask(ROOT, "import", rows=packed(ROWS))["written"]
    assert not site.ask(ROOT, "import", rows=ROWS)["written"]
    many = [[n + 2, "nlp", "", "1", "EUR", f"b{n}", "", "", "for all"] for n in range(5000)]
    assert len(packed(many)) < 60_000
    bomb = packed([["x" * 5_000_000]])
    for bad in (bomb, "x", "é", packed(ROWS)[:-8], packed(5), packed([])):
        with pytest.raises(RequestError, match="rows"):
            site.ask(ROOT, "import", rows=bad)


# --- in general -----------------------------------------------------------------------------


def test_every_request_is_answered_and_nothing_else(site):
    assert set(site.treasury._handlers) == site.treasury.REQUESTS
    for name in ("fund", None, ["budget"], {}):
        with pytest.raises(RequestError, match="no request"):
            site.treasury.handle(ROOT, {"request": name})


@pytest.mark.parametrize("bad", [5, ["nlp"], {"a": 1}, "x\x1b[2J", "y" * 300, True])
def test_fields_of_the_wrong_kind_are_refused_in_words(site, bad):
    for name in ("budget", "statement", "forecast", "entries"):
        with pytest.raises(RequestError, match="account"):
            site.ask(ROOT, name, account=bad, month=MONTH)
    with pytest.raises(RequestError):
        site.write(ROOT, "transfer", **{"from": bad, "to": bad}, amount="1")


def test_while_slurmdbd_is_away_its_last_word_counts_and_nothing_is_guessed(site):
    site.open("nlp")
    site.ask(U1, "budget")
    site.slurm.is_down = True
    site.people.is_away = True

    def away(*_parts, **_fields):
        msg = "away"
        raise SlurmUnavailable(msg)

    site.slurm.read = away
    site.clock.advance(1000)
    assert len(site.ask(U1, "budget")["budgets"]) == 1
    fresh = Site()
    fresh.slurm.read = away
    with pytest.raises(SlurmUnavailable):
        fresh.ask(U1, "budget")
