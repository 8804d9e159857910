"""Plans: what is offered for a fee, as versions that never change."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.errors import InvoicingError
from invoicing.plans.tables import Plan, PlanVersion
from invoicing.prices.catalogue import ItemDetails, ensure_items
from ledger.books import NAMESPACE
from ledger.money import MINOR_UNITS, plain

INTERVALS = ("month", "year")
TIMINGS = ("advance", "arrears")
FEE_LIMIT = Decimal(10) ** 9  # exclusive, major units
MAX_TRIAL_DAYS = 365
FIRST = datetime(2000, 1, 1, tzinfo=UTC)
"""From when on a version holds whose file does not say."""
FIELDS = {
    "code", "name", "currency", "fee", "interval", "timing", "included_usage", "trial_days", "valid_from",
    "tax_inclusive",
}  # fmt: skip

Problem = tuple[str, str, str]


class PlanRefused(InvoicingError):
    """A plan is not acceptable; `problems` names each reason: place, code, sentence."""

    code = "plan_refused"

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{place}: {message}" for place, _, message in problems))


class PlanNotOffered(InvoicingError):
    """There is no such plan in the customer's currency at that time. List what is offered: billing plans list."""

    code = "plan_not_offered"


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """One version of a plan. `fee` per `interval` and `included_usage` per month, in major units of `currency`.

    With `tax_inclusive` the tax is inside of both, else it comes on top.
    """

    id: UUID
    plan: str
    name: str
    currency: str
    fee: Decimal
    interval: str
    timing: str
    included_usage: Decimal
    trial_days: int
    valid_from: datetime
    tax_inclusive: bool = False

    @property
    def item(self) -> str:
        """The item of the fee's lines."""
        return f"plan:{self.plan}"

    @property
    def included_item(self) -> str:
        """The item of the lines that give included usage back."""
        return f"plan:{self.plan}:included"


def version_id(*, plan: str, currency: str, interval: str, valid_from: datetime) -> UUID:
    """The id of a version, derived, so that publishing it twice makes one."""
    return uuid5(NAMESPACE, f"plan\x1f{plan}\x1f{currency}\x1f{interval}\x1f{valid_from.astimezone(UTC).isoformat()}")


def plans_from_file(document: Mapping[str, Any]) -> list[PlanTerms]:
    """The `[[plans]]` of a price file.

    Raises:
        PlanRefused: some are not acceptable; all reasons are named, with the place of each.
    """
    problems: list[Problem] = []
    found: list[PlanTerms] = []
    tables = document.get("plans", [])
    if not isinstance(tables, list):
        raise PlanRefused([("plans", "not_tables", "Write each plan as a table of its own: [[plans]].")])
    for number, table in enumerate(tables, start=1):
        if not isinstance(table, dict):
            problems.append((f"plan {number}", "not_a_table", "Write each plan as a table of its own: [[plans]]."))
            continue
        place = f"plan {number} {table.get('code')!r}"
        wrong = list(_table_problems(table))
        problems += [(f"{place}, {field}", code, message) for field, code, message in wrong]
        if not wrong:
            found.append(_terms(table))
    keys = [terms.id for terms in found]
    for terms in found:
        if keys.count(terms.id) > 1:
            message = "This version stands here twice. Leave one, or let the other begin at another time."
            problems.append((f"plan {terms.plan!r}", "duplicate_plan", message))
    if problems:
        raise PlanRefused(problems)
    return found


def _table_problems(table: Mapping[str, Any]) -> list[Problem]:
    """Everything that is wrong with one table."""
    found = [
        (field, "unknown_field", f"A plan has no {field!r}. It may have: {', '.join(sorted(FIELDS))}.")
        for field in sorted(table.keys() - FIELDS)
    ]
    code = table.get("code")
    if (
        not isinstance(code, str)
        or not code
        or len(code) > 60
        or set(code) - set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    ):
        found.append(("code", "bad_code", "A plan is named by 1 to 60 small letters, digits, - and _."))
    name = table.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= 200 or not name.isprintable():
        found.append(("name", "bad_name", "A plan is called something, in 1 to 200 printable characters."))
    currency = table.get("currency")
    if currency not in MINOR_UNITS:
        found.append(("currency", "unknown_currency", f"{currency!r} is no currency that we bill in, such as USD."))
    for field in ("fee", "included_usage"):
        value = table.get(field, 0)
        decimals = min(MINOR_UNITS.get(str(currency), 2), 2)
        if isinstance(value, bool) or not isinstance(value, int | Decimal) or not Decimal(value).is_finite():
            found.append((field, "not_a_number", "Give an amount in major units, such as 29 or 29.50."))
        elif not 0 <= value < FEE_LIMIT or Decimal(value) != round(Decimal(value), decimals):
            found.append((field, "bad_amount", f"Give 0 or more, below 10^9, with at most {decimals} decimals."))
    if table.get("interval") not in INTERVALS:
        found.append(("interval", "bad_interval", "A fee is for a month or a year."))
    if table.get("timing") not in TIMINGS:
        found.append(("timing", "bad_timing", "A fee is charged in advance or in arrears: advance, arrears."))
    trial = table.get("trial_days", 0)
    if isinstance(trial, bool) or not isinstance(trial, int) or not 0 <= trial <= MAX_TRIAL_DAYS:
        found.append(("trial_days", "bad_trial", f"A trial lasts 0 to {MAX_TRIAL_DAYS} whole days."))
    if not isinstance(table.get("tax_inclusive", False), bool):
        found.append(("tax_inclusive", "not_a_truth_value", "Write true or false."))
    valid_from = table.get("valid_from", FIRST)
    if not isinstance(valid_from, datetime) or valid_from.tzinfo is None:
        found.append(("valid_from", "bad_time", "Give a time with its zone, such as 2026-01-01T00:00:00Z."))
    return found


