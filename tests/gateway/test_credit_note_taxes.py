"""Tax that a credit note gives back stands at Stripe as well: its total and its tax are ours to the minor unit."""

from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from invoicing.tables import Invoice
from invoicing.tax.credits import TaxGivenBack, credit_note_taxes_of
from invoicing.tax.tables import InvoiceTax
from stripe_gateway import taxes
from stripe_gateway.amounts import to_minor
from stripe_gateway.client import Json
from stripe_gateway.reconciliation import Asked
from tests.gateway import movement as do
from tests.gateway.conftest import Town, now
from tests.invoicing.taxed import load, price, profile, rates_file, use_priced


def taxed(
    town: Town, *, currency: str = "USD", country: str = "CA", state: str = "QC", card: str | None = None
) -> Invoice:
    """An invoice over two items, one with its tax inside, sent to Stripe."""
    company = town.company
    load(
        company.engine,
        rates_file(("CA", "GST", "5"), ("CA-QC", "QST", "9.975"), ("CA", "Twin", "5"), ("DE", "VAT", "19")),
    )
    company.customer("acme", currency=currency)
    profile(company.engine, "acme", country, state=state)
    if card is not None:
        town.gateway.set_payment_method(customer_id=customer_id_for("acme"), payment_method=card, now=now())
    for item, inclusive, amount in (("top", False, "3333.33"), ("inside", True, "777.77")):
        key = price(company.engine, item, currency, inclusive=inclusive)
        use_priced(company, "acme", "2025-06-03", amount, item=item, price_id=key)
    company.close("2025-07-02")
    company.finalize_due("2025-07-10")
    assert town.sync().synced == 1
    return company.invoice("acme", "2025-06").invoice


def differences(town: Town) -> set[str]:
    """The kinds of difference between the books and Stripe."""
    report = town.gateway.reconcile(now=now(), asked=Asked(is_full=True))
    return {one.kind for one in report.differences}


def notes(town: Town) -> list[tuple[Json, dict[bool, int], int]]:
    """Each note at Stripe, our taxes of it by being inside, and our total; in minor units, in order of the numbers."""
    by_id = {note["metadata"]["ledger_credit_note_id"]: note for note in town.gateway.client.list_credit_notes()}
    found = []
    for ours in sorted(do.credit_notes(town), key=lambda note: note.seq):
        with Session(town.engine) as session:
            parts = credit_note_taxes_of(session, note=ours)
        at_stripe = by_id[str(ours.id)]
        currency = at_stripe["currency"].upper()
        sums = {
            inclusive: sum(to_minor(part.amount, currency) for part in parts if part.tax.inclusive is inclusive)
            for inclusive in (False, True)
        }
        found.append((at_stripe, sums, to_minor(ours.amount, currency)))
    return found


def assert_alike(note: Json, ours: dict[bool, int], total: int) -> None:
    assert note["total"] == note["amount"] == total
    by_behavior = {
        inclusive: sum(tax["amount"] for tax in note["total_taxes"] if tax["tax_behavior"] == word)
        for inclusive, word in ((False, "exclusive"), (True, "inclusive"))
    }
    assert by_behavior == ours
    assert note["subtotal"] == total - ours[False]
    assert note["total_excluding_tax"] == total - ours[False] - ours[True]


@pytest.mark.parametrize("currency", ["USD", "JPY", "KWD"])
def test_notes_that_take_back_a_whole_invoice_give_its_taxes_back_at_stripe_too(town: Town, currency: str) -> None:
    """Two taxes on top and two inside, a third of them like another one, in three notes that do not divide evenly."""
    invoice = taxed(town, currency=currency)
    assert invoice.total is not None
    first = Decimal(1000)
    amounts = [first, Decimal(7), invoice.total - first - 7]
    for number, amount in enumerate(amounts, 1):
        do.credit(town, invoice, str(amount), number=number)
        town.sync()
    found = notes(town)
    assert len(found) == 3
    for note, ours, total in found:
        assert sum(ours.values()) > 0
        assert_alike(note, ours, total)
    at_stripe = do.at_stripe(town, invoice)
    given_back: dict[str, int] = {}
    for tax in (tax for note, _, _ in found for tax in note["total_taxes"]):
        rate = tax["tax_rate_details"]["tax_rate"]
        given_back[rate] = given_back.get(rate, 0) + tax["amount"]
    charged = {tax["tax_rate_details"]["tax_rate"]: tax["amount"] for tax in at_stripe["total_taxes"]}
    assert given_back == charged, "each of Stripe's rates, by itself"
    do.check(town)


