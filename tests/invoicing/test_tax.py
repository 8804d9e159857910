"""Tax: on top or inside, by place and time; given back with credit notes, to the last minor unit."""

from decimal import Decimal

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.database import normalise_url
from invoicing.adjustments import waive_line
from invoicing.customers import customer_id_for
from invoicing.movements.credit_notes import credit_notes_of
from invoicing.settings import Settings
from invoicing.tables import Invoice
from invoicing.tax.credits import credit_note_taxes_of
from invoicing.tax.invoices import taxes_of, taxes_of_line
from invoicing.tax.tables import InvoiceTax
from ledger import accounts
from ledger.balances import balances
from tests.invoicing.conftest import Company, at
from tests.invoicing.desk import Desk
from tests.invoicing.taxed import load, price, profile, rates_file, use_priced

D = Decimal
GERMANY = ("DE", "VAT", "19")


def taxes(company: Company, name: str, invoice: Invoice) -> list[InvoiceTax]:
    with Session(company.engine, expire_on_commit=False) as session:
        return taxes_of(session, customer_id=customer_id_for(name), invoice_id=invoice.id)


def owed(company: Company, name: str, account: str = accounts.TAX) -> Decimal:
    with Session(company.engine) as session:
        return balances(session, customer_id=customer_id_for(name)).get(account, D(0))


def taxed_desk(company: Company, *, used: str = "100", credit: dict[str, str] | None = None) -> Desk:
    """A German customer with one final invoice, 19 % on top."""
    load(company.engine, rates_file(GERMANY))
    company.customer("acme")
    profile(company.engine, "acme", "DE")
    return Desk(company, used=used, credit=credit)


def test_who_has_no_tax_profile_is_billed_as_before(company: Company) -> None:
    load(company.engine, rates_file(GERMANY))
    desk = Desk(company)
    invoice = desk.invoice()
    assert (invoice.total, invoice.tax, invoice.tax_included) == (D(100), D(0), D(0))
    assert taxes(company, "acme", invoice) == []
    assert all(account != accounts.TAX for _, *pair, _ in desk.journal() for account in pair)
    desk.check()


def test_tax_comes_on_top_of_what_was_used_and_is_owed_from_the_moment_of_the_invoice(company: Company) -> None:
    desk = taxed_desk(company, used="100.337")
    invoice = desk.invoice()
    # 19 % of the exact 100.337 is 19.06403.
    assert (invoice.total, invoice.tax, invoice.amount_due) == (D("119.40"), D("19.06"), D("119.40"))
    assert desk.journal()[-3:] == [
        ("rounding", "assets:unbilled", "income:rounding", "0.003"),
        ("finalization", "assets:receivable", "assets:unbilled", "100.34"),
        ("tax", "assets:receivable", "liabilities:tax", "19.06"),
    ]
    (tax,) = taxes(company, "acme", invoice)
    assert (tax.name, tax.jurisdiction, tax.percent, tax.taxable, tax.amount) == (
        "VAT", "DE", D(19), D("100.34"), D("19.06"),
    )  # fmt: skip
    desk.pay("119.40")
    assert desk.invoice().state == "paid"
    desk.check()


def test_a_price_that_includes_tax_never_changes_by_a_cent(company: Company) -> None:
    company.customer("home")
    load(company.engine, rates_file(GERMANY))
    profile(company.engine, "home", "DE")
    shelf = price(company.engine, "machine", "USD", inclusive=True)
    use_priced(company, "home", "2025-06-03", "29.99", item="machine", price_id=shelf)
    company.close("2025-07-01")
    view = company.finalize("home", "2025-06", on="2025-07-02")
    assert (view.invoice.total, view.invoice.tax, view.invoice.tax_included) == (D("29.99"), D(0), D("4.79"))
    assert owed(company, "home") == D("4.79")
    assert owed(company, "home", accounts.TAX_INCLUDED) == D("-4.79")
    (tax,) = taxes(company, "home", view.invoice)
    assert (tax.inclusive, tax.taxable, tax.amount) == (True, D("25.20"), D("4.79"))
    company.check()


