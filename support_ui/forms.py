"""Forms: their shape (marshmallow), what was typed, and what is wrong with it. The rules live in invoicing."""

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from flask import request
from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load, validate

from invoicing.credit.grants import USUAL_PRIORITY
from support_ui.moments import read_day

ON_FORM = ""
"""The field name under which errors stand that belong to no single field."""


SEEN = frozenset({
    ON_FORM, "amount", "description", "reason", "account", "invoice_number", "reference", "received_on",
    "priority", "items", "last_day",
    "country", "state", "tax_id", "tax_id_type", "status", "legal_note", "valid_from",
})  # fmt: skip
"""Where templates show errors; those of other fields are hidden inputs, wrong only in forms that no page made."""


class Typed(Schema):
    """Forms as browsers send them: text, with stray white space, and more fields than we ask for."""

    class Meta:
        unknown = EXCLUDE

    @pre_load
    def strip(self, data: dict[str, str], **_: object) -> dict[str, str]:
        return {name: value.strip() for name, value in data.items()}


class Amount(fields.Field[Decimal]):
    """A positive decimal number as people type it: 1,234.50 or 1234.5, without exponents."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Decimal:
        text = str(value).replace(" ", "")
        whole, _, fraction = text.partition(".")
        groups = whole.split(",")
        if len(groups) > 1 and (len(groups[0]) not in (1, 2, 3) or any(len(group) != 3 for group in groups[1:])):
            raise ValidationError("Write the amount like 1,234.50: a point before the decimals.")
        digits = "".join(groups) + fraction
        if not digits or not digits.isascii() or not digits.isdigit() or len(digits) > 40:
            raise ValidationError("Write the amount as a number above 0, like 12.50.")
        try:
            return Decimal(f"{''.join(groups) or '0'}.{fraction or '0'}")
        except InvalidOperation as error:
            raise ValidationError("Write the amount as a number above 0, like 12.50.") from error


class AmountOrNone(fields.Field[Decimal | None]):
    """An amount as people type it, or nothing."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Decimal | None:
        return Amount().deserialize(value, attr, data, **kwargs) if str(value).strip() else None


class DateOrNone(fields.Field[date | None]):
    """A day such as 2025-07-31, or nothing."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> date | None:
        if not str(value).strip():
            return None
        try:
            return date.fromisoformat(str(value))
        except ValueError as error:
            raise ValidationError("Give the day as in 2025-07-31.") from error


def _reason() -> fields.String:
    return fields.String(
        required=True,
        validate=validate.Length(1, 2000, error="Say why, in 1 to 2,000 characters: it stands in the history."),
        error_messages={"required": "Say why, in 1 to 2,000 characters: it stands in the history."},
    )


def _amount() -> Amount:
    return Amount(required=True, error_messages={"required": "Give an amount."})


def _version() -> fields.Integer:
    return fields.Integer(
        required=True,
        validate=validate.Range(min=1),
        error_messages={
            "required": "The form is incomplete: reload the page.",
            "invalid": "The form is incomplete: reload the page.",
        },
    )


class Charge(Typed):
    version = _version()
    amount = _amount()
    description = fields.String(
        required=True,
        validate=validate.Length(1, 500, error="Describe the charge in 1 to 500 characters."),
        error_messages={"required": "Describe the charge in 1 to 500 characters."},
    )
    reason = _reason()


class LineCredit(Typed):
    version = _version()
    line_id = fields.UUID(required=True)
    amount = _amount()
    reason = _reason()


class LineWaiver(Typed):
    version = _version()
    line_id = fields.UUID(required=True)
    reason = _reason()


class Step(Typed):
    """A step on a draft that wants nothing but a reason: hold, release, undo."""

    version = _version()
    reason = _reason()


class Approval(Typed):
    version = _version()


class Finalization(Typed):
    """What the page said would happen, so that nothing else happens."""

    version = _version()
    outcome = fields.String(required=True)
    due = fields.Decimal(required=True)


_WHEN = ("now", "period_end")


class PlanEnd(Typed):
    """The end of a plan, now or when its paid time is over."""

    when = fields.String(required=True, validate=validate.OneOf(_WHEN, error="Choose when."))
    reason = _reason()


class PlanChange(PlanEnd):
    """Another plan: its code and interval, with a space between."""

    plan = fields.String(required=True, validate=validate.Length(1, 100, error="Choose a plan."))


class BillNow(Typed):
    """The period is the one that the page showed, so that a double click bills it once."""

    period_start = fields.AwareDateTime(required=True, error_messages={"required": "Reload the page."})
    cause = fields.String(required=True, validate=validate.OneOf(("early", "leaving"), error="Choose one."))
    reason = _reason()


class Threshold(Typed):
    """An amount, or nothing to lift the threshold."""

    amount = AmountOrNone(required=True, error_messages={"required": "Reload the page."})
    reason = _reason()


class TaxPlace(Typed):
    """Where a customer is taxed. What is wrong with it the rules for tax profiles say, field by field."""

    country = fields.String(required=True, error_messages={"required": "Give the country."})
    state = fields.String(load_default="")
    tax_id = fields.String(load_default="")
    tax_id_type = fields.String(load_default="")
    status = fields.String(load_default="")
    legal_note = fields.String(load_default="")
    valid_from = DateOrNone(load_default=None)
    reason = _reason()


class Codes(fields.Field[list[str] | None]):
    """Item codes with commas or spaces between them, or nothing."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[str] | None:
        return str(value).replace(",", " ").split() or None


