"""The history of an invoice, as a person reads it."""

import pytest

from support_ui.history import spoken
from tests.support_ui.conftest import Desk, Site
from tests.support_ui.final import agreed, final


@pytest.fixture
def agent(site: Site) -> Desk:
    return site.desk("agent@demo.test")


def test_every_amount_in_the_history_names_its_currency_and_no_id_of_ours_stands_there(site: Site, agent: Desk) -> None:
    invoice = final(site)
    invoice.pay("25")
    agreed(agent, invoice, "credit_note", {"amount": "5", "paid_part": "keep", "reason": "Outage"})
    text = agent.page(invoice.url).text.partition("History")[2]
    assert "Paid Final, open → Paid amount: 25.00 USD applied to this invoice: 22.00 USD payment: inpay_1" in text
    assert "amount: 5.00 USD of what was paid: 5.00 USD" in text
    assert "what was paid: is kept as prepaid credit" in text
    assert "not owed any more" not in text, "a part of nothing says nothing"
    [movement] = invoice.movements
    assert str(movement.id) not in text


def test_a_code_of_the_provider_is_read_as_words_and_a_sentence_as_it_is() -> None:
    assert spoken("expired_or_canceled_card") == "expired or canceled card"
    assert spoken("Their_own words, see ticket_7") == "Their_own words, see ticket_7"