def test_one_line_bears_the_taxes_of_country_and_state_and_an_item_its_own_rate(company: Company) -> None:
    company.customer("quebec")
    price(company.engine, "book", "USD", inclusive=False)
    load(
        company.engine,
        rates_file(("CA", "GST", "5"), ("CA-QC", "QST", "9.975"), ("CA-ON", "HST", "8"), ("CA", "GST", "0", "book")),
    )
    profile(company.engine, "quebec", "CA", state="QC")
    company.use("quebec", "2025-06-03", "200")
    company.use("quebec", "2025-06-03", "100", item="book")
    company.close("2025-07-01")
    view = company.finalize("quebec", "2025-06", on="2025-07-02")
    found = {(t.jurisdiction, t.percent): (t.taxable, t.amount) for t in taxes(company, "quebec", view.invoice)}
    assert found == {
        ("CA", D(5)): (D(200), D(10)),
        ("CA", D(0)): (D(100), D(0)),
        ("CA-QC", D("9.975")): (D(300), D("29.92")),  # 29.925: half to even
    }
    machine = next(line for line in view.lines if line.item == "machine")
    with Session(company.engine) as session:
        shares = taxes_of_line(session, view.invoice, view.lines, line_id=machine.id)
        assert [(share.title, share.amount) for share in shares] == [
            ("GST 5 % (CA)", D(10)),
            ("QST 9.975 % (CA-QC)", D("19.95")),
        ]
    company.check()


def test_a_business_in_another_country_of_the_union_owes_the_tax_itself_and_the_invoice_says_so(
    company: Company,
) -> None:
    company.customer("gmbh")
    load(company.engine, rates_file(GERMANY))
    row, _ = profile(company.engine, "gmbh", "DE", tax_id="DE 123 456 789", tax_id_type="eu_vat")
    assert row.status == "reverse_charge"
    company.use("gmbh", "2025-06-03", "100")
    company.close("2025-07-01")
    view = company.finalize("gmbh", "2025-06", on="2025-07-02")
    assert (view.invoice.total, view.invoice.tax) == (D(100), D(0))
    (tax,) = taxes(company, "gmbh", view.invoice)
    assert (tax.treatment, tax.taxable, tax.amount) == ("reverse_charge", D(100), D(0))
    assert "Reverse charge" in str(tax.legal_note)
    assert "DE123456789" in str(tax.legal_note)
    order = company.remembered.orders[view.invoice.id]
    assert order.legal_notes == (tax.legal_note,)
    company.check()


def test_a_period_is_taxed_by_what_is_valid_in_its_last_instant(company: Company) -> None:
    company.customer("mover")
    load(company.engine, rates_file(GERMANY, ("FR", "TVA", "20")))
    profile(company.engine, "mover", "DE")
    company.use("mover", "2025-06-03", "100")
    company.use("mover", "2025-07-03", "100")
    profile(company.engine, "mover", "FR", valid_from=at("2025-07-01"), now=at("2025-06-20"))
    company.close("2025-08-01")
    june = company.finalize("mover", "2025-06", on="2025-08-02").invoice
    july = company.finalize("mover", "2025-07", on="2025-08-02").invoice
    assert (june.tax, july.tax) == (D(19), D(20))


