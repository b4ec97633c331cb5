"""budget, its commands, and ledger, on a treasury in memory that answers through JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest

from slurm_gpu_policy import bootstrap
from slurm_gpu_policy.apps.policy.budget import _COLUMNS, bar, budget_json, row
from slurm_gpu_policy.apps.policy.tables import CsvTable
from slurm_gpu_policy.errors import ControllerUnavailable, RecordsUnavailable
from slurm_gpu_policy.model.prices import Use
from slurm_gpu_policy.terminal.table import columns_that_fit
from tests.builders import DAY, NOW
from tests.unit.services.treasuries import MICRO, ROOT, U1, Site

HOSTILE = '<script>alert("x")</script>'
FORMULA = "=cmd|'/C calc'!A0"


class Asked:
    """A treasury that the commands ask, as ``caller``."""

    def __init__(self):
        self.site = Site()
        self.caller = ROOT
        self.requests = []
        self.error = None

    def __call__(self, policy, request):
        request = json.loads(json.dumps(request))  # as over the socket
        self.requests.append(request)
        if self.error:
            raise self.error
        return json.loads(json.dumps(self.site.treasury.handle(self.caller, request)))


@pytest.fixture
def asked(monkeypatch, tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("currency: EUR\n")
    monkeypatch.setenv("GPU_POLICY_FILE", str(file))
    made = Asked()
    monkeypatch.setattr(bootstrap, "ask_ledger", made)
    yield made
    made.site.sound()


@pytest.fixture
def books(asked):
    """Two accounts' spending, by people with names that are traps."""
    site = asked.site
    own = site.own(start=NOW - 14 * DAY, end=NOW + 16 * DAY)
    fund = site.open("nlp-finetune")
    site.run(1, [own, fund], cost=12_345_678)
    site.run(2, [own], cost=5 * MICRO, account=HOSTILE, user=FORMULA, use=Use(gpus={HOSTILE: 1}))
    return site


def test_the_json_of_budgets_is_what_scripts_rely_on(gpu_policy, asked, books):
    books.open("nlp-pretrain", "u1", unit="gpu_seconds", amount=7200, end=None)
    asked.caller = U1
    found = gpu_policy("budget", "--json").json
    assert found[0] == {
        "account": "nlp-finetune", "user": "", "currency": "EUR", "granted": "100.00",
        "settled": "12.345678", "in_flight": "0.00", "committed": "0.00",
        "available": "87.654322", "period_end": found[0]["period_end"],
    }  # fmt: skip
    assert re.fullmatch(r"2027-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", found[0]["period_end"])
    assert found[1] == {
        "account": "nlp-pretrain", "user": "u1", "currency": "GPU-seconds", "granted": "7200",
        "settled": "0", "in_flight": "0", "committed": "0", "available": "7200",
        "period_end": None,
    }  # fmt: skip
    assert len(asked.requests) == 1  # one round trip


def test_budgets_are_a_table_with_a_bar(gpu_policy, asked, books):
    asked.caller = U1
    out = gpu_policy("budget").out
    assert "87.654322 EUR" in out
    assert re.search(r"[█#]{2}[░.]{18}", out)
    assert "available" in out.splitlines()[-1]


@pytest.mark.parametrize(("cells", "last"), [(200, "UNTIL"), (60, ""), (40, "AVAILABLE")])
def test_a_narrow_terminal_keeps_what_matters_most(cells, last):
    one = {
        "account": "nlp", "user": "", "budget": "nlp", "unit": "money", "granted": "1000000",
        "settled": "0", "in_flight": "0", "committed": "0", "available": "1000000",
        "period_end": NOW,
    }  # fmt: skip
    kept = columns_that_fit(_COLUMNS, [row(one, "EUR", "UTC")], cells)
    titles = [_COLUMNS[place].title for place in kept]
    assert (titles[0], titles[-1]) == ("ACCOUNT", last)


def test_who_has_no_budget_is_told_so(gpu_policy, asked):
    assert "no budget limits" in gpu_policy("budget").out
    assert "no budget of that kind" in gpu_policy("budget", "--account", "nlp").out
    assert gpu_policy("budget", "--json").out.strip() == "[]"


