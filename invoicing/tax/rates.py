"""Tax rates: read from a file that people can read, written as rows; loading the file again changes nothing."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from uuid import UUID, uuid5

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from invoicing.errors import InvoicingError
from invoicing.tables import Item
from invoicing.tax.tables import TaxRate
from ledger.books import NAMESPACE
from ledger.money import plain

FIELDS = frozenset({"jurisdiction", "name", "percent", "item", "valid_from", "valid_until"})
MAX_RATES = 10_000
MAX_DECIMALS = 4
JURISDICTION = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")


class TaxRatesRefused(InvoicingError):
    """Some of the rates are not acceptable; `problems` names each place, with its cure. Nothing was written."""

    code = "tax_rates_refused"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems_found = list(problems)
        super().__init__("\n".join(self.problems_found))


@dataclass(frozen=True, slots=True)
class RateTerms:
    """One rate as a file gives it. `percent` from 0 to 100; `valid_until` None: until further notice."""

    jurisdiction: str
    name: str
    percent: Decimal
    item: str | None
    valid_from: datetime
    valid_until: datetime | None

    @property
    def id(self) -> UUID:
        """Follows from what the rate is of and when it begins, so that the same file names the same rates."""
        parts = ("tax rate", self.jurisdiction, self.name, self.item or "", self.valid_from.isoformat())
        return uuid5(NAMESPACE, "\x1f".join(parts))

    @property
    def label(self) -> str:
        of_item = f" of {self.item}" if self.item else ""
        return f"{self.jurisdiction} {self.name}{of_item} from {self.valid_from.date().isoformat()}"


@dataclass(frozen=True, slots=True)
class LoadedRates:
    """What loading did, in rates."""

    added: int
    ended: int
    unchanged: int


def rates_from_toml(content: str) -> list[RateTerms]:
    """The rates of a file: tables `[[rates]]` with jurisdiction, name, percent, valid_from, and item or valid_until.

    The latter two may be missing. A date means its beginning in UTC.

    Raises:
        TaxRatesRefused: the file is no TOML, or names every table that is wrong.
    """
    try:
        document = tomllib.loads(content, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, InvalidOperation) as error:
        raise TaxRatesRefused([f"The file is no TOML: {error}."]) from error
    tables = document.get("rates")
    if not isinstance(tables, list) or not tables or len(tables) > MAX_RATES or set(document) != {"rates"}:
        raise TaxRatesRefused([f"A file of tax rates has 1 to {MAX_RATES:,} tables [[rates]] and nothing else."])
    problems: list[str] = []
    found = [
        terms
        for number, table in enumerate(tables, start=1)
        if (terms := _terms(table, f"rate {number}", problems)) is not None
    ]
    if problems:
        raise TaxRatesRefused(problems)
    return found


def load_rates(session: Session, rates: Sequence[RateTerms], *, actor: str, now: datetime) -> LoadedRates:
    """Write the rates that are new, and end those for which an end is given now. The caller commits.

    A rate is never changed: another percentage is another rate, from when it is valid on, and the one before it ends
    then. What is there already stays, so loading the same again changes nothing.

    Raises:
        TaxRatesRefused: a rate contradicts one that is there, overlaps another, or is for an unknown item.
    """
    # Two loads at once would each find nothing to overlap with; the constraint would refuse the second unkindly.
    session.execute(text("LOCK TABLE tax_rates IN SHARE ROW EXCLUSIVE MODE"))
    known = {rate.id: rate for rate in session.scalars(select(TaxRate))}
    problems = _unknown_items(session, rates) + _contradictions(rates, known) + _overlaps(rates, known)
    if problems:
        raise TaxRatesRefused(problems)
    ended = 0
    for terms in rates:
        rate = known.get(terms.id)
        if rate is not None and rate.valid_until is None and terms.valid_until is not None:
            rate.valid_until = terms.valid_until
            ended += 1
    session.flush()  # the rate before ends first, or the one after it would overlap
    fresh = [terms for terms in rates if terms.id not in known]
    for terms in fresh:
        session.add(
            TaxRate(
                id=terms.id,
                jurisdiction=terms.jurisdiction,
                name=terms.name,
                percent=terms.percent,
                item=terms.item,
                valid_from=terms.valid_from,
                valid_until=terms.valid_until,
                created_at=now,
                created_by=actor,
            )
        )
    session.flush()
    return LoadedRates(added=len(fresh), ended=ended, unchanged=len(rates) - len(fresh) - ended)


def list_rates(session: Session, *, jurisdiction: str | None = None, at: datetime | None = None) -> list[TaxRate]:
    """Rates by jurisdiction, name, item and time; `jurisdiction` and a moment at which they are valid narrow."""
    query = select(TaxRate).order_by(TaxRate.jurisdiction, TaxRate.name, TaxRate.item, TaxRate.valid_from)
    if jurisdiction is not None:
        query = query.where(TaxRate.jurisdiction == jurisdiction)
    if at is not None:
        query = query.where(TaxRate.valid_from <= at, TaxRate.valid_until.is_(None) | (TaxRate.valid_until > at))
    return list(session.scalars(query))


def _terms(table: object, place: str, problems: list[str]) -> RateTerms | None:
    """One table as a rate, or None and what is wrong with it."""
    before = len(problems)
    if not isinstance(table, Mapping):
        problems.append(f"{place}: write it as a table [[rates]].")
        return None
    unknown = sorted(set(table) - FIELDS)
    if unknown:
        problems.append(f"{place}: unknown {', '.join(unknown)}. Use {', '.join(sorted(FIELDS))}.")
    jurisdiction = table.get("jurisdiction")
    if not isinstance(jurisdiction, str) or not JURISDICTION.fullmatch(jurisdiction):
        problems.append(f"{place}: give its jurisdiction, a country such as DE or a state of one such as US-CA.")
    name = table.get("name")
    if not isinstance(name, str) or not 0 < len(name.strip()) <= 100:
        problems.append(f"{place}: give its name in 1 to 100 characters, as invoices call the tax, such as VAT.")
    item = table.get("item")
    if item is not None and (not isinstance(item, str) or not item):
        problems.append(f"{place}: the item is the code of one item; leave it out for all.")
    percent = _percent(table.get("percent"))
    if percent is None:
        problems.append(f'{place}: give percent as a number from 0 to 100 with at most 4 decimals, such as "9.975".')
    valid_from, valid_until = _instant(table.get("valid_from")), _instant(table.get("valid_until"))
    if valid_from is None:
        problems.append(f"{place}: give valid_from as a date or a time with a zone, such as 2025-01-01.")
    if "valid_until" in table and (valid_until is None or (valid_from is not None and valid_until <= valid_from)):
        problems.append(f"{place}: valid_until is the date from which it no longer counts, later than valid_from.")
    if len(problems) > before or percent is None or valid_from is None:
        return None
    return RateTerms(str(jurisdiction), str(name).strip(), percent, item, valid_from, valid_until)


def _percent(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    try:
        percent = Decimal(value)
    except InvalidOperation:
        return None
    if not percent.is_finite() or not 0 <= percent <= 100 or percent != round(percent, MAX_DECIMALS):
        return None
    return percent.normalize()


def _instant(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo is not None else None
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    return None


def _unknown_items(session: Session, rates: Sequence[RateTerms]) -> list[str]:
    asked = {terms.item for terms in rates if terms.item is not None}
    known = set(session.scalars(select(Item.code).where(Item.code.in_(asked))))
    return [
        f"{terms.label}: there is no item {terms.item}. Load its price first, or correct the code."
        for terms in rates
        if terms.item is not None and terms.item not in known
    ]


def _contradictions(rates: Sequence[RateTerms], known: Mapping[UUID, TaxRate]) -> list[str]:
    problems = []
    for terms in rates:
        rate = known.get(terms.id)
        if rate is None:
            continue
        if rate.percent != terms.percent:
            problems.append(
                f"{terms.label}: it is {plain(rate.percent)} % already and never changes. End it with valid_until and "
                f"add the {plain(terms.percent)} % from then on."
            )
        elif rate.valid_until is not None and rate.valid_until != terms.valid_until:
            problems.append(
                f"{terms.label}: it ends at {rate.valid_until.isoformat()} already. Write that as valid_until."
            )
    return problems


def _overlaps(rates: Sequence[RateTerms], known: Mapping[UUID, TaxRate]) -> list[str]:
    """Pairs of the same jurisdiction, name and item that are valid at once, known ones as the file leaves them."""
    asked = {terms.id: terms for terms in rates}
    problems = [f"{terms.label}: it is there twice." for terms in rates if asked[terms.id] is not terms]
    left = [
        RateTerms(rate.jurisdiction, rate.name, rate.percent, rate.item, rate.valid_from, rate.valid_until)
        for rate in known.values()
        if rate.id not in asked
    ]
    by_key: dict[tuple[str, str, str | None], list[RateTerms]] = {}
    for terms in (*asked.values(), *left):
        by_key.setdefault((terms.jurisdiction, terms.name, terms.item), []).append(terms)
    for group in by_key.values():
        group.sort(key=lambda terms: terms.valid_from)
        for earlier, later in pairwise(group):
            if earlier.valid_until is None or earlier.valid_until > later.valid_from:
                problems.append(
                    f"{later.label}: {earlier.label} is still valid then. End that one with "
                    f"valid_until = {later.valid_from.date().isoformat()}."
                )
    return problems
