"""Paying early: one button, one invoice, and what is used afterwards on the next."""

import re

from werkzeug.test import TestResponse

from tests.panel.conftest import Site


def test_what_was_used_so_far_becomes_an_invoice_at_once(site: Site) -> None:
    customer = site.customer("acme")
    site.use("acme", "2026-11-03", "10.50")
    site.open("acme")
    answer = press(site)
    assert answer.status_code == 303
    assert "$10.50" in site.text(answer.headers["Location"])
    assert [order.amount_due for order in site.provider.orders.values() if order.customer_id == customer] == [10.5]
    assert "Nothing was used in this period yet" in site.text("/billing/")


def test_two_clicks_make_one_invoice(site: Site) -> None:
    site.customer("acme")
    site.use("acme", "2026-11-03", "10.50")
    site.open("acme")
    page = site.get("/billing/")
    first = press(site, page)
    site.use("acme", "2026-11-15", "3")
    assert press(site, page).headers["Location"] == first.headers["Location"]
    assert len(site.provider.orders) == 1


def test_what_is_too_small_to_collect_stays_where_it_is_and_the_customer_is_told(site: Site) -> None:
    site.customer("acme")
    site.use("acme", "2026-11-03", "0.20")
    site.open("acme")
    answer = press(site)
    assert answer.status_code == 409
    assert "too little to be paid on its own" in answer.get_data(as_text=True)
    assert "Total so far $0.20" in site.text("/billing/")
    assert site.provider.orders == {}


def test_without_usage_there_is_no_button_and_an_old_page_does_nothing(site: Site) -> None:
    site.customer("acme")
    site.open("acme")
    assert "/billing/bill-now" not in site.get("/billing/")
    site.use("acme", "2026-11-03", "10.50")
    page = site.get("/billing/").replace("2026-11-01T", "2026-10-01T")
    assert "Look at what is unbilled now" in press(site, page).get_data(as_text=True)
    assert site.provider.orders == {}


def press(site: Site, page: str | None = None) -> TestResponse:
    """The button, with what its form sends."""
    fields = dict(re.findall(r'name="(csrf_token|period_start)" value="([^"]+)"', page or site.get("/billing/")))
    return site.client.post("/billing/bill-now", data=fields)