def _terms(table: Mapping[str, Any]) -> PlanTerms:
    valid_from = table.get("valid_from", FIRST).astimezone(UTC)
    key = {"plan": table["code"], "currency": table["currency"], "interval": table["interval"]}
    return PlanTerms(
        id=version_id(**key, valid_from=valid_from),
        name=table["name"],
        fee=Decimal(table.get("fee", 0)),
        timing=table["timing"],
        included_usage=Decimal(table.get("included_usage", 0)),
        trial_days=table.get("trial_days", 0),
        valid_from=valid_from,
        tax_inclusive=table.get("tax_inclusive", False),
        **key,
    )


def publish_plans(session: Session, versions: list[PlanTerms], *, actor: str, now: datetime) -> int:
    """Offer these versions; those that are known stay. Answers how many are new. The caller commits.

    Raises:
        PlanRefused: one is known with other terms: a version never changes, another one begins later.
    """
    problems: list[Problem] = []
    new = 0
    for terms in sorted(versions, key=lambda terms: (terms.plan, terms.valid_from)):
        session.execute(
            insert(Plan)
            .values(code=terms.plan, name=terms.name, created_at=now, created_by=actor)
            .on_conflict_do_nothing()
        )
        details = [
            ItemDetails(terms.item, f"{terms.name} plan"),
            ItemDetails(terms.included_item, f"{terms.name} plan: usage included"),
        ]
        ensure_items(session, details, now=now)
        known = session.get(PlanVersion, terms.id)
        if known is None:
            session.add(
                PlanVersion(
                    id=terms.id,
                    plan=terms.plan,
                    currency=terms.currency,
                    fee=terms.fee,
                    interval=terms.interval,
                    timing=terms.timing,
                    included_usage=terms.included_usage,
                    trial_days=terms.trial_days,
                    tax_inclusive=terms.tax_inclusive,
                    valid_from=terms.valid_from,
                    created_at=now,
                    created_by=actor,
                )
            )
            session.flush()
            new += 1
        elif (known.fee, known.timing, known.included_usage, known.trial_days) != (
            terms.fee, terms.timing, terms.included_usage, terms.trial_days,
        ) or known.tax_inclusive != terms.tax_inclusive:  # fmt: skip
            tax = "with its tax" if known.tax_inclusive else "before tax"
            message = (
                f"This version costs {plain(known.fee)} {known.currency} {tax} a {known.interval} in {known.timing} "
                "and never changes. Give the new one a later valid_from."
            )
            problems.append((f"plan {terms.plan!r}", "plan_conflict", message))
    if problems:
        raise PlanRefused(problems)
    return new


_COLUMNS = (
    PlanVersion.id, PlanVersion.plan, Plan.name, PlanVersion.currency, PlanVersion.fee, PlanVersion.interval,
    PlanVersion.timing, PlanVersion.included_usage, PlanVersion.trial_days, PlanVersion.valid_from,
    PlanVersion.tax_inclusive,
)  # fmt: skip


def list_plans(session: Session) -> list[PlanTerms]:
    """Every version of every plan, by plan, currency, interval and time."""
    rows = session.execute(
        select(*_COLUMNS)
        .join(Plan, Plan.code == PlanVersion.plan)
        .order_by(PlanVersion.plan, PlanVersion.currency, PlanVersion.interval, PlanVersion.valid_from)
    )
    return [PlanTerms(**row._mapping) for row in rows]


def plan_version(session: Session, *, version: UUID) -> PlanTerms:
    """One version, which exists."""
    row = session.execute(
        select(*_COLUMNS).join(Plan, Plan.code == PlanVersion.plan).where(PlanVersion.id == version)
    ).one()
    return PlanTerms(**row._mapping)


def offered(session: Session, *, plan: str, currency: str, interval: str, at: datetime) -> PlanTerms:
    """The version of a plan that somebody gets who takes it at `at`.

    Raises:
        PlanNotOffered.
    """
    row = session.execute(
        select(*_COLUMNS)
        .join(Plan, Plan.code == PlanVersion.plan)
        .where(
            PlanVersion.plan == plan,
            PlanVersion.currency == currency,
            PlanVersion.interval == interval,
            PlanVersion.valid_from <= at,
        )
        .order_by(PlanVersion.valid_from.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        raise PlanNotOffered(
            f"There is no plan {plan!r} by the {interval} in {currency} at {at.isoformat()}. List what is offered "
            "(billing plans list, or GET /api/v1/plans), or load it: billing plans load FILE."
        )
    return PlanTerms(**row._mapping)
