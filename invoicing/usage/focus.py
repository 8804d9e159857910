"""Cloud bills in the FinOps FOCUS format: each sub-account is a customer, each row a charge that is rated already.

Source: https://focus.finops.org/focus-specification/v1-0/
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

from marshmallow import ValidationError

from invoicing.coded_fields import coded_errors, parse_instant, parse_number
from invoicing.exact_json import MalformedJson, load_json
from invoicing.prices.catalogue import MAX_ITEM_CODE, MAX_ITEM_NAME, MAX_ITEM_UNIT, ItemDetails
from invoicing.usage.files import CsvRow, CsvTable
from invoicing.usage.intake import MAX_EVENT_ID, RowProblem, UsageRecord
from ledger.entries import DIMENSIONS, MAX_DIMENSION, MAX_LABEL_VALUE, QUANTITY_DECIMALS, QUANTITY_LIMIT
from ledger.money import EXACT

SOURCE = "focus"
REQUIRED_COLUMNS = ("BilledCost", "BillingCurrency", "ChargePeriodStart", "SubAccountId")
MAX_CUSTOMER_NAME = 200  # characters

COLUMN_OF = {
    "id": "Id",
    "external_id": "SubAccountId",
    "name": "SubAccountName",
    "customer": "SubAccountId",
    "item": "SkuId",
    "quantity": "ConsumedQuantity",
    "at": "ChargePeriodStart",
    "amount": "BilledCost",
    "currency": "BillingCurrency",
}
"""Which column a problem of a record's or a customer's field is about."""

_APPLICATION_TAGS = ("application", "app")


@dataclass(frozen=True, slots=True)
class FocusRow:
    """One row: its record, and what the catalogue and the customers need to know first."""

    record: UsageRecord
    item: ItemDetails
    customer_name: str


def read_focus(lines: Iterable[str]) -> Iterator[FocusRow | list[RowProblem]]:
    """The rows of a FOCUS file, of any version and with its columns in any order; `NULL` and nothing both mean null.

    The customer's external id is the SubAccountId as it stands, so that a platform which created the customer before
    keeps its details. BilledCost is taken to the last digit; a quantity is informative beside it, and is rounded to
    the ledger's 18 decimals. A row that costs nothing and has no quantity gets the quantity 0. Times without a zone
    are UTC, as the format says. The event's id is the column Id within the provider's billing account; without one, it
    is made of the row's whole content and, of equal rows, its place among them: a file that restates a row under
    another content then adds to it, where with ids it would be refused.

    Raises:
        FileUnusable: there is no header, or it lacks a column that is needed.
    """
    table = CsvTable(lines)
    table.require(REQUIRED_COLUMNS)
    seen: Counter[int] = Counter()
    for row in table:
        if isinstance(row, CsvRow):
            cells = {name: cell for name, cell in row.cells.items() if cell not in ("", "NULL", "null")}
            yield _read_row(row.line, cells, _event_id(cells, seen))
        else:
            yield [row]


def _read_row(line: int, cells: Mapping[str, str], event_id: str) -> FocusRow | list[RowProblem]:
    problems: list[RowProblem] = []
    cost = _number(line, cells, "BilledCost", problems)
    quantity = _number(line, cells, "ConsumedQuantity", problems)
    effective_at = _time(line, cells, "ChargePeriodStart", problems)
    billing_period = _time(line, cells, "BillingPeriodStart", problems)
    for column, value in (("BilledCost", cost), ("ChargePeriodStart", effective_at)):
        if value is None and not any(problem.field == column for problem in problems):
            problems.append(RowProblem(line, column, "missing", f"{column} is empty."))
    for column in ("BillingCurrency", "SubAccountId"):
        if column not in cells:
            cure = " The charge belongs to no sub-account, so to no customer." if column == "SubAccountId" else ""
            problems.append(RowProblem(line, column, "missing", f"{column} is empty.{cure}"))
    if problems or cost is None or effective_at is None:
        return problems
    if quantity is not None:
        quantity = _informative(quantity)
    elif not cost:
        quantity = Decimal(0)
    item = _item(cells)
    record = UsageRecord(
        row=line,
        event_id=event_id,
        customer=cells["SubAccountId"],
        item=item.code,
        quantity=quantity,
        effective_at=effective_at,
        labels=_labels(cells, billing_period),
        amount=cost,
        currency=cells["BillingCurrency"],
    )
    name = cells.get("SubAccountName") or cells["SubAccountId"]
    return FocusRow(record, item, _clipped(name, MAX_CUSTOMER_NAME))


def _number(line: int, cells: Mapping[str, str], column: str, problems: list[RowProblem]) -> Decimal | None:
    if column not in cells:
        return None
    try:
        return parse_number(cells[column])
    except ValidationError as error:
        problems += _named(line, column, error)
        return None


def _time(line: int, cells: Mapping[str, str], column: str, problems: list[RowProblem]) -> datetime | None:
    if column not in cells:
        return None
    try:
        return parse_instant(cells[column], naive_is_utc=True)
    except ValidationError as error:
        problems += _named(line, column, error)
        return None


def _named(line: int, column: str, error: ValidationError) -> list[RowProblem]:
    return [RowProblem(line, column, message.code, str(message)) for _, message in coded_errors(error.messages)]


def _informative(quantity: Decimal) -> Decimal:
    """The quantity with the decimals that the ledger keeps. One that is too large is left for posting to refuse."""
    exponent = quantity.as_tuple().exponent
    if quantity.copy_abs() >= QUANTITY_LIMIT or not isinstance(exponent, int) or -exponent <= QUANTITY_DECIMALS:
        return quantity
    return quantity.quantize(Decimal(1).scaleb(-QUANTITY_DECIMALS), rounding=ROUND_HALF_EVEN, context=EXACT)


def _event_id(cells: Mapping[str, str], seen: Counter[int]) -> str:
    scope = f"{cells.get('ProviderName', '')}/{cells.get('BillingAccountId', '')}"
    if "Id" in cells:
        return _clipped(f"{scope}/{cells['Id']}", MAX_EVENT_ID)
    content = hashlib.sha256()
    for column, cell in sorted(cells.items()):
        content.update(f"{len(column)}:{column}={len(cell)}:{cell}\n".encode())
    # Eight bytes of it are enough to count by: it is kept for every row of the file.
    place = int.from_bytes(content.digest()[:8])
    seen[place] += 1
    return f"row/{content.hexdigest()}/{seen[place]}"


def _item(cells: Mapping[str, str]) -> ItemDetails:
    """The item of a row. Its code names the price rather than the product where it can, because descriptions do: of
    two tiers of one product each is a line of its own. What is no usage has codes of its own for the same reason."""
    provider = cells.get("ProviderName") or cells.get("PublisherName") or SOURCE
    category = cells.get("ChargeCategory", "Usage")
    sku = cells.get("SkuPriceId") or cells.get("SkuId")
    service = cells.get("ServiceName") or cells.get("ServiceCategory") or provider
    code = f"{provider}:{sku or service}"
    if category != "Usage":
        code += f":{category.lower()}"
    name = cells.get("ChargeDescription") if sku else None
    return ItemDetails(
        code=_clipped(code, MAX_ITEM_CODE),
        name=_clipped(name or f"{service}, {category.lower()}", MAX_ITEM_NAME),
        unit=_clipped(cells.get("ConsumedUnit", ""), MAX_ITEM_UNIT),
    )


def _labels(cells: Mapping[str, str], billing_period: datetime | None) -> dict[str, str]:
    labels = {
        "service": cells.get("ServiceName"),
        "region": cells.get("RegionId") or cells.get("RegionName"),
        "resource": cells.get("ResourceId") or cells.get("ResourceName"),
        "billing_period": f"{billing_period:%Y-%m}" if billing_period else None,
        "app": _application(cells.get("Tags")),
    }
    return {
        name: _clipped(value, MAX_DIMENSION if name in DIMENSIONS else MAX_LABEL_VALUE)
        for name, value in labels.items()
        if value
    }


def _application(tags: str | None) -> str | None:
    """The application that the row's tags name. Tags are the user's free text: unreadable ones name none."""
    if tags is None:
        return None
    try:
        loaded = load_json(tags)
    except MalformedJson:
        return None
    if not isinstance(loaded, dict):
        return None
    by_name = {str(name).strip().lower(): value for name, value in loaded.items()}
    return next((by_name[name] for name in _APPLICATION_TAGS if isinstance(by_name.get(name), str)), None)


def _clipped(text: str, longest: int) -> str:
    """The text in printable characters, at most `longest`; what is cut off is stood for by a hash, so that two long
    names which differ at their end stay two."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    if len(printable) <= longest:
        return printable
    return f"{printable[: longest - 13]}…{hashlib.sha256(printable.encode()).hexdigest()[:12]}"