def test_a_refund_of_a_taxed_invoice_names_its_tax(hooked: Town) -> None:
    invoice = taxed(hooked, card="pm_card_visa")
    do.pump(hooked)
    do.credit(hooked, invoice, "100")
    hooked.sync()
    do.pump(hooked)
    assert not hooked.events("parked")
    [(note, ours, total)] = notes(hooked)
    assert (note["post_payment_amount"], len(note["refunds"])) == (total, 1)
    assert_alike(note, ours, total)
    assert differences(hooked) == set()
    do.check(hooked)


def test_a_note_without_tax_is_sent_by_its_amount_alone(town: Town) -> None:
    invoice = do.standing(town, "acme", "100")
    do.credit(town, invoice, "30")
    town.sync()
    [note] = town.gateway.client.list_credit_notes()
    assert (note["total"], note["total_taxes"], note["lines"]["data"][0]["description"]) == (3000, [], None)


def test_a_tax_that_was_altered_at_stripe_is_found(town: Town) -> None:
    invoice = taxed(town)
    do.credit(town, invoice, "100")
    town.sync()
    [(note, _, _)] = notes(town)
    altered = [{**tax, "amount": tax["amount"] + 1} for tax in note["total_taxes"][:1]] + note["total_taxes"][1:]
    town.sandbox.post("drift", object=note["id"], set={"total_taxes": altered})
    assert "credit_note_tax_differs" in differences(town)


def tax(number: int, amount: str, *, taxable: str = "100", inclusive: bool = False) -> InvoiceTax:
    return InvoiceTax(
        id=UUID(int=number), treatment="rate", jurisdiction="CA", name=f"Tax {number}", percent=Decimal(5),
        inclusive=inclusive, taxable=Decimal(taxable), amount=Decimal(amount),
    )  # fmt: skip


def stands(rate: str, amount: int, *, taxable: int = 10000, behavior: str = "exclusive") -> Json:
    return {
        "amount": amount, "taxable_amount": taxable, "tax_behavior": behavior, "tax_rate_details": {"tax_rate": rate},
    }  # fmt: skip


def test_each_of_our_taxes_is_found_by_side_amount_and_base() -> None:
    ours = [tax(1, "5.00"), tax(2, "5.00", inclusive=True), tax(3, "5.00", taxable="50"), tax(4, "0")]
    at_stripe = [stands("c", 500, taxable=5000), stands("b", 500, behavior="inclusive"), stands("a", 500)]
    given = [TaxGivenBack(one, Decimal("1.25")) for one in ours[:3]]
    found = taxes.credited(given, of=ours, at_stripe=at_stripe, currency="USD")
    assert found is not None
    assert [(one["tax_rate"], one["amount"], one["taxable_amount"]) for one in found] == [
        ("a", 125, 2500),
        ("b", 125, 2500),
        ("c", 125, 1250),
    ]


def test_what_stripe_shows_otherwise_is_not_guessed() -> None:
    given = [TaxGivenBack(tax(1, "5.00"), Decimal("1.25"))]
    for at_stripe in ([], [stands("a", 501)], [stands("a", 500, behavior="inclusive")]):
        assert taxes.credited(given, of=[tax(1, "5.00")], at_stripe=at_stripe, currency="USD") is None
    many = [tax(number, "5.00") for number in range(21)]
    given = [TaxGivenBack(one, Decimal(1)) for one in many]
    assert taxes.credited(given, of=many, at_stripe=[stands(str(n), 500) for n in range(21)], currency="USD") is None
