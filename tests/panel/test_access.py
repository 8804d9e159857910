"""Who gets in, for how long, and that nobody sees another customer's pages."""

from datetime import timedelta
from uuid import UUID

import pytest

from app.panel import sessions
from app.panel.links import SESSION_TTL
from app.panel.views import bp
from tests.panel.conftest import Site, at

OWN_PAGES = (
    "/billing/",
    "/billing/current",
    "/billing/breakdown?by=app",
    "/billing/breakdown.csv",
    "/billing/invoices",
)


def test_looking_at_a_link_uses_nothing_up(site: Site) -> None:
    site.customer("acme")
    path = f"/billing/open/{site.token('acme')}"
    for _ in range(3):
        assert "Open billing" in site.get(path)
        assert site.client.head(path).status_code == 200
    assert site.submit(path).status_code == 303
    assert "This period so far" in site.get("/billing/")


def test_a_link_without_its_forms_token_opens_nothing(site: Site) -> None:
    site.customer("acme")
    token = site.token("acme")
    assert site.client.post(f"/billing/open/{token}").status_code == 400
    assert site.submit(f"/billing/open/{token}").status_code == 303


def test_a_used_link_says_to_go_back_to_the_platform(site: Site) -> None:
    site.customer("acme")
    path = f"/billing/open/{site.token('acme')}"
    site.submit(path)
    answer = site.submit(path)
    assert answer.status_code == 410
    assert "Go back to the platform and open billing again" in answer.get_data(as_text=True)


def test_an_expired_link_says_so(site: Site) -> None:
    site.customer("acme")
    path = f"/billing/open/{site.token('acme')}"
    site.now += timedelta(minutes=10)
    answer = site.submit(path)
    assert answer.status_code == 410
    assert "expired" in answer.get_data(as_text=True)
    assert "Set-Cookie" not in answer.headers


def test_the_cookie_is_the_panels_own_and_out_of_reach_of_scripts(site: Site) -> None:
    site.customer("acme")
    answer = site.submit(f"/billing/open/{site.token('acme')}")
    (cookie,) = [c for c in answer.headers.getlist("Set-Cookie") if c.startswith(sessions.COOKIE)]
    for part in ("HttpOnly", "SameSite=Lax", "Path=/billing", "Max-Age=3600"):
        assert part in cookie


@pytest.mark.parametrize("path", [*OWN_PAGES, f"/billing/invoices/{UUID(int=7)}", "/billing/payment-methods"])
def test_without_a_session_there_is_nothing_but_a_message(site: Site, path: str) -> None:
    assert "Go back to the platform" in site.text(path, status=401)


def test_a_session_ends_an_hour_after_it_began(site: Site) -> None:
    site.customer("acme")
    site.open("acme")
    site.now += SESSION_TTL - timedelta(microseconds=1)
    site.get("/billing/")
    site.now += timedelta(microseconds=1)
    assert "session is over" in site.text("/billing/", status=401)


def test_a_page_that_polls_reloads_itself_when_the_session_ended(site: Site) -> None:
    site.customer("acme")
    site.open("acme")
    site.now += SESSION_TTL
    answer = site.client.get("/billing/current", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Refresh"], answer.data) == (200, "true", b"")


def test_a_cookie_that_we_did_not_sign_is_no_session(site: Site) -> None:
    site.customer("acme")
    client = site.open("acme")
    kept = client.get_cookie(sessions.COOKIE, path=sessions.PATH)
    assert kept is not None
    for forged in (kept.value[:-2] + "xx", kept.value.split(".")[0], "", "null"):
        client.set_cookie(sessions.COOKIE, forged, path=sessions.PATH)
        site.get("/billing/", status=401)


def test_leaving_ends_the_session_wherever_its_cookie_is(site: Site) -> None:
    site.customer("acme")
    client = site.open("acme", return_url="https://platform.test/dashboard")
    assert 'href="https://platform.test/dashboard"' in site.get("/billing/")
    kept = client.get_cookie(sessions.COOKIE, path=sessions.PATH)
    assert kept is not None
    answer = site.submit("/billing/leave", form_on="/billing/")
    assert 'href="https://platform.test/dashboard"' in answer.get_data(as_text=True)
    client.set_cookie(sessions.COOKIE, kept.value, path=sessions.PATH)
    site.get("/billing/", status=401)


def _two_customers(site: Site) -> tuple[UUID, UUID]:
    """One customer with a final invoice, and one who looks around; answers with the invoice and one of its lines."""
    site.customer("acme")
    site.customer("curious")
    site.use("acme", "2026-10-05", "40", app="acme-secret-app")
    site.close("2026-11-01")
    invoice_id = site.finalize("acme", "2026-10", on="2026-11-02")
    site.provider.pages[invoice_id] = "https://provider.test/acme"
    site.open("acme")
    page = site.get(f"/billing/invoices/{invoice_id}")
    line_id = UUID(page.split("/lines/")[1].split('"')[0])
    site.open("curious")
    return invoice_id, line_id


def test_nobody_reaches_another_customers_pages(site: Site) -> None:
    invoice_id, line_id = _two_customers(site)
    tried = 0
    with site.app.test_request_context():
        rules = [rule for rule in site.app.url_map.iter_rules() if rule.endpoint.startswith(f"{bp.name}.")]
    for rule in rules:
        if "invoice_id" not in rule.arguments:
            continue
        values: dict[str, UUID] = {"invoice_id": invoice_id, "line_id": line_id}
        path = site.app.url_map.bind("localhost").build(rule.endpoint, {k: values[k] for k in rule.arguments})
        text = site.get(path, status=404)
        assert "acme" not in text
        tried += 1
    assert tried == 4, "a route with an invoice in it is missing from this test"
    for path in OWN_PAGES:
        assert "acme" not in site.get(path)


def test_the_owner_reaches_the_same_pages(site: Site) -> None:
    invoice_id, line_id = _two_customers(site)
    site.open("acme")
    assert "acme-secret-app" in site.text(f"/billing/invoices/{invoice_id}/lines/{line_id}")
    answer = site.client.get(f"/billing/invoices/{invoice_id}/payment")
    assert (answer.status_code, answer.location) == (303, "https://provider.test/acme")


def test_the_newest_session_decides_whose_pages_a_browser_shows(site: Site) -> None:
    site.customer("acme")
    site.customer("curious")
    client = site.open("acme")
    site.client = client
    site.submit(f"/billing/open/{site.token('curious')}")
    text = site.text("/billing/")
    assert "curious" in text
    assert "acme" not in text
    assert site.now == at("2026-11-16")