def test_a_waived_line_takes_its_tax_with_it(company: Company) -> None:
    company.customer("home")
    load(company.engine, rates_file(GERMANY))
    profile(company.engine, "home", "DE")
    shelf = price(company.engine, "machine", "USD", inclusive=True)
    use_priced(company, "home", "2025-06-03", "29.99", item="machine", price_id=shelf)
    company.use("home", "2025-06-03", "50", item="other")
    company.close("2025-07-01")
    draft = company.invoice("home", "2025-06")
    with Session(company.engine) as session, session.begin():
        waive_line(
            session,
            customer_id=draft.invoice.customer_id,
            invoice_id=draft.invoice.id,
            expected_version=draft.invoice.version,
            line_id=next(line.id for line in draft.lines if line.item == "machine"),
            reason="Ours",
            actor="test",
            settings=Settings(),
            now=at("2025-07-01"),
        )
    invoice = company.finalize("home", "2025-06", on="2025-07-02").invoice
    assert (invoice.total, invoice.tax, invoice.tax_included) == (D("59.50"), D("9.50"), D(0))
    company.check()


def test_what_is_carried_forward_is_taxed_once_by_the_invoice_that_bills_it(company: Company) -> None:
    company.customer("small")
    load(company.engine, rates_file(GERMANY))
    profile(company.engine, "small", "DE")
    shelf = price(company.engine, "machine", "USD", inclusive=True)
    use_priced(company, "small", "2025-06-03", "0.20", item="machine", price_id=shelf)
    company.use("small", "2025-06-03", "0.20", item="other")
    company.use("small", "2025-07-03", "10", item="other")
    company.close("2025-07-01")
    assert company.finalize("small", "2025-06", on="2025-07-02").invoice.state == "carried_forward"
    assert owed(company, "small") == 0
    company.close("2025-08-01")
    invoice = company.finalize("small", "2025-07", on="2025-08-02").invoice
    # 19 % of 10.20 on top; inside the 0.20 that was carried 0.03.
    assert (invoice.total, invoice.tax, invoice.tax_included) == (D("12.34"), D("1.94"), D("0.03"))
    company.check()


def test_an_amount_that_reaches_the_minimum_with_its_tax_is_collected(company: Company) -> None:
    """0.45 is below the minimum of 0.50, 0.54 with tax is not."""
    desk = taxed_desk(company, used="0.45")
    assert (desk.invoice().state, desk.invoice().amount_due) == ("final", D("0.54"))


def test_credits_pay_the_tax_as_well(company: Company) -> None:
    desk = taxed_desk(company, credit={"promotional": "119"})
    assert (desk.invoice().state, desk.invoice().amount_due) == ("paid", D(0))
    desk.check()


def test_partial_credit_notes_together_give_back_exactly_the_tax(company: Company) -> None:
    desk = taxed_desk(company, used="33.33")
    assert desk.invoice().total == D("39.66")
    desk.pay("20")
    for amount in ("0.01", "13.21", "13.22", "13.22"):
        desk.ask("credit_note", amount, paid_part="keep")
    with Session(desk.engine) as session:
        notes = credit_notes_of(session, customer_id=desk.customer_id, invoice_id=desk.invoice_id)
        parts = [sum(part.amount for part in credit_note_taxes_of(session, note=note)) for note in notes]
    assert parts == [D(0), D("2.11"), D("2.11"), D("2.11")]
    assert sum(parts) == desk.invoice().tax == D("6.33")
    assert owed(company, "acme") == 0
    desk.check()


def test_a_credited_price_that_includes_tax_gives_back_the_tax_inside(company: Company) -> None:
    load(company.engine, rates_file(GERMANY))
    company.customer("acme")
    profile(company.engine, "acme", "DE")
    shelf = price(company.engine, "gadget", "USD", inclusive=True)
    use_priced(company, "acme", "2025-06-04", "119", item="gadget", price_id=shelf)
    desk = Desk(company, used="0.004")
    desk.ask("credit_note", "59.50", paid_part="keep")
    assert owed(company, "acme") == D("9.50")
    desk.ask("credit_note", "59.50", paid_part="keep")
    assert owed(company, "acme") == owed(company, "acme", accounts.TAX_INCLUDED) == 0
    desk.check()


