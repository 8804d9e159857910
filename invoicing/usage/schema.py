"""The shape of one usage event, as the HTTP API, CSV and JSON lines have it alike."""

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError

from invoicing.coded_fields import ExactNumber, Instant, Labels, StrictSchema, Text, coded_errors
from invoicing.usage.intake import MAX_CUSTOMER, MAX_EVENT_ID, RowProblem, UsageRecord


class EventSchema(StrictSchema):
    """One event: `quantity` may be left out only if there is an `amount`."""

    id = Text(required=True, longest=MAX_EVENT_ID)
    customer = Text(required=True, longest=MAX_CUSTOMER)
    item = Text(required=True, longest=200)
    quantity = ExactNumber()
    at = Instant(required=True)
    amount = ExactNumber()
    currency = Text(longest=3, shortest=3)
    labels = Labels()


_SCHEMA = EventSchema()


def read_event(row: int, event: object) -> UsageRecord | list[RowProblem]:
    """The record that `event` (a JSON object, or a CSV row's cells by name) describes, or all that is wrong with it."""
    try:
        loaded: Mapping[str, Any] = _SCHEMA.load(event)  # type: ignore[arg-type] # load() itself refuses what is no mapping
    except ValidationError as error:
        return [
            RowProblem(row, str(path[0]) if path else "event", message.code, str(message))
            for path, message in coded_errors(error.messages)
        ]
    return UsageRecord(
        row=row,
        event_id=loaded["id"],
        customer=loaded["customer"],
        item=loaded["item"],
        quantity=loaded.get("quantity"),
        effective_at=loaded["at"],
        labels=loaded.get("labels", {}),
        amount=loaded.get("amount"),
        currency=loaded.get("currency"),
    )
