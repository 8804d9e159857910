"""Entries before they are posted: their ids, their digests, and what makes one acceptable."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid5

from ledger import accounts
from ledger.books import NAMESPACE
from ledger.errors import LedgerError
from ledger.money import EXACT, plain

AMOUNT_LIMIT = Decimal(10) ** 15  # exclusive, major units
AMOUNT_DECIMALS = 30
QUANTITY_LIMIT = Decimal(10) ** 18  # exclusive
QUANTITY_DECIMALS = 18
MAX_LABELS = 32
MAX_LABEL_KEY = 64  # characters
MAX_LABEL_VALUE = 500  # characters
MAX_LABELS_TEXT = 8192  # characters of all labels together, written as JSON
MAX_DIMENSION = 200  # characters of the labels that running totals are kept by
DIMENSIONS = ("app", "region")
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)  # exclusive
DIGEST_BYTES = 32

KINDS = frozenset({
    "usage", "plan", "carry", "adjustment", "rounding", "finalization", "tax", "credit", "grant", "cash", "fee",
    "refund", "credit_note", "dispute", "payout", "void", "write_off", "opening",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class EntryProblem:
    """Why one entry of a batch is refused: its place in the batch, the field, a stable code and a sentence."""

    index: int
    field: str
    code: str
    message: str


class EntriesRefused(LedgerError):
    """Some entries cannot be posted; nothing was written. `problems` names each of them."""

    code = "entries_refused"

    def __init__(self, problems: list[EntryProblem]) -> None:
        self.problems = problems
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"Entry {first.index}, {first.field}: {first.message}{more}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """One amount to move from `credit_account` to `debit_account` in one customer's books.

    `amount` is in major units of the books' currency, at least 0, at most 30 decimals; 0 only with a quantity. A
    charge (it moves assets:unbilled and is about no document) gets its period from posting, by `effective_at`, unless
    `period_start` and `usage_period_start` say where it was carried to. `digest` is over what the source sent, never
    over what we derived from it.
    """

    customer_id: UUID
    id: UUID
    transaction_id: UUID
    debit_account: str
    credit_account: str
    amount: Decimal
    effective_at: datetime
    kind: str
    actor: str
    digest: bytes
    document_id: UUID | None = None
    item: str | None = None
    price_id: UUID | None = None
    quantity: Decimal | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    reverses_id: UUID | None = None
    reason: str | None = None
    period_start: datetime | None = None
    usage_period_start: datetime | None = None

    @property
    def is_charge(self) -> bool:
        return self.document_id is None and accounts.UNBILLED in (self.debit_account, self.credit_account)


def transaction_id(source: str, event_id: str) -> UUID:
    """The id of the transaction that one event of one source makes, the same for ever."""
    return uuid5(NAMESPACE, f"transaction\x1f{source}\x1f{event_id}")


def entry_id(transaction: UUID, leg: str) -> UUID:
    """The id of one leg of a transaction. Legs are named, so that adding one later does not renumber the others."""
    return uuid5(transaction, leg)


def digest(sent: Mapping[str, object]) -> bytes:
    """SHA-256 over what the source sent, in one canonical spelling: 1.50 and 1.5 are the same, so are two zones' names
    of one instant and two orders of the labels."""
    canonical = {key: _canonical(value) for key, value in sent.items()}
    # What JSON does not know is refused later, by name; a digest is taken before anybody has looked.
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(text.encode()).digest()


def _canonical(value: object) -> object:
    if isinstance(value, Decimal):
        # Written out, 1E+999999999 would fill the memory; no number of that kind is ever posted.
        return plain(value) if value.is_finite() and abs(value.adjusted()) < EXACT.prec else str(value)
    if isinstance(value, datetime):
        # A time without a zone, or at the end of all time, is refused later; here it only must not pass for another.
        in_range = value.tzinfo is not None and EARLIEST.year <= value.year <= LATEST.year
        return value.astimezone(UTC).isoformat() if in_range else value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _canonical(inner) for key, inner in value.items()}
    return value


def problems_of(index: int, entry: NewEntry, *, holder: str) -> list[EntryProblem]:
    """Everything that is wrong with one entry, all at once; `holder` is whose books it goes to."""
    found: list[EntryProblem] = []

    def wrong(name: str, code: str, message: str) -> None:
        found.append(EntryProblem(index, name, code, message))

    ids: dict[str, object] = {name: getattr(entry, name) for name in ("customer_id", "id", "transaction_id")}
    for name, value in ids.items():
        if not isinstance(value, UUID):
            wrong(name, "not_a_uuid", f"{_shown(value)} is no UUID.")
    for name in ("document_id", "price_id", "reverses_id"):
        value = getattr(entry, name)
        if value is not None and not isinstance(value, UUID):
            wrong(name, "not_a_uuid", f"{_shown(value)} is no UUID.")
    known = accounts.accounts_of(holder)
    for name, account in (("debit_account", entry.debit_account), ("credit_account", entry.credit_account)):
        if not _is_one_of(account, known):
            wrong(name, "unknown_account", f"{_shown(account)} is no account of {holder} books.")
    if entry.debit_account == entry.credit_account:
        wrong("credit_account", "same_account", "An entry moves its amount between two different accounts.")
    if not _is_one_of(entry.kind, KINDS):
        wrong("kind", "unknown_kind", f"{_shown(entry.kind)} is no kind of entry.")
    amount_problem = number_problem(entry.amount, limit=AMOUNT_LIMIT, decimals=AMOUNT_DECIMALS)
    if amount_problem:
        wrong("amount", *amount_problem)
    elif entry.amount == 0 and entry.quantity is None:
        wrong("amount", "zero_without_quantity", "An amount of 0 is only recorded together with a quantity.")
    if entry.quantity is not None:
        quantity_problem = number_problem(entry.quantity, limit=QUANTITY_LIMIT, decimals=QUANTITY_DECIMALS)
        if quantity_problem:
            wrong("quantity", *quantity_problem)
    time_problem = instant_problem(entry.effective_at)
    if time_problem:
        wrong("effective_at", *time_problem)
    if entry.item is not None and not (_is_text(entry.item, longest=200) and entry.item.isprintable()):
        wrong("item", "bad_item", "An item is named by 1 to 200 printable characters.")
    for code, message in label_problems(entry.labels):
        wrong("labels", code, message)
    if not _is_text(entry.actor, longest=200) or not _is_storable_text(entry.actor):
        wrong("actor", "bad_actor", "Say who posts it, in 1 to 200 characters.")
    if entry.reason is not None and not _is_storable_text(entry.reason):
        wrong("reason", "bad_reason", "A reason is text without NUL characters or halves of surrogate pairs.")
    elif entry.reason is not None and len(entry.reason) > 2000:
        wrong("reason", "reason_too_long", "A reason takes at most 2,000 characters.")
    if not _is_digest(entry.digest):
        wrong("digest", "bad_digest", f"A digest has {DIGEST_BYTES} bytes; make it with ledger.entries.digest.")
    if (entry.period_start is None) != (entry.usage_period_start is None):
        wrong("period_start", "half_a_period", "Give both periods or neither.")
    elif entry.period_start is not None and entry.usage_period_start is not None:
        if not entry.is_charge:
            wrong("period_start", "not_a_charge", "Only a charge belongs to a period.")
        for name, start in (("period_start", entry.period_start), ("usage_period_start", entry.usage_period_start)):
            start_problem = instant_problem(start)
            if start_problem:
                wrong(name, *start_problem)
    if entry.is_charge and (entry.kind == "carry") != (accounts.CARRIED in (entry.debit_account, entry.credit_account)):
        wrong("kind", "carry_without_carried", f"A charge is of kind carry exactly if it moves {accounts.CARRIED}.")
    return found


# What these are asked about should be of the type that the entry declares, but nothing in Python makes it so.
def _is_one_of(value: object, known: frozenset[str]) -> bool:
    return isinstance(value, str) and value in known


def _is_digest(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == DIGEST_BYTES


def _is_storable_text(value: object) -> bool:
    return isinstance(value, str) and is_storable(value)


def _is_text(value: object, *, longest: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest


def _shown(value: object) -> str:
    """A value as a refusal may quote it: one that nobody can read would only fill the logs."""
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def is_storable(text: str) -> bool:
    """Whether Postgres can keep the text: it has no NUL and no half of a surrogate pair."""
    if text.isascii():
        return "\x00" not in text
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def number_problem(value: object, *, limit: Decimal, decimals: int) -> tuple[str, str] | None:
    """What keeps `value` from being an exact, finite, non-negative decimal below `limit`; None if nothing does."""
    if not isinstance(value, Decimal):
        return "not_a_decimal", f"{_shown(value)} is no decimal number."
    if not value.is_finite():
        return "not_finite", f"{_digits(value)} is no finite number."
    if value < 0:
        return "negative", f"{_digits(value)} is negative: post the entry the other way round."
    if value >= limit:
        return "too_large", f"{_digits(value)} is not below {plain(limit)}."
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > decimals and not _fits(value, decimals):
        message = f"{_digits(value)} has more than {decimals} decimals; it is never rounded silently."
        return "too_many_decimals", message
    return None


def _digits(value: Decimal) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _fits(value: Decimal, decimals: int) -> bool:
    return value == value.quantize(Decimal(1).scaleb(-decimals), context=EXACT)


def instant_problem(value: object) -> tuple[str, str] | None:
    """What keeps `value` from being an aware time between 2000 and 2200; None if nothing does."""
    if not isinstance(value, datetime):
        return "not_a_time", f"{_shown(value)} is no time."
    if value.utcoffset() is None:
        return "no_time_zone", f"{value.isoformat()} has no zone: write it as {value.isoformat()}Z if it is UTC."
    if not EARLIEST <= value < LATEST:
        return "time_out_of_range", f"{value.isoformat()} is not between 2000 and 2200."
    return None


def label_problems(labels: object) -> list[tuple[str, str]]:
    """Everything that is wrong with a set of labels."""
    if not isinstance(labels, Mapping):
        return [("labels_not_an_object", f"{_shown(labels)} is no mapping of names to texts.")]
    found: list[tuple[str, str]] = []
    if len(labels) > MAX_LABELS:
        found.append(("too_many_labels", f"{len(labels)} labels; at most {MAX_LABELS} are kept."))
    for key, value in labels.items():
        if not isinstance(key, str) or not 0 < len(key) <= MAX_LABEL_KEY or not key.isprintable():
            found.append(
                ("bad_label_name", f"{str(key)[:80]!r}: a label's name has 1 to {MAX_LABEL_KEY} printable characters.")
            )
        longest = MAX_DIMENSION if key in DIMENSIONS else MAX_LABEL_VALUE
        if not isinstance(value, str):
            found.append(("label_not_text", f"Label {str(key)[:80]!r}: {str(value)[:80]!r} is not text."))
        elif len(value) > longest:
            found.append(("label_too_long", f"Label {str(key)[:80]!r}: at most {longest} characters."))
        elif not is_storable(value):
            found.append(("bad_label", f"Label {key[:80]!r}: text without NUL or halves of surrogate pairs."))
    # A character takes at most six in JSON, as \u0007; most labels need no spelling to see that they fit.
    if not found and sum(6 * (len(key) + len(value)) + 6 for key, value in labels.items()) > MAX_LABELS_TEXT:
        spelled = json.dumps(dict(labels), ensure_ascii=False)
        if len(spelled) > MAX_LABELS_TEXT:
            found.append(
                ("labels_too_long", f"All labels together take at most {MAX_LABELS_TEXT:,} characters as JSON.")
            )
    return found
