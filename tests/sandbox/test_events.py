"""What can be asked about events: https://docs.stripe.com/api/events/list."""

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.receiver import Receiver
from tests.sandbox.stories import told

Make = Callable[..., Any]
DAY_S = 86400


def _ids(client: stripe.StripeClient, **params: Any) -> list[str]:
    asked: Any = params
    return [event.id for event in client.v1.events.list(asked).data]


def test_events_are_found_by_type_time_and_cursor(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make
) -> None:
    first = customer(None)
    sandbox.advance(100)
    second = customer(None)
    client.v1.customers.delete(first.id)
    created = _ids(client, type="customer.created")
    assert len(created) == 2
    assert _ids(client, types=["customer.created", "customer.deleted"], limit=2)[1] == created[0]
    assert _ids(client, type="customer.*", limit=100) == _ids(client, limit=100)
    assert _ids(client, type="customer.created", created={"gte": second.created}) == created[:1]
    assert _ids(client, type="customer.created", created={"lt": second.created}) == created[1:]
    assert _ids(client, type="customer.created", ending_before=created[1]) == created[:1]
    assert _ids(client, type="customer.created", starting_after=created[0]) == created[1:]
    with pytest.raises(stripe.InvalidRequestError, match="not both"):
        _ids(client, type="customer.created", types=["customer.deleted"])
    with pytest.raises(stripe.InvalidRequestError, match="at most 20"):
        _ids(client, types=[f"customer.{number}" for number in range(21)])


def test_events_that_were_not_taken_are_found_by_that(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, receiver: Receiver
) -> None:
    customer(None)
    sandbox.wait_for_webhooks()
    sandbox.webhook_mode(drop_probability=1)
    customer(None)
    lost = _ids(client, delivery_success=False)
    assert len(lost) == 1
    assert _ids(client, delivery_success=True) + lost == _ids(client)[1:] + lost


def test_events_are_gone_after_thirty_days(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make
) -> None:
    someone = customer(None)
    event = _ids(client)[0]
    sandbox.advance(29 * DAY_S)
    assert client.v1.events.retrieve(event).type == "customer.created"
    sandbox.advance(2 * DAY_S)
    assert _ids(client) == []
    with pytest.raises(stripe.InvalidRequestError, match="No such event"):
        client.v1.events.retrieve(event)
    assert client.v1.customers.retrieve(someone.id).id == someone.id


def test_what_goes_away_is_told(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, receiver: Receiver
) -> None:
    someone = customer()
    card = someone.invoice_settings.default_payment_method
    client.v1.payment_methods.detach(card)
    client.v1.customers.delete(someone.id)
    sandbox.wait_for_webhooks()
    assert told(receiver, card) == ["payment_method.attached", "payment_method.detached"]
    assert "customer.deleted" in told(receiver, someone.id)
