"""The shapes of the API's requests. The rules live in the rooms; an event's shape is `invoicing.usage.schema`'s."""

from uuid import UUID

from marshmallow import fields

from invoicing.coded_fields import MISSING, ExactNumber, Instant, StrictSchema, Text, WholeNumber, shown, wrong
from invoicing.credit.grants import USUAL_PRIORITY
from invoicing.usage.intake import DEFAULT_SOURCE, MAX_SOURCE

MAX_EVENTS = 1_000
"""Events per request."""


class CustomerSchema(StrictSchema):
    """A customer to be created. What is blank is left to the rules for customers, which name all problems at once."""

    external_id = Text(required=True, shortest=0, longest=200)
    name = Text(required=True, shortest=0, longest=200)
    currency = Text(required=True, shortest=0, longest=20)
    time_zone = Text(shortest=0, longest=100)
    anchor_day = WholeNumber()
    email = Text(shortest=0, longest=320, allow_none=True)
    collection_method = Text(shortest=0, longest=20)
    draft_window_s = WholeNumber(allow_none=True)
    provider = Text(shortest=0, longest=40)


class EventList(fields.Field[list[object]]):
    """A list of events; each is read by itself afterwards, so that one answer names every bad one."""

    default_error_messages = MISSING

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> list[object]:
        if not isinstance(value, list):
            raise wrong("not_a_list", f"{shown(value)} is no list of events.")
        if not value:
            raise wrong("no_events", "The list is empty. Send at least one event.")
        return value


class UsageSchema(StrictSchema):
    """A batch of usage. Event ids are the source's own: two sources may use the same ones."""

    events = EventList(required=True)
    source = Text(longest=MAX_SOURCE, load_default=DEFAULT_SOURCE)


class Uuid(fields.Field[UUID]):
    """A UUID, as text."""

    default_error_messages = MISSING

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> UUID:
        try:
            return UUID(str(value) if isinstance(value, str) else "")
        except ValueError:
            raise wrong("not_a_uuid", f"{shown(value)} is no UUID.") from None


class Options(fields.Field[dict[str, object]]):
    """An object; which names and values it may have depends on the kind of movement."""

    default_error_messages = MISSING

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> dict[str, object]:
        if not isinstance(value, dict):
            raise wrong("not_an_object", f"{shown(value)} is no object of names and texts.")
        return value


class Codes(fields.Field[list[str]]):
    """A list of item codes, at least one."""

    default_error_messages = MISSING

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> list[str]:
        if not isinstance(value, list) or not value or not all(isinstance(code, str) and code for code in value):
            raise wrong("not_a_list", f"{shown(value)} is no list of item codes. Leave it out to pay for all items.")
        return value


class MovementSchema(StrictSchema):
    """Something to be begun with a final invoice. `id` is the caller's own, so that it is begun once."""

    id = Uuid(required=True)
    kind = Text(required=True, longest=40)
    amount = ExactNumber(allow_none=True, load_default=None)
    options = Options(load_default=dict)
    reason = Text(required=True, longest=2000)


class EarlyBillSchema(StrictSchema):
    """A bill before the period's end; `period_start` names the period that the caller saw: it is billed once."""

    reason = Text(required=True, longest=2000)
    cause = Text(longest=20, load_default="early")
    period_start = Instant(load_default=None, allow_none=True)


class PlanSchema(StrictSchema):
    """A plan for a customer, now or when the paid time of the present one is over."""

    plan = Text(required=True, longest=60)
    interval = Text(longest=20, load_default="month")
    when = Text(longest=20, load_default="now")
    reason = Text(required=True, longest=2000)


class PlanEndSchema(StrictSchema):
    """The end of a plan, now or when its paid time is over."""

    when = Text(longest=20, load_default="now")
    reason = Text(required=True, longest=2000)


class CreditSchema(StrictSchema):
    """Credit that is given; `id` is the caller's own, `currency` what the caller believes the customer is billed in."""

    id = Uuid(required=True)
    account = Text(longest=60, load_default="liabilities:credits:goodwill")
    amount = ExactNumber(required=True)
    currency = Text(longest=3, load_default=None, allow_none=True)
    priority = WholeNumber(load_default=USUAL_PRIORITY)
    expires_at = Instant(load_default=None, allow_none=True)
    items = Codes(load_default=None, allow_none=True)
    reason = Text(required=True, longest=2000)


class TopUpSchema(StrictSchema):
    """Prepaid credit that is sold; `id` is the caller's own."""

    id = Uuid(required=True)
    amount = ExactNumber(required=True)
    currency = Text(longest=3, load_default=None, allow_none=True)
    expires_at = Instant(load_default=None, allow_none=True)
    reason = Text(longest=2000, load_default="Prepaid credit bought")


class RevocationSchema(StrictSchema):
    """Why a credit is taken back."""

    reason = Text(required=True, longest=2000)


class RefillSchema(StrictSchema):
    """Below which prepaid credit how much is bought; both null: nothing is."""

    threshold = ExactNumber(required=True, allow_none=True)
    amount = ExactNumber(required=True, allow_none=True)


class ThresholdSchema(StrictSchema):
    """From which unbilled amount on a customer is billed at once; null lifts it."""

    amount = ExactNumber(required=True, allow_none=True)
    reason = Text(required=True, longest=2000)


class TaxProfileSchema(StrictSchema):
    """Where the customer is taxed. What is blank or wrong the rules for tax profiles name, all at once."""

    country = Text(required=True, shortest=0, longest=20)
    state = Text(shortest=0, longest=20, allow_none=True, load_default=None)
    tax_id = Text(shortest=0, longest=50, allow_none=True, load_default=None)
    tax_id_type = Text(shortest=0, longest=20, allow_none=True, load_default=None)
    status = Text(shortest=0, longest=20, allow_none=True, load_default=None)
    legal_note = Text(shortest=0, longest=1000, allow_none=True, load_default=None)
    valid_from = Instant(allow_none=True, load_default=None)
    reason = Text(required=True, shortest=0, longest=2000)


class PanelSessionSchema(StrictSchema):
    """A link into the customer's billing panel; `return_url` is where its way back leads."""

    return_url = Text(longest=2000, allow_none=True, load_default=None)


class CustomerQuery(StrictSchema):
    """Which customer to look up."""

    external_id = Text(required=True, longest=200)


class MomentQuery(StrictSchema):
    """Which moment of the past to show; both times may be left out."""

    effective_before = Instant(load_default=None)
    known_at = Instant(load_default=None)


class ListQuery(StrictSchema):
    """How much of a list to show."""

    limit = Text(longest=4)
