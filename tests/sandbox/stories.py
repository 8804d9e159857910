"""Small things that several tests of the sandbox do or look at."""

from typing import Any

import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.receiver import Receiver


def charge_of(sandbox: SandboxProcess, client: stripe.StripeClient, customer_id: str) -> stripe.Charge:
    """The customer's newest charge, after everything that was due happened and was told."""
    sandbox.wait_for_webhooks()
    return client.v1.charges.list({"customer": customer_id}).data[0]


def entries(client: stripe.StripeClient, source: str) -> list[tuple[str, str, int, int]]:
    """(type, reporting category, amount, fee) of an object's balance transactions, newest first."""
    listed = client.v1.balance_transactions.list({"source": source}).data
    return [(entry.type, entry.reporting_category, entry.amount, entry.fee) for entry in listed]


def told(receiver: Receiver, object_id: str) -> list[str]:
    """The types of the events about an object that were taken, sorted: their order at the receiver is not sure."""
    return sorted(event["type"] for event in receiver.accepted() if event["data"]["object"]["id"] == object_id)


def previous(receiver: Receiver, object_id: str, kind: str) -> list[dict[str, Any]]:
    """The `previous_attributes` of the events of a type about an object."""
    return [
        event["data"].get("previous_attributes", {})
        for event in receiver.accepted()
        if event["type"] == kind and event["data"]["object"]["id"] == object_id
    ]
