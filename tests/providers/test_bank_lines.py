"""Lines of a bank statement: each pays what it names, once; what names nothing waits for a person."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from invoicing.customers import change_provider
from invoicing.manual.bank_files import BadLine, StatementLine
from invoicing.manual.bank_lines import (
    BankImport,
    BankLineDecided,
    BankLineDoesNotFit,
    bank_lines,
    import_lines,
    set_aside,
    settle_line,
)
from invoicing.manual.provider import ManualProvider
from invoicing.manual.tables import BankLine
from invoicing.providers import Providers
from invoicing.settings import Settings
from invoicing.tables import Invoice
from tests.fakes.provider import RememberingProvider
from tests.invoicing.conftest import Company
from tests.providers.conftest import BANK, now


@dataclass
class Desk:
    engine: Engine
    company: Company
    providers: Providers

    def invoice(self, name: str, amount: str = "40.00", *, provider: str = "manual") -> Invoice:
        customer_id = self.company.customer(name, email=f"{name}@example.org")
        with Session(self.engine) as session, session.begin():
            change_provider(session, customer_id=customer_id, provider=provider)
        self.company.use(name, "2025-06-03", amount)
        self.company.close("2025-07-02")
        self.company.finalize_due("2025-07-10")
        return self.now_of(name)

    def now_of(self, name: str) -> Invoice:
        return self.company.invoice(name, "2025-06").invoice

    def import_(self, *lines: StatementLine | BadLine) -> BankImport:
        refused: list[BadLine] = []
        return import_lines(
            self.engine,
            lines,
            account="main",
            provider=self.providers,
            settings=self.company.settings,
            actor="test",
            now=now(),
            reject=refused.append,
        )

    def open_lines(self) -> list[BankLine]:
        with Session(self.engine, expire_on_commit=False) as session:
            return bank_lines(session, state="open", limit=10)

    def settle(self, line_id: UUID, number: str) -> None:
        with Session(self.engine) as session, session.begin():
            settle_line(
                session,
                line_id=line_id,
                invoice_number=number,
                provider=self.providers,
                settings=self.company.settings,
                actor="robin",
                reason="They wrote to us.",
                now=now(),
            )


@pytest.fixture
def desk(engine: Engine) -> Desk:
    stripe = RememberingProvider(name="stripe")
    providers = Providers(engine, [stripe, ManualProvider(BANK)])
    company = Company(engine, providers, Settings())
    return Desk(engine, company, providers)


def line(reference: str, amount: str = "40.00", *, id_: str = "", currency: str = "USD") -> StatementLine:
    return StatementLine(id_ or uuid4().hex, date(2025, 7, 14), Decimal(amount), currency, "Somebody", reference)


@pytest.mark.parametrize("written", ["{n}", "inv. {n}, thanks", "{l}", "RE {s} v. 10.07.", "x{n}".replace("x", "Nr.")])
def test_a_line_that_names_an_invoice_pays_it(desk: Desk, written: str) -> None:
    number = desk.invoice("acme").number or ""
    reference = written.format(n=number, l=number.lower(), s=number.replace("-", " "))
    summary = desk.import_(line(reference))
    assert (summary.new, summary.settled, summary.open) == (1, 1, 0)
    assert desk.now_of("acme").state == "paid"
    desk.company.check()


def test_the_same_statement_again_pays_nothing_twice(desk: Desk) -> None:
    number = desk.invoice("acme").number or ""
    lines = [line(number, "15.00", id_="1"), line(number, "25.00", id_="2")]
    desk.import_(*lines)
    again = desk.import_(*lines)
    assert (again.new, again.known) == (0, 2)
    assert desk.now_of("acme").amount_paid == Decimal("40.00")
    desk.company.check()


def test_what_is_more_than_was_due_is_the_customers(desk: Desk) -> None:
    number = desk.invoice("acme").number or ""
    desk.import_(line(number, "50.00"))
    desk.company.check()
    with Session(desk.engine) as session:
        applied, amount = session.execute(text("SELECT applied, amount FROM payments")).one()
    assert (applied, amount) == (Decimal("40.00"), Decimal("50.00"))


@pytest.mark.parametrize(
    ("reference", "amount", "currency", "note"),
    [
        ("thank you", "40.00", "USD", "no invoice"),
        ("ZZZZZZZZ-0001", "40.00", "USD", "no invoice"),
        ("{a} and {b}", "80.00", "USD", "more than one"),
        ("{a}", "40.00", "EUR", "in EUR"),
        ("{a}", "-40.00", "USD", "went out"),
    ],
)
def test_what_is_not_clear_waits_for_a_person(
    desk: Desk, reference: str, amount: str, currency: str, note: str
) -> None:
    a, b = desk.invoice("acme").number, desk.invoice("beta").number
    summary = desk.import_(line(reference.format(a=a, b=b), amount, currency=currency))
    assert (summary.settled, summary.open) == (0, 1)
    (waiting,) = desk.open_lines()
    assert note in (waiting.note or "")
    assert {desk.now_of(name).state for name in ("acme", "beta")} == {"final"}


def test_a_number_within_a_longer_word_is_no_reference(desk: Desk) -> None:
    number = desk.invoice("acme").number or ""
    desk.import_(line(f"X{number}"), line(f"{number}9"))
    assert desk.now_of("acme").state == "final"


def test_a_person_decides_once_what_a_line_is(desk: Desk) -> None:
    desk.invoice("acme")
    number = desk.now_of("acme").number or ""
    desk.import_(line("thank you"))
    (waiting,) = desk.open_lines()
    desk.settle(waiting.id, f" {number.lower()} ")
    assert desk.now_of("acme").state == "paid"
    with pytest.raises(BankLineDecided, match="robin"):
        desk.settle(waiting.id, number)
    with pytest.raises(BankLineDecided), Session(desk.engine) as session:
        set_aside(session, line_id=waiting.id, actor="kim", reason="not ours", now=now())
    desk.company.check()


def test_an_unknown_number_is_refused_and_the_line_still_waits(desk: Desk) -> None:
    desk.import_(line("thank you"))
    (waiting,) = desk.open_lines()
    with pytest.raises(BankLineDoesNotFit, match="no invoice"):
        desk.settle(waiting.id, "NOPE-0001")
    assert len(desk.open_lines()) == 1


def test_whoever_collects_elsewhere_is_told_that_it_is_paid(desk: Desk) -> None:
    number = desk.invoice("acme", provider="stripe").number or ""
    desk.import_(line(number))
    assert desk.now_of("acme").state == "paid"
    with Session(desk.engine) as session:
        kind, state = session.execute(text("SELECT kind, state FROM movements")).one()
    assert (kind, state) == ("outside_payment", "working"), "until the provider has confirmed it"


def test_too_little_for_an_invoice_that_is_collected_elsewhere_waits_for_a_person(desk: Desk) -> None:
    number = desk.invoice("acme", provider="stripe").number or ""
    desk.import_(line(number, "39.99"))
    assert "too little" in (desk.open_lines()[0].note or "")
    assert desk.now_of("acme").amount_paid == 0


def test_a_line_stays_as_it_came(desk: Desk, databases_owner: Engine) -> None:
    number = desk.invoice("acme").number or ""
    desk.import_(line(number))
    for change in ("amount = 4000", "reference = ''", "state = 'open', invoice_id = NULL, customer_id = NULL"):
        with (
            pytest.raises(Exception, match=r"refused|violates"),
            Session(databases_owner) as session,
            session.begin(),
        ):
            session.execute(text(f"UPDATE bank_lines SET {change}"))  # noqa: S608 - written above
