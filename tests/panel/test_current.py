"""This period so far: the total, why, and what it may come to."""

from datetime import timedelta
from decimal import Decimal

from sqlalchemy.orm import Session

from invoicing.credit.grants import grant_credit
from ledger import accounts
from tests.panel.conftest import Site, at


def test_the_first_page_says_what_is_owed_and_why(site: Site) -> None:
    """
    2026-11-03  acme  volume   10.50  app web, region ams
    2026-11-10  acme  machine   4.004  app api, region fra
    """
    site.customer("acme")
    site.use("acme", "2026-11-03", "10.50", item="volume", app="web", region="ams", quantity="70", unit="GB-month")
    site.use("acme", "2026-11-10", "4.004", item="machine", app="api", region="fra", quantity="7200", unit="second")
    site.open("acme")
    text = site.text("/billing/")
    assert "Total so far $14.50 exactly 14.504 USD" in text
    assert "Nov 1 – Nov 30, 2026 (UTC)" in text
    assert "Volume 70 GB-months" in text
    assert "Machine 2 h 2 h 7,200 seconds" in text
    assert "Last usage recorded" in text
    assert "web 72% $10.50" in site.text("/billing/?by=app")
    assert "fra 28% $4.00" in site.text("/billing/?by=region")


def test_the_estimate_goes_on_from_the_time_that_passed(site: Site) -> None:
    """Half of November is over; 15.00 so far make 30.00."""
    site.customer("acme")
    site.use("acme", "2026-11-02", "15")
    site.open("acme")
    text = site.text("/billing/")
    assert "Estimate for Nov 30 about $30.00" in text
    assert "if usage goes on as it did from Nov 1, 2026, 00:00 UTC until now" in text


def test_a_customer_who_came_in_the_middle_is_not_judged_by_the_days_before(site: Site) -> None:
    """On the 11th the customer came; 5.00 in five days make 20.00 in the twenty that are the customer's."""
    site.customer("acme", since="2026-11-11")
    site.use("acme", "2026-11-12", "5")
    site.open("acme")
    assert "about $20.00" in site.text("/billing/")


def test_in_the_first_hours_there_is_no_estimate(site: Site) -> None:
    site.now = at("2026-11-01T11:59")
    site.customer("acme")
    site.use("acme", "2026-11-01", "5")
    site.open("acme")
    assert "too early in the period to say" in site.text("/billing/")


def test_what_was_carried_forward_is_explained_and_not_multiplied(site: Site) -> None:
    """0.20 of October is too little to collect. By mid-November 1.00 was used: 1.00 * 2 + 0.20."""
    site.customer("acme")
    site.use("acme", "2026-10-20", "0.20")
    site.close("2026-11-01")
    site.finalize("acme", "2026-10", on="2026-11-02")
    site.use("acme", "2026-11-05", "1")
    site.open("acme")
    text = site.text("/billing/")
    assert "Total so far $1.20" in text
    assert "Carried forward from before: $0.20" in text
    assert "too small to collect on its own" in text
    assert "about $2.20" in text
    assert "Nov 1, 2026 $0.00" in text  # the chart shows what was used, not what was brought along
    assert "Carried forward" in site.text("/billing/invoices")


def test_a_credit_carried_in_does_not_break_the_page(site: Site) -> None:
    site.customer("acme")
    site.use("acme", "2026-10-20", "-3.00")
    site.close("2026-11-01")
    site.finalize("acme", "2026-10", on="2026-11-02")
    site.open("acme")
    text = site.text("/billing/")
    assert "Total so far −$3.00" in text
    assert "came out in your favour" in text
    assert "nothing used yet to go by" in text


def test_a_period_that_is_over_and_not_yet_closed_is_not_forgotten(site: Site) -> None:
    site.now = at("2026-11-01T02:00")
    site.customer("acme")
    site.use("acme", "2026-10-20", "12.34")
    site.open("acme")
    assert "October 2026 is over, with $12.34 so far" in site.text("/billing/")


