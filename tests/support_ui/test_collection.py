"""The collection's page: what is left, how fast it goes, and since when Stripe is away."""

import pytest
from sqlalchemy.orm import Session

from stripe_gateway.breaker import Breaker, BreakerRules
from stripe_gateway.errors import NoAnswer
from tests.support_ui.conftest import Desk, Site

AWAY = BreakerRules(subjects=1, lasting_s=0.0, first_pause_s=3600.0)


@pytest.fixture
def viewer(site: Site) -> Desk:
    return site.desk("viewer@demo.test")


def test_with_nothing_to_collect_it_says_so(viewer: Desk) -> None:
    text = viewer.page("/support/collection").text
    for said in ("Nothing is left", "0 to be sent", "Oldest due None", "None is known."):
        assert said in text
    assert "/support/collection" in viewer.page("/support/").links


def test_a_final_invoice_is_to_be_sent_and_nobody_pretends_to_know_how_long_it_takes(site: Site, viewer: Desk) -> None:
    agent, draft = site.desk("approver@demo.test"), site.draft()
    agent.submit(draft.url, f"{draft.url}/finalization")
    text = viewer.page("/support/collection").text
    assert "1 to be sent" in text
    assert "Unknown: too little was done in the last minute" in text


def test_an_outage_is_named_with_its_beginning_on_both_pages(site: Site, viewer: Desk) -> None:
    Breaker(site.engine, AWAY).failed("inv:1", NoAnswer("The <connection> was cut."))
    for page in ("/support/", "/support/collection"):
        assert "Stripe has not answered since" in viewer.page(page).text
    shown = viewer.page("/support/collection")
    assert "The <connection> was cut." in shown.text
    assert "Going on" in shown.text
    quick = Breaker(site.engine, BreakerRules(subjects=1, lasting_s=0.0, known_for_s=0.0))
    with Session(site.engine) as session, session.begin():
        session.connection().exec_driver_sql("UPDATE stripe_outages SET next_probe_at = since")
    quick.check(lambda: None)
    after = viewer.page("/support/collection").text
    assert "Stripe has not answered since" not in after
    assert "The <connection> was cut." in after, "it stays in the list"
    assert "Stripe has not answered since" not in viewer.page("/support/").text