def test_what_one_may_not_see_is_refused_with_code_1(gpu_policy, asked, books):
    asked.caller = U1
    result = gpu_policy("budget", "--account", "vision-seg")
    assert (result.code, "no account 'vision-seg' that u1 may see" in result.err) == (1, True)
    assert gpu_policy("budget", "--all").code == 1


@pytest.mark.parametrize(
    ("granted", "parts", "drawn"),
    [
        (100, (0, 0, 0), "...................."),
        (100, (50, 25, 10), "##########=====--..."),
        (1_000_000, (1, 1, 1), "#=-................."),
        (1_000_000, (999_998, 1, 0), "###################="),
        (100, (100, 0, 0), "####################"),
        (100, (90, 30, 0), "##################=>"),
        (100, (130, 0, 0), "###################>"),
        (3, (1, 1, 1), "######=======-------"),
        (0, (0, 0, 0), ""),
        (0, (5, 0, 0), "                   >"),
    ],
)
def test_a_bar_is_as_long_as_the_parts(granted, parts, drawn):
    assert bar(granted, parts, "#=-.") == drawn


def test_a_grant_says_what_was_written(gpu_policy, asked, books):
    result = gpu_policy("budget", "grant", "nlp-finetune", "--amount", "12.50", "--reason", "more")
    assert result.out == (
        "grant: 12.50 EUR, site -> available, account nlp-finetune (budget nlp-finetune)\n"
    )
    (request,) = asked.requests
    assert (request["amount"], request["unit"], len(request["id"])) == ("12500000", "money", 32)


def test_a_negative_amount_is_taken_back(gpu_policy, asked, books):
    result = gpu_policy("budget", "grant", "nlp-finetune", "--amount", "-1", "--reason", "less")
    assert "adjust: 1.00 EUR, available -> site" in result.out


def test_gpu_hours_are_whole_seconds(gpu_policy, asked):
    gpu_policy("budget", "grant", "vision", "--gpu-hours", "1.5", "--reason", "x")
    assert asked.requests[0]["amount"] == "5400"
    for wrong in (
        ["--gpu-hours", "0.0001"], ["--amount", "1,5"], ["--amount", "nan"], ["--amount", "--1"],
        [], ["--amount", "1", "--gpu-hours", "1"],
    ):  # fmt: skip
        assert gpu_policy("budget", "grant", "vision", *wrong, "--reason", "x").code == 2


def test_a_repeated_request_says_that_nothing_was_written_again(gpu_policy, asked, books):
    words = ("budget", "grant", "nlp-finetune", "--amount", "1", "--reason", "x")
    gpu_policy(*words, "--request-id", "abcdefgh")
    result = gpu_policy(*words, "--request-id", "abcdefgh")
    assert result.out.startswith("this was done before; nothing was written again:\n")
    assert books.fund(2).granted == 101 * MICRO


def test_whose_answer_was_lost_is_told_how_to_repeat_it(gpu_policy, asked):
    asked.error = ControllerUnavailable("it hung up without an answer")
    result = gpu_policy("budget", "grant", "nlp", "--amount", "1", "--reason", "x")
    assert result.code == 4
    assert f"--request-id {asked.requests[0]['id']}" in result.err


def test_transfer_refund_and_close_ask_for_what_they_say(gpu_policy, asked, books):
    books.open("nlp-pretrain", amount=0)
    result = gpu_policy(
        "budget", "transfer", "--from", "nlp-finetune", "--to", "nlp-pretrain", "--amount", "5",
        "--reason", "x",
    )  # fmt: skip
    assert result.out.count("transfer: 5.00 EUR") == 2
    result = gpu_policy("budget", "refund", "1", "--percent", "50", "--reason", "node was slow")
    assert "refund: 6.172839 EUR, spent -> available, account nlp-finetune" in result.out
    assert "refund: 6.172839 EUR, spent -> available, the cluster" in result.out
    both = ("--percent", "5", "--amount", "1", "--reason", "x")
    assert gpu_policy("budget", "refund", "1", *both).code == 2
    result = gpu_policy("budget", "close", "nlp-pretrain", "--reason", "over")
    assert "expire: 5.00 EUR, available -> site, account nlp-pretrain" in result.out