class WholeNumberOr(fields.Field[int]):
    """A whole number, or `usual` where nothing was typed."""

    def __init__(self, usual: int) -> None:
        super().__init__(load_default=usual)
        self._usual = usual

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        text = str(value).strip()
        if not text:
            return self._usual
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise ValidationError("Write a whole number, such as 100.")
        return int(text)


class Grant(Typed):
    grant_id = fields.UUID(required=True)
    account = fields.String(required=True)
    amount = _amount()
    reason = _reason()
    priority = WholeNumberOr(USUAL_PRIORITY)
    items = Codes(load_default=None)
    last_day = DateOrNone(load_default=None)


class DayOrNone(fields.Field[date | None]):
    """A day as browsers send it, or nothing."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> date | None:
        text = str(value).strip()
        day = read_day(text) if text else None
        if text and day is None:
            raise ValidationError("Write the day like 2025-06-30.")
        return day


class EndAgreement(Typed):
    """The end of something agreed: after this day by the customer's calendar, or now."""

    last_day = DayOrNone(load_default=None)
    reason = _reason()


class RevokeCredit(Typed):
    reason = _reason()


class SellCredit(Typed):
    top_up_id = fields.UUID(required=True)
    amount = _amount()


class BeginWhole(Typed):
    """Something begun with a final invoice as a whole. `announced` names the words that the page said would come."""

    movement_id = fields.UUID(required=True)
    version = _version()
    announced = fields.String(load_default="")
    reason = _reason()


class BeginWithAmount(BeginWhole):
    amount = _amount()


class BeginCreditNote(BeginWithAmount):
    paid_part = fields.String(load_default=None, allow_none=True)


class BeginOutside(BeginWithAmount):
    received_on = fields.Date(
        required=True,
        error_messages={"required": "Give the day of the payment.", "invalid": "Give the day as in 2025-07-31."},
    )
    reference = fields.String(
        required=True,
        validate=validate.Length(1, 200, error="Give the bank's reference, in 1 to 200 characters."),
        error_messages={"required": "Give the bank's reference, in 1 to 200 characters."},
    )


class ParkedKey(Typed):
    stage = fields.String(required=True)
    subject = fields.String(required=True)


@dataclass(slots=True)
class Form:
    """One submitted form: `name` tells it from the page's other forms, `typed` is what the user gave."""

    name: str
    typed: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_valid(self) -> bool:
        return not self.errors

    @property
    def unseen_errors(self) -> list[str]:
        """What is wrong with fields that nobody sees, such as the version: shown above the page's content."""
        return [text for at, texts in self.errors.items() if at not in SEEN for text in texts]

    def refuse(self, message: str, *, at: str = ON_FORM) -> None:
        """Note an error at a field, or by default for the form as a whole."""
        self.errors.setdefault(at, []).append(message)


def read_form(schema: type[Schema], *, name: str) -> Form:
    """The request's form, checked for its shape."""
    form = Form(name, typed=request.form.to_dict())
    try:
        form.values = schema().load(request.form.to_dict())
    except ValidationError as error:
        for at, messages in error.messages_dict.items():
            form.errors[at] = [str(message) for message in messages]
    return form


FIELD_OF_CODE = {
    "bad_amount": "amount",
    "credit_too_large": "amount",
    "credit_refused": "amount",
    "bad_credit_expiry": "last_day",
    "bad_credit_items": "items",
    "bad_credit_priority": "priority",
    "description_missing": "description",
    "reason_missing": "reason",
}
"""Which field a refusal of invoicing is about, by its stable code; others are about the form as a whole."""