def test_a_refund_that_did_not_arrive_makes_its_tax_owed_again(company: Company) -> None:
    desk = taxed_desk(company)
    desk.pay("119")
    refund = desk.foreign_refund("59.50")
    assert owed(company, "acme") == D("9.50")
    desk.settle(refund, "failed", refund.external_id)
    assert owed(company, "acme") == D(19)
    desk.check()


def test_a_void_invoice_owes_no_tax_and_its_successor_owes_its_own(company: Company) -> None:
    desk = taxed_desk(company)
    desk.done(desk.ask("void", then="rebill"))
    assert owed(company, "acme") == 0
    company.finalize_due("2025-08-01")
    assert owed(company, "acme") == D(19)
    desk.check()


def test_a_loss_leaves_the_tax_where_it_is(company: Company) -> None:
    desk = taxed_desk(company)
    desk.done(desk.approve(desk.ask("write_off")))
    assert (desk.invoice().state, owed(company, "acme")) == ("uncollectible", D(19))
    desk.check()


RATE = "INSERT INTO tax_rates SELECT gen_random_uuid(), {}, '2025-01-01Z', NULL, now(), 'x' FROM tax_rates"
PROFILE = (
    "INSERT INTO tax_profiles SELECT customer_id, 2, country, state, {}, '2025-{}-15Z', reason, actor, now() "
    "FROM tax_profiles"
)
ATTACKS = {
    "another tax": ("UPDATE invoices SET tax = tax + 1 WHERE number IS NOT NULL", "tax is written once"),
    "a tax added": (
        "INSERT INTO invoice_taxes SELECT customer_id, invoice_id, gen_random_uuid(), 9, 'rate', NULL, 'DE', 'VAT', 1, "
        "false, 1, 1, NULL FROM invoice_taxes",
        "no draft",
    ),
    "two rates at once": (RATE.format("jurisdiction, name, 20, item"), "tax_rates_do_not_overlap"),
    "a rate of nowhere": (RATE.format("'', name, 20, item"), "tax_rates_have_a_jurisdiction"),
    "more than everything": (RATE.format("'FR', name, 100.1, item"), "tax_rates_are_percentages"),
    "another percentage": ("UPDATE tax_rates SET percent = 7", "a rate never changes"),
    "ended too early": ("UPDATE tax_rates SET valid_until = '2025-06-15Z'", "an invoice was taxed with it"),
    "a closed period": (PROFILE.format("tax_id, tax_id_type, status, legal_note", "06"), "in a closed period"),
    "half a tax id": (PROFILE.format("'DE12', 'eu_vat', status, legal_note", "08"), "tax_profiles_tax_id_form"),
    "exempt, and nobody says why": (
        PROFILE.format("tax_id, tax_id_type, 'exempt', NULL", "08"),
        "tax_profiles_say_why_untaxed",
    ),
    "reverse charge without a number": (
        PROFILE.format("tax_id, tax_id_type, 'reverse_charge', 'x'", "08"),
        "tax_profiles_reverse_charge",
    ),
}


@pytest.mark.parametrize(("statement", "why"), ATTACKS.values(), ids=ATTACKS.keys())
def test_postgres_refuses_what_would_make_tax_wrong(company: Company, statement: str, why: str) -> None:
    taxed_desk(company)
    with pytest.raises(IntegrityError, match=why), company.engine.begin() as connection:
        connection.execute(text(statement))


@pytest.mark.parametrize("amount", ["9.51", "-1"], ids=["more than is left", "of another sign"])
def test_postgres_lets_no_credit_note_give_back_more_tax_than_there_is(company: Company, amount: str) -> None:
    """A note of 59.50 gave back 9.50 of 19."""
    desk = taxed_desk(company)
    desk.ask("credit_note", "59.50", paid_part="keep")
    forged = (
        "INSERT INTO credit_note_taxes SELECT customer_id, credit_note_id, invoice_id, invoice_tax_id, :amount "
        "FROM credit_note_taxes"
    )
    with pytest.raises(IntegrityError, match="more than the 19"), company.engine.begin() as connection:
        connection.execute(text(forged), {"amount": D(amount)})