def test_a_statement_as_json_adds_up(gpu_policy, asked, books):
    found = gpu_policy(
        "budget", "statement", "--month", "2027-01", "--all", "--format", "json"
    ).json
    assert (found["total"]["cost"], found["currency"]) == ("17.345678", "EUR")
    assert [one["cost"] for one in found["users"]] == ["5.00", "12.345678"]
    assert found["budgets"][0]["available"] == "87.654322"
    assert found["jobs"][0]["start_time"].startswith("2027-")


def test_a_statement_is_a_table_without_anybodys_control_characters(gpu_policy, asked, books):
    books.run(3, [books.fund(1)], account="nlp-finetune", user="a\x1b[2Jb")
    out = gpu_policy("budget", "statement", "--month", "2027-01", "--all").out
    assert "17.345678 EUR for 2 runs" not in out
    assert "27.345678 EUR for 3 runs and 6.00 GPU-hours" in out
    assert "\x1b" not in out
    assert "2 runs" in gpu_policy("budget", "statement", "--month", "2027-01", "--account",
                                  "nlp-finetune").out  # fmt: skip
    assert (
        "no job" not in gpu_policy("budget", "statement", "--month", "2027-01", "--by", "job").err
    )


def test_no_cell_of_a_csv_is_a_formula(gpu_policy, asked, books):
    csv_of = ("budget", "statement", "--month", "2027-01", "--all", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(gpu_policy(*csv_of).out)))
    assert rows[1]["user"] == "'" + FORMULA
    assert (rows[1]["account"], rows[1]["cost"]) == (HOSTILE, "5.00")
    assert [row["cost"] for row in rows] == ["12.345678", "5.00"]
    by_user = list(csv.DictReader(io.StringIO(gpu_policy(*csv_of, "--by", "user").out)))
    assert [row["runs"] for row in by_user] == ["1", "1"]


@pytest.mark.parametrize("first", "=+-@\t\r")
def test_what_a_spreadsheet_takes_for_a_formula_gets_a_quote(first):
    out = io.StringIO()
    CsvTable(out, ["name", "amount"], ["name"]).add([f"{first}1+1", "-5.00"])
    (_, row) = csv.reader(io.StringIO(out.getvalue()))
    assert row[0].startswith("'")
    assert row[1] == "-5.00"


def test_names_in_a_csv_break_neither_rows_nor_columns():
    out = io.StringIO()
    CsvTable(out, ["name", "n"], ["name"]).add(['a,"b"\nc\x1b', None])
    (_, row) = csv.reader(io.StringIO(out.getvalue()))
    assert row == ['a,"b"\\nc\\x1b', ""]


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.outside = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.outside += [name for name, _ in attrs if name in {"src", "href", "action"}]


def test_a_page_escapes_names_and_loads_nothing(gpu_policy, asked, books, tmp_path):
    file = tmp_path / "statement.html"
    gpu_policy(
        "budget", "statement", "--month", "2027-01", "--all", "--format", "html",
        "--output", str(file),
    )  # fmt: skip
    text = file.read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert page.outside == []
    assert "url(" not in text
    assert "&lt;script&gt;" in text
    assert "<strong>17.345678 EUR</strong>" in text
    assert "@media print" in text


def test_without_dates_a_statement_is_of_the_present_month(gpu_policy, asked, books):
    found = gpu_policy("budget", "statement", "--all", "--format", "json").json
    assert found["month"] == "2027-01"
    assert found["total"]["runs"] > 0


def test_a_month_or_a_whole_span_is_wanted(gpu_policy, asked):
    for wrong in (["--month", "x"], ["--from", "2027-01-01"], ["--month", "2027-01", "--to",
                  "2027-02-01"], ["--from", "yesterday", "--to", "2027-01-01"]):  # fmt: skip
        assert gpu_policy("budget", "statement", *wrong).code == 2
    span = ("--from", "2027-01-01", "--to", "2027-02-01")
    assert gpu_policy("budget", "statement", *span).code == 0


