"""Tax profiles: where a customer is taxed, with which tax id, from when on; each version is kept."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session, load_only

from invoicing.customers import CustomerNotFound
from invoicing.errors import InvoicingError
from invoicing.tables import Customer
from invoicing.tax.ids import EU, BadTaxId, TaxId, checked_tax_id
from invoicing.tax.tables import TaxProfile
from ledger.books import lock_books
from ledger.tables import PeriodRow

STATUSES = ("taxable", "exempt", "reverse_charge")
MAX_LEGAL_NOTE = 500

REVERSE_CHARGE_NOTE = (
    "Reverse charge: VAT is to be accounted for by the recipient (Article 196 of Directive 2006/112/EC). "
    "VAT number of the recipient: {tax_id}."
)
"""Source: Article 226(4) and (11a) of https://eur-lex.europa.eu/eli/dir/2006/112/oj - such an invoice says "Reverse
charge" and names the customer's VAT number."""


class TaxProfileRefused(InvoicingError):
    """Some details of the tax profile are not acceptable; `problems` names each: field, code, sentence."""

    code = "tax_profile_refused"

    def __init__(self, problems: list[tuple[str, str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{field}: {message}" for field, _, message in problems))


@dataclass(frozen=True, slots=True)
class TaxDetails:
    """What is asked for. `country` by ISO 3166-1 (DE), `state` by ISO 3166-2 without the country (CA).

    `status` None lets the rules decide: reverse charge between businesses in two countries of the European Union, else
    taxable. `legal_note` says why an exempt customer is exempt, as the invoice is to say it.
    """

    country: str
    state: str | None = None
    tax_id: str | None = None
    tax_id_type: str | None = None
    status: str | None = None
    legal_note: str | None = None


def set_tax_profile(
    session: Session,
    *,
    customer_id: UUID,
    details: TaxDetails,
    seller_country: str | None,
    valid_from: datetime | None,
    reason: str,
    actor: str,
    now: datetime,
) -> tuple[TaxProfile, bool]:
    """Write a version of the customer's tax profile; says whether it is new. The caller commits.

    It counts for every period that ends after `valid_from` (default: now), until a later version begins: a period is
    taxed by what is valid in its last instant. What is the same as what counts at that time already changes nothing.
    `seller_country` is where we are, for the reverse charge; None: nowhere that matters.

    Raises:
        CustomerNotFound: there is no such customer.
        TaxProfileRefused: names every field that is wrong, with its cure.
    """
    begins = (valid_from or now).astimezone(UTC)
    if session.get(Customer, customer_id) is None:
        raise CustomerNotFound("There is no such customer. Check the id, or create the customer first.")
    lock_books(session, [customer_id])
    wanted, problems = _checked(details, seller_country=seller_country)
    reason = reason.strip()
    if not 0 < len(reason) <= 2000:
        problems.append(("reason", "reason_missing", "Say why, in 1 to 2,000 characters."))
    closed_until = closed_through(session, customer_id=customer_id)
    if closed_until is not None and begins < closed_until:
        problems.append((
            "valid_from",
            "closed_period",
            f"{begins.isoformat()} lies in a period that is closed. Begin at {closed_until.isoformat()} or later.",
        ))  # fmt: skip
    if problems:
        raise TaxProfileRefused(problems)
    current = profile_at(session, customer_id=customer_id, at=begins)
    if current is not None and _content(current) == _content(wanted):
        return current, False
    last = session.scalar(select(func.max(TaxProfile.seq)).where(TaxProfile.customer_id == customer_id))
    wanted.customer_id, wanted.seq, wanted.valid_from = customer_id, 1 + (last or 0), begins
    wanted.reason, wanted.actor, wanted.recorded_at = reason, actor, now
    session.add(wanted)
    session.flush()
    return wanted, True


def profile_at(session: Session, *, customer_id: UUID, at: datetime) -> TaxProfile | None:
    """The version that counts at this moment; None: nobody said where the customer is taxed."""
    return session.scalar(
        select(TaxProfile)
        .options(load_only(*_READ_BY_CUSTOMER))
        .where(TaxProfile.customer_id == customer_id, TaxProfile.valid_from <= at)
        .order_by(TaxProfile.valid_from.desc(), TaxProfile.seq.desc())
        .limit(1)
    )


# The customer's panel, which shows what the next invoice will be, may not read who wrote a profile, and why.
_READ_BY_CUSTOMER = (
    TaxProfile.country,
    TaxProfile.state,
    TaxProfile.tax_id,
    TaxProfile.tax_id_type,
    TaxProfile.status,
    TaxProfile.legal_note,
    TaxProfile.valid_from,
)


def tax_profiles_of(session: Session, *, customer_id: UUID) -> list[TaxProfile]:
    """Every version, the one written last first."""
    return list(
        session.scalars(select(TaxProfile).where(TaxProfile.customer_id == customer_id).order_by(TaxProfile.seq.desc()))
    )


def closed_through(session: Session, *, customer_id: UUID) -> datetime | None:
    """The end of the customer's last closed period."""
    return session.scalar(
        select(func.max(PeriodRow.end_at)).where(PeriodRow.customer_id == customer_id, PeriodRow.state == "closed")
    )


def is_reverse_charge(*, country: str, tax_id: TaxId | None, seller_country: str | None) -> bool:
    """Whether the recipient owes the tax: both in the European Union, in two countries of it, and in business."""
    return (
        tax_id is not None
        and tax_id.type == "eu_vat"
        and country in EU
        and seller_country in EU
        and country != seller_country
    )


def _checked(details: TaxDetails, *, seller_country: str | None) -> tuple[TaxProfile, list[tuple[str, str, str]]]:
    """The profile with everything but its place in time, and what is wrong with it."""
    problems: list[tuple[str, str, str]] = []
    country, state = details.country.strip().upper(), (details.state or "").strip().upper() or None
    if not re.fullmatch("[A-Z]{2}", country) or country in ("EL", "UK"):
        problems.append(("country", "bad_country", "Give the country's two letters by ISO 3166-1, such as DE or GB."))
    if state is not None and not re.fullmatch("[A-Z0-9]{1,3}", state):
        problems.append(
            ("state", "bad_state", "Give the state by ISO 3166-2 without its country, such as CA of US-CA.")
        )
    tax_id = _checked_id(details, country, problems)
    status = details.status or None
    reverse = is_reverse_charge(country=country, tax_id=tax_id, seller_country=seller_country)
    if status is None:
        status = "reverse_charge" if reverse else "taxable"
    note = (details.legal_note or "").strip() or None
    if status not in STATUSES:
        problems.append(("status", "bad_status", f"Use one of {', '.join(STATUSES)}, or leave it to the rules."))
    elif status == "reverse_charge":
        if not reverse:
            problems.append((
                "status",
                "no_reverse_charge",
                "The reverse charge needs a customer with an EU VAT number in a country of the European Union other "
                f"than ours ({seller_country or 'which is not set: BILLING_SELLER_COUNTRY'}). Add the VAT number, or "
                "use taxable or exempt.",
            ))  # fmt: skip
        note = REVERSE_CHARGE_NOTE.format(tax_id=tax_id.value if tax_id else "")
    elif status == "exempt" and (note is None or len(note) > MAX_LEGAL_NOTE):
        problems.append((
            "legal_note",
            "legal_note_missing",
            "Say why the customer is exempt, in 1 to 500 characters: the invoice has to say it.",
        ))  # fmt: skip
    elif status == "taxable" and note is not None:
        problems.append(("legal_note", "legal_note_unused", "A taxable customer's invoices carry no such note."))
    profile = TaxProfile(
        country=country,
        state=state,
        tax_id=tax_id.value if tax_id else None,
        tax_id_type=tax_id.type if tax_id else None,
        status=status,
        legal_note=note,
    )
    return profile, problems


def _checked_id(details: TaxDetails, country: str, problems: list[tuple[str, str, str]]) -> TaxId | None:
    value, kind = (details.tax_id or "").strip(), (details.tax_id_type or "").strip()
    if not value and not kind:
        return None
    if not value or not kind:
        problems.append(("tax_id", "tax_id_incomplete", "Give the tax id together with its kind, or neither."))
        return None
    try:
        tax_id = checked_tax_id(value, tax_id_type=kind)
    except BadTaxId as error:
        problems.append(("tax_id", error.code, str(error)))
        return None
    if tax_id.country != country:
        problems.append((
            "tax_id",
            "tax_id_of_another_country",
            f"{tax_id.value} is of {tax_id.country}, the customer is in {country}. One of the two is wrong.",
        ))  # fmt: skip
        return None
    return tax_id


def _content(profile: TaxProfile) -> tuple[str | None, ...]:
    return (
        profile.country,
        profile.state,
        profile.tax_id,
        profile.tax_id_type,
        profile.status,
        profile.legal_note,
    )