@pytest.mark.parametrize(
    ("share", "why"),
    [(None, "are not what lines"), (D(18), "of VAT the lines have 18 of 100, and the tax is 19")],
    ids=["no tax", "less on the lines"],
)
def test_an_invoice_whose_sums_do_not_fit_its_taxes_never_becomes_final(
    company: Company, share: Decimal | None, why: str
) -> None:
    load(company.engine, rates_file(GERMANY))
    company.customer("acme")
    profile(company.engine, "acme", "DE")
    company.use("acme", "2025-06-03", "100")
    company.close("2025-07-01")
    steps = [
        "UPDATE invoice_lines SET rounded = amount",
        "UPDATE invoices SET number = 'X-0001', number_seq = 1, provider = 'stripe', exact_total = 100, total = 119,"
        " tax = 19, credits_applied = 0, amount_due = 119, finalized_at = now(), state = 'final'",
    ]
    if share is not None:
        steps[1:1] = [
            "INSERT INTO invoice_taxes SELECT customer_id, id, id, 1, 'rate', NULL, 'DE', 'VAT', 19, false, 100, 19,"
            " NULL FROM invoices",
            "INSERT INTO invoice_line_taxes SELECT customer_id, invoice_id, invoice_id, id, 100, :share"
            " FROM invoice_lines",
        ]
    with company.engine.begin() as connection:
        for step in steps[:-1]:
            connection.execute(text(step), {"share": share})
        with pytest.raises(IntegrityError, match=why):
            connection.execute(text(steps[-1]))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE invoice_taxes SET amount = 0",
        "DELETE FROM invoice_taxes",
        "UPDATE invoice_line_taxes SET amount = 0",
        "DELETE FROM invoice_line_taxes",
        "UPDATE credit_note_taxes SET amount = 0",
        "DELETE FROM credit_note_taxes",
        "UPDATE tax_profiles SET country = 'FR'",
        "DELETE FROM tax_profiles",
        "DELETE FROM tax_rates",
    ],
)
def test_not_even_the_owner_changes_what_an_invoice_was_taxed_with(database_url: str, statement: str) -> None:
    engine = create_engine(normalise_url(database_url))
    with pytest.raises(IntegrityError, match="never changed"), engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.mark.parametrize(("dear", "cheap", "total"), [("100", "-100", "12"), ("100", "-106", "5.58")])
def test_what_comes_to_nothing_or_less_can_still_owe_tax(company: Company, dear: str, cheap: str, total: str) -> None:
    """19 % of what was used, 7 % of what was taken back: the net is not above 0, the tax makes it worth collecting."""
    company.customer("mixed")
    price(company.engine, "book", "USD", inclusive=False)
    load(company.engine, rates_file(GERMANY, ("DE", "VAT", "7", "book")))
    profile(company.engine, "mixed", "DE")
    company.use("mixed", "2025-06-03", dear)
    company.use("mixed", "2025-06-04", cheap, item="book")
    company.close("2025-07-01")
    invoice = company.finalize("mixed", "2025-06", on="2025-07-02").invoice
    assert (invoice.state, invoice.total) == ("final", D(total))
    company.check()


def test_a_negative_tax_is_given_back_by_credit_notes_as_well(company: Company) -> None:
    """19 % of 100 less 7 % of 20: credited in three parts, neither is owed any more."""
    company.customer("acme")
    price(company.engine, "book", "USD", inclusive=False)
    load(company.engine, rates_file(GERMANY, ("DE", "VAT", "7", "book")))
    profile(company.engine, "acme", "DE")
    company.use("acme", "2025-06-04", "-20", item="book")
    desk = Desk(company)
    assert desk.invoice().total == D("97.60")
    for amount in ("33.33", "33.33", "30.94"):
        desk.ask("credit_note", amount)
    assert owed(company, "acme") == 0
    desk.check()