def test_credits_are_shown(site: Site) -> None:
    customer_id = site.customer("acme")
    with Session(site.engine) as session, session.begin():
        grant_credit(
            session,
            customer_id=customer_id,
            grant_id=customer_id,
            account=accounts.CREDITS_GOODWILL,
            amount=Decimal("25"),
            reason="outage",
            actor="test",
            now=site.now,
        )
    site.open("acme")
    assert "Credits available $25.00 goodwill: $25.00" in site.text("/billing/")


def test_a_new_customer_sees_a_page_without_surprises(site: Site) -> None:
    site.customer("acme", time_zone="America/St_Johns")
    site.open("acme")
    text = site.text("/billing/")
    assert "Total so far $0.00" in text
    assert "Nothing was used in this period yet" in text
    assert "No invoices yet" in text
    for by in ("item", "app", "region", "nonsense"):
        assert "Nothing was used" in site.text(f"/billing/breakdown?by={by}")


def test_many_apps_are_summed_and_listed_in_full_elsewhere(site: Site) -> None:
    site.customer("acme")
    for index in range(30):
        site.use("acme", "2026-11-03", str(index + 1), app=f"app-{index:02d}", item="machine")
    site.open("acme")
    page = site.text("/billing/?by=app")
    assert "app-29" in page
    assert "app-09" not in page
    assert "10 others" in page
    assert "$55.00" in page  # 1 + 2 + .. + 10
    assert "app-00" in site.text("/billing/breakdown?by=app")


def test_names_from_outside_are_text(site: Site) -> None:
    site.customer("<b>acme</b> & sons")
    site.use("<b>acme</b> & sons", "2026-11-03", "1", app='<script>alert("x")</script>')
    site.open("<b>acme</b> & sons")
    page = site.get("/billing/?by=app")
    assert "&lt;script&gt;" in page
    assert "<b>acme" not in page


def test_the_part_that_refreshes_is_the_one_on_the_page(site: Site) -> None:
    site.customer("acme")
    site.use("acme", "2026-11-03", "1", app="web")
    site.open("acme")
    part = site.get("/billing/current?by=app")
    assert "<html" not in part
    assert part in site.get("/billing/?by=app")
    assert 'hx-get="/billing/current?by=app"' in part


def test_the_shown_cents_add_up_to_the_shown_total(site: Site) -> None:
    """Three times 0.335 is 1.005, which is shown as 1.00: 0.34 + 0.33 + 0.33."""
    site.customer("acme")
    for app in ("a", "b", "c"):
        site.use("acme", "2026-11-03", "0.335", app=app)
    site.open("acme")
    text = site.text("/billing/?by=app")
    assert [text.count(amount) for amount in ("$0.34", "$0.33")] == [1, 2]
    assert "Total so far $1.00" in text


def test_days_are_cut_in_the_customers_time_zone(site: Site) -> None:
    """In Auckland (UTC+13) the evening of the 2nd in UTC is the 3rd."""
    site.customer("acme", time_zone="Pacific/Auckland")
    site.use("acme", "2026-11-02T20:00", "1")
    site.open("acme")
    text = site.text("/billing/")
    assert "Nov 3, 2026 $1.00" in text
    assert "Nov 2, 2026 $0.00" in text


def test_the_breakdown_downloads_exactly(site: Site) -> None:
    site.customer("acme")
    site.use("acme", "2026-11-03", "0.000000000001", app="=HYPERLINK(1)")
    site.open("acme")
    answer = site.client.get("/billing/breakdown.csv?by=app")
    assert answer.mimetype == "text/csv"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.get_data(as_text=True).splitlines() == [
        "period_start,period_end,app,note,quantity,unit,unit_price,amount,currency",
        "2026-11-01T00:00:00+00:00,2026-12-01T00:00:00+00:00,'=HYPERLINK(1),,,,,0.000000000001,USD",
    ]


def test_late_usage_is_named_and_not_in_the_chart(site: Site) -> None:
    site.customer("acme")
    site.use("acme", "2026-10-20", "40")
    site.close("2026-11-01")
    site.now += timedelta(days=1)
    site.use("acme", "2026-10-21", "2", app="late")
    site.use("acme", "2026-11-03", "1")
    site.open("acme")
    text = site.text("/billing/")
    assert "Besides, $2.00 for days before this period, recorded late." in text
    assert "recorded late, used in the period from Oct 1, 2026" in text
