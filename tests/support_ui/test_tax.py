"""Tax on the staff's pages: where a customer is taxed, and what an invoice was taxed with."""

import pytest

from tests.invoicing.taxed import load, profile, rates_file
from tests.support_ui.conftest import Desk, Page, Site


@pytest.fixture
def agent(site: Site) -> Desk:
    return site.desk("agent@demo.test")


def test_staff_say_where_a_customer_is_taxed_and_read_who_said_so(site: Site, agent: Desk) -> None:
    customer = site.customer("Northwind")
    url = f"/support/customers/{customer}/tax"
    assert "invoices carry no tax" in agent.page(f"/support/customers/{customer}").text
    answer = agent.submit(url, url, country="ch", tax_id="CHE-100.155.212", tax_id_type="ch_uid", reason="By e-mail")
    page = agent.follow(answer)
    for words in ("Taxed in CH since", "CHE100155212", "Swiss UID", "agent@demo.test", "By e-mail"):
        assert words in page.text
    assert page.form(url).fields["tax_id"] == "CHE100155212"  # what is changed begins with what counts
    assert page.form(url).fields["reason"] == ""
    assert "CHE100155212" in agent.page(f"/support/customers/{customer}").text


def test_a_slip_in_a_tax_id_is_said_at_its_field_and_keeps_what_was_typed(site: Site, agent: Desk) -> None:
    customer = site.customer("Northwind")
    url = f"/support/customers/{customer}/tax"
    answer = agent.submit(url, url, country="DE", tax_id="DE12", tax_id_type="eu_vat", reason="By e-mail")
    assert answer.status_code == 422
    page = Page(answer.text)
    assert "is no EU VAT number" in page.text
    assert page.form(url).fields["tax_id"] == "DE12"


def test_a_viewer_reads_and_changes_nothing(site: Site) -> None:
    customer = site.customer("Northwind")
    page = site.desk("viewer@demo.test").page(f"/support/customers/{customer}/tax")
    assert all("/tax" not in form.action for form in page.forms)


def test_an_invoice_shows_each_tax_before_and_after_it_is_final(site: Site, agent: Desk) -> None:
    load(site.engine, rates_file(("DE", "VAT", "19")))
    site.customer("Northwind")
    profile(site.engine, "org-Northwind", "DE")
    draft = site.draft("Northwind")
    page = agent.page(draft.url)
    for words in ("VAT 19 % (DE): 4.18 USD on top", "26.18 USD is due", "With tax 26.18 USD"):
        assert words in page.text
    agent.submit(draft.url, f"{draft.url}/finalization")
    page = agent.page(draft.url)
    for words in ("VAT 19 % (DE) 4.18 USD", "With tax 26.18 USD", "Rounded 22.00 USD"):
        assert words in page.text


def test_a_legal_note_stands_on_the_invoice(site: Site, agent: Desk) -> None:
    site.customer("Northwind")
    profile(site.engine, "org-Northwind", "DE", status="exempt", legal_note="Exempt as a school")
    draft = site.draft("Northwind")
    agent.submit(draft.url, f"{draft.url}/finalization")
    page = agent.page(draft.url)
    assert "Exempt from tax (DE)" in page.text
    assert "Exempt as a school" in page.text
