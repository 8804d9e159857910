"""Tax in the panel: the same on the draft as on the invoice, and nobody else's."""

from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.invoicing.taxed import load, profile, rates_file
from tests.panel.conftest import Site, at


def test_the_draft_says_what_the_invoice_will_say(site: Site) -> None:
    load(site.engine, rates_file(("DE", "VAT", "19")))
    site.customer("acme")
    site.customer("other")
    for name in ("acme", "other"):
        profile(site.engine, name, "DE", now=at("2026-01-02"))
    site.use("acme", "2026-10-03", "40.004")
    site.close("2026-11-01")
    site.open("acme")
    invoice = site.invoice_id("acme", "2026-10")
    words = site.text(f"/billing/invoices/{invoice}")
    for part in ("Lines together $40.00", "VAT 19 % (DE) $7.60", "Total so far $47.60"):
        assert part in words
    assert "$47.60" in site.text("/billing/invoices")
    site.finalize("acme", "2026-10", on="2026-11-03")
    words = site.text(f"/billing/invoices/{invoice}")
    for part in ("Lines together $40.00", "VAT 19 % (DE) $7.60", "Total $47.60"):
        assert part in words


def test_the_period_so_far_says_what_an_invoice_over_it_would_say(site: Site) -> None:
    load(site.engine, rates_file(("DE", "VAT", "19")))
    site.customer("acme")
    profile(site.engine, "acme", "DE", now=at("2026-01-02"))
    site.use("acme", "2026-11-03", "40.004")
    site.open("acme")
    words = site.text("/billing/")
    assert "VAT 19 % (DE): $7.60" in words
    assert "with tax $47.60" in words
    site.close("2026-12-01")
    site.finalize("acme", "2026-11", on="2026-12-03")
    assert "Total $47.60" in site.text(f"/billing/invoices/{site.invoice_id('acme', '2026-11')}")


def test_a_customer_reads_why_no_tax_is_due(site: Site) -> None:
    site.customer("acme")
    profile(site.engine, "acme", "DE", now=at("2026-01-02"), tax_id="DE123456789", tax_id_type="eu_vat")
    site.use("acme", "2026-10-03", "40")
    site.close("2026-11-01")
    site.open("acme")
    invoice = site.finalize("acme", "2026-10", on="2026-11-03")
    words = site.text(f"/billing/invoices/{invoice}")
    assert "Reverse charge (DE) $0.00" in words
    assert "VAT number of the recipient: DE123456789" in words


def test_without_a_panel_session_no_tax_of_anybody_is_read(site: Site) -> None:
    load(site.engine, rates_file(("DE", "VAT", "19")))
    site.customer("acme")
    profile(site.engine, "acme", "DE", now=at("2026-01-02"))
    site.use("acme", "2026-10-03", "40")
    site.close("2026-11-01")
    site.finalize("acme", "2026-10", on="2026-11-03")
    engine = site.app.extensions["billing"].panel_engine
    with Session(engine) as session:
        for table in ("invoice_taxes", "invoice_line_taxes", "credit_note_taxes"):
            assert session.scalar(text(f"SELECT count(*) FROM {table}")) == 0  # noqa: S608 - our own names
        assert session.scalar(text("SELECT count(country) FROM tax_profiles")) == 0