def test_a_forecast_says_when_and_how_sure(gpu_policy, asked, books):
    found = gpu_policy("budget", "forecast", "--all", "--json").json
    assert (found[0]["account"], found[0]["certainty"]) == ("nlp-finetune", "low")  # one job only
    assert (found[0]["left"], found[0]["per_day"]) == ("87.654322", "1.234568")
    assert found[0]["runs_out"].startswith("2027-03-2")
    assert "lasts to the period's end" in gpu_policy("budget", "forecast", "--all").out
    books.open("vision", start=NOW - 60)
    assert "nobody can say" in gpu_policy("budget", "forecast", "--all").out


CSV = "account,user,amount,unit,name,start,end,reason\n"


def test_an_import_is_taken_once(gpu_policy, asked, tmp_path):
    file = tmp_path / "grants.csv"
    file.write_text("\ufeff" + CSV + 'nlp,,100,EUR,,,,"new, year"\n\nvision,u1,2,GPU-hours,,,,x\n')
    assert gpu_policy("budget", "import", str(file)).out == "imported 2 grants\n"
    again = gpu_policy("budget", "import", str(file))
    assert (again.code, "by root (2 grants): nothing was written again" in again.out) == (0, True)
    assert len(asked.site.entries()) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: wanted the columns"),
        ("account,amount\nnlp,5\n", "line 1: wanted the columns"),
        (CSV, "no lines below"),
        (CSV + 'nlp,,5,EUR,,,,"x\n', "line 2: this is no CSV"),
        (CSV + "nlp,,5,EUR,,,,x\n\nnlp,,x,EUR,,,,x\nnlp\n", "line 4: 'x' is not an amount"),
        (CSV + "nlp,,5,EUR,,,,x\n\nnlp,,x,EUR,,,,x\nnlp\n", "line 5: wanted 8 columns"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_written(gpu_policy, asked, tmp_path, text, words):
    file = tmp_path / "grants.csv"
    file.write_text(text)
    result = gpu_policy("budget", "import", str(file))
    assert (result.code, words in result.err) == (2, True), result.err
    assert asked.site.entries() == ()


def test_an_export_has_every_entry(gpu_policy, asked, books, monkeypatch):
    monkeypatch.setattr("slurm_gpu_policy.services.ledger.entries._PAGE", 2)
    rows = list(csv.DictReader(io.StringIO(gpu_policy("budget", "export").out)))
    found = gpu_policy("budget", "export", "--format", "json").json
    assert [int(row["entry_id"]) for row in rows] == [one.entry_id for one in books.entries()]
    assert len(asked.requests) > 2
    assert rows[1]["amount"] == found[1]["amount"] == "12.345678"
    assert found[1]["gpu_seconds"] == 7200
    assert rows[-1]["user"] == "'" + FORMULA
    assert found[-1]["user"] == FORMULA
    assert gpu_policy("budget", "export", "--since", "2030-01-01", "--format", "json").json == []


def test_the_exit_code_says_whether_the_books_agree(gpu_policy, asked, books, monkeypatch):
    assert gpu_policy("ledger", "verify").out == "4 entries, 2 funds checked: all agree\n"
    found = gpu_policy("ledger", "verify", "--json")
    assert (found.code, found.json) == (0, {"entries": 4, "checked": 2, "differences": []})
    assert gpu_policy("ledger", "reconcile", "--since", "2027-01-01", "--json").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(books.ledger, "problems", lambda: ("fund 1: \x1b odd",))
        result = gpu_policy("ledger", "verify")
        assert (result.code, "fund 1: \\x1b odd" in result.out) == (1, True)
        assert gpu_policy("ledger", "verify", "--json").code == 1
    asked.error = RecordsUnavailable("away")
    assert gpu_policy("ledger", "verify").code == 4


def test_a_period_ends_on_the_day_that_it_ends_where_the_site_is():
    """Midnight of 30 November in Berlin is still the 29th on a machine that goes by UTC."""
    one = {
        "account": "nlp", "user": "", "budget": "nlp", "unit": "money", "granted": "5",
        "settled": "0", "in_flight": "0", "committed": "0", "available": "5",
        "period_end": 1_795_993_200,
    }  # fmt: skip
    assert row(one, "EUR", "UTC")[-1] == "2026-11-29"
    assert row(one, "EUR", "Europe/Berlin")[-1] == "2026-11-30"
    shown = budget_json(one, "EUR", "Europe/Berlin")
    assert shown["period_end"] == "2026-11-30T00:00:00+01:00"
