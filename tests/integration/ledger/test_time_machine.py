"""The time machine: what the books said at any past moment, and that it is what a reader saw at that moment."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from ledger.balances import balances, unbilled
from ledger.books import BooksNotFound
from ledger.entries import NewEntry
from ledger.money import EXACT
from ledger.tables import UNBILLED_TOTALS, Books, Entry
from ledger.time_machine import (
    UnbilledLine,
    UnknownAccount,
    balance_at,
    balances_at,
    known_seq,
    statement,
    unbilled_at,
)
from tests.factories.entries import DocumentEntryFactory, EntryFactory, reversal_of
from tests.integration.ledger.books import Ledger, at, close_ended, entry_of
from tests.integration.ledger.events import Event


def clock(ledger: Ledger, customer_id: UUID) -> datetime:
    """When the customer's last entry was recorded."""
    with ledger.transaction() as session:
        recorded = session.scalar(select(Books.last_recorded_at).where(Books.customer_id == customer_id))
    assert recorded is not None
    return recorded


def charge(customer_id: UUID, day: str, amount: str, **changes: object) -> NewEntry:
    entry: NewEntry = EntryFactory.build(
        customer_id=customer_id, effective_at=at(day), amount=Decimal(amount), **changes
    )
    return entry


def test_what_was_known_ends_with_the_entry_that_was_recorded_at_that_moment(ledger: Ledger, acme: UUID) -> None:
    """One posting a moment: at its recorded_at it counts, a microsecond earlier it does not."""
    moments = []
    for count in range(1, 8):
        ledger.post(*EntryFactory.build_batch(count, customer_id=acme, amount=Decimal(1)))
        moments.append((clock(ledger, acme), sum(range(1, count + 1))))
    with ledger.transaction() as session:
        for moment, entries in moments:
            assert known_seq(session, customer_id=acme, known_at=moment) == entries
            assert balances_at(session, customer_id=acme, known_at=moment)["assets:unbilled"] == entries
        first, _ = moments[0]
        before = first - timedelta(microseconds=1)
        assert known_seq(session, customer_id=acme, known_at=before) == 0
        assert balances_at(session, customer_id=acme, known_at=before) == {}
        far = datetime(2199, 1, 1, tzinfo=UTC)
        assert known_seq(session, customer_id=acme, known_at=far) == 28
        assert balances_at(session, customer_id=acme, known_at=far) == balances(session, customer_id=acme)


def test_what_happened_ends_before_the_instant_that_is_asked_for(ledger: Ledger, acme: UUID) -> None:
    """
    2025-06-01 00:00  1
    2025-06-02 00:00  2
    2025-06-03 00:00  4
    """
    ledger.post(*(charge(acme, f"2025-06-0{day}", str(2 ** (day - 1))) for day in (3, 1, 2)))
    with ledger.transaction() as session:

        def until(instant: str) -> Decimal:
            return balance_at(session, customer_id=acme, account="assets:unbilled", effective_before=at(instant))

        assert until("2025-06-01") == 0
        assert until("2025-06-01T00:00:00.000001") == 1
        assert until("2025-06-03") == 3
        assert until("2025-06-03T00:00:01") == 7
        assert balances_at(session, customer_id=acme, effective_before=at("2025-06-01")) == {}
        assert balances_at(session, customer_id=acme, effective_before=at("2025-06-03")) == {
            "assets:unbilled": Decimal(3),
            "income:usage": Decimal(3),
        }


def test_both_times_together_show_what_was_known_then_of_what_had_happened_by_then(ledger: Ledger, acme: UUID) -> None:
    """Usage of 1 June that was reported after usage of 3 June: known late, but it had happened."""
    ledger.post(charge(acme, "2025-06-03", "4"))
    early = clock(ledger, acme)
    ledger.post(charge(acme, "2025-06-01", "1"))
    late = clock(ledger, acme)
    with ledger.transaction() as session:
        cases = {(early, "2025-06-02"): 0, (late, "2025-06-02"): 1, (early, "2025-06-04"): 4, (late, "2025-06-04"): 5}
        for (known_at, before), expected in cases.items():
            found = balance_at(
                session, customer_id=acme, account="assets:unbilled", effective_before=at(before), known_at=known_at
            )
            assert found == expected, (known_at, before)


def test_an_unknown_customer_had_no_balances(session: Session) -> None:
    assert balances_at(session, customer_id=uuid4(), known_at=at("2025-06-01")) == {}
    assert balances_at(session, customer_id=uuid4(), effective_before=at("2025-06-01")) == {}
    assert unbilled_at(session, customer_id=uuid4(), period_start=at("2025-06-01"), known_at=at("2025-07-01")) == []


def test_the_panel_of_the_past_shows_line_by_line_what_it_showed(ledger: Ledger, acme: UUID) -> None:
    """Two items, a late one of the closed month, one taken back: each moment has the lines that it had."""
    june, july = at("2025-06-01"), at("2025-07-01")
    price = uuid4()
    machine = charge(acme, "2025-06-10", "2", item="machine", price_id=price, quantity=Decimal(7))
    ledger.post(machine, charge(acme, "2025-06-11", "1", item="volume"))
    first = clock(ledger, acme)
    assert close_ended(ledger, acme, "2025-07-02") == [june]
    ledger.post(charge(acme, "2025-06-12", "5", item="volume"), now=at("2025-07-03"))
    second = clock(ledger, acme)
    ledger.post(reversal_of(machine), now=at("2025-07-03"))
    third = clock(ledger, acme)
    with ledger.transaction() as session:

        def lines(period_start: datetime, known_at: datetime) -> list[UnbilledLine]:
            return unbilled_at(session, customer_id=acme, period_start=period_start, known_at=known_at)

        in_june = [
            UnbilledLine("machine", price, june, "income:usage", Decimal(7), Decimal(2), 1),
            UnbilledLine("volume", None, june, "income:usage", Decimal(3600), Decimal(1), 1),
        ]
        for moment in (first, second, third):
            assert lines(june, moment) == in_june
        late = UnbilledLine("volume", None, june, "income:usage", Decimal(3600), Decimal(5), 1)
        taken_back = UnbilledLine("machine", None, june, "income:usage", Decimal(-7), Decimal(-2), 1)
        assert lines(july, first) == []
        assert lines(july, second) == [late]
        assert lines(july, third) == [late, taken_back]
        assert lines(june, first - timedelta(microseconds=1)) == []


def test_an_entry_about_a_draft_is_in_the_balances_of_the_past_but_not_on_the_panel(ledger: Ledger, acme: UUID) -> None:
    document = ledger.document(acme)
    ledger.post(DocumentEntryFactory.build(customer_id=acme, document_id=document))
    moment = clock(ledger, acme)
    ledger.post(DocumentEntryFactory.build(customer_id=acme, document_id=document))
    with ledger.transaction() as session:
        assert balance_at(session, customer_id=acme, account="income:adjustments", known_at=moment) == 5
        assert unbilled_at(session, customer_id=acme, period_start=at("2025-06-01"), known_at=moment) == []


def test_a_statement_leads_from_its_opening_to_its_closing_balance(ledger: Ledger, acme: UUID) -> None:
    """
    2025-05-31  +1           before: opening
    2025-06-01  +2
    2025-06-02  -4 (seq 4)   in order of effect, not of recording
    2025-06-03  +8 (seq 3)
    2025-07-01  +16          after
    """
    sides = {"debit_account": "income:usage", "credit_account": "assets:unbilled"}
    ledger.post(charge(acme, "2025-05-31", "1"), charge(acme, "2025-06-01", "2"))
    ledger.post(charge(acme, "2025-06-03", "8"))
    known_at = clock(ledger, acme)
    ledger.post(charge(acme, "2025-06-02", "4", item="back", **sides), charge(acme, "2025-07-01", "16"))
    with ledger.transaction() as session:
        june = statement(
            session, customer_id=acme, account="assets:unbilled", since=at("2025-06-01"), until=at("2025-07-01")
        )
        assert june.opening == 1
        assert june.currency == "USD"
        with pytest.raises(RuntimeError, match="read"):
            _ = june.closing
        rows = list(june.rows)
        assert [row.seq for row in rows] == [2, 4, 3]
        assert [row.debit for row in rows] == [2, 0, 8]
        assert [row.credit for row in rows] == [0, 4, 0]
        assert [row.balance for row in rows] == [3, -1, 7]
        assert [june.closing, june.debits, june.credits] == [7, 10, 4]
        assert rows[1].item == "back"
        assert rows[1].contra_account == "income:usage"
        income = statement(session, customer_id=acme, account="income:usage", since=at("2025-06-03"))
        assert income.opening == -1, "income is shown as credits minus debits"
        assert [row.balance for row in income.rows] == [7, 23]
        known = statement(session, customer_id=acme, account="assets:unbilled", known_at=known_at)
        assert [row.seq for row in known.rows] == [1, 2, 3]
        assert known.closing == 11
        silent = statement(session, customer_id=acme, account="assets:bank")
        assert list(silent.rows) == []
        assert silent.closing == 0


def test_what_is_posted_while_a_statement_is_read_is_not_in_it(ledger: Ledger, acme: UUID) -> None:
    ledger.post(charge(acme, "2025-06-01", "1"), charge(acme, "2025-06-02", "2"))
    with ledger.transaction() as session:
        made = statement(session, customer_id=acme, account="assets:unbilled", since=at("2025-06-02"))
        ledger.post(charge(acme, "2025-06-01", "4"), charge(acme, "2025-06-03", "8"))
        assert made.opening == 1
        assert [row.balance for row in made.rows] == [3]
        assert made.closing == 3


@pytest.mark.parametrize("account", ["assets:customers", "assets:gold", ""])
def test_a_statement_of_an_account_that_the_books_do_not_have_is_refused_by_name(
    ledger: Ledger, acme: UUID, account: str
) -> None:
    with ledger.transaction() as session, pytest.raises(UnknownAccount, match="assets:receivable"):
        statement(session, customer_id=acme, account=account)


def test_a_statement_without_books_is_refused(session: Session) -> None:
    with pytest.raises(BooksNotFound):
        statement(session, customer_id=uuid4(), account="assets:unbilled")


Remembered = tuple[datetime, dict[str, Decimal], dict[datetime, Decimal]]
steps = st.lists(
    st.one_of(
        st.lists(st.integers(0, 80), min_size=1, max_size=6),
        st.integers(0, 80).map(lambda number: (number,)),
    ),
    min_size=1,
    max_size=12,
)


def _read_live(session: Session, customer_id: UUID) -> tuple[dict[str, Decimal], dict[datetime, Decimal]]:
    view = UNBILLED_TOTALS.c
    periods = session.scalars(
        select(view.period_start).where(view.customer_id == customer_id, view.document_id.is_(None)).distinct()
    )
    return balances(session, customer_id=customer_id), {
        start: unbilled(session, customer_id=customer_id, period_start=start) for start in periods
    }


@pytest.mark.parametrize("examples", [15, pytest.param(500, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_every_moment_that_was_remembered_reads_as_it_was_read_live(
    engine: Engine, ledger: Ledger, examples: int
) -> None:
    """Postings, replays and reversals in any order; the books are read after each, and all of it again at the end."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(steps)
    def read_again(steps: list[list[int] | tuple[int]]) -> None:
        customer_id = ledger.open(anchor_day=31, time_zone="America/Havana")
        remembered: list[Remembered] = []
        known: set[int] = set()
        for step in steps:
            if isinstance(step, tuple):
                if step[0] not in known:
                    continue
                ledger.post(reversal_of(entry_of(Event(customer_id, step[0]))))
            else:
                ledger.post(*(entry_of(Event(customer_id, number)) for number in step))
                known |= set(step)
            with Session(engine) as session:
                remembered.append((clock(ledger, customer_id), *_read_live(session, customer_id)))
        with Session(engine) as session:
            for moment, then, periods in remembered:
                assert balances_at(session, customer_id=customer_id, known_at=moment) == then
                for start, amount in periods.items():
                    lines = unbilled_at(session, customer_id=customer_id, period_start=start, known_at=moment)
                    assert sum((line.amount for line in lines), Decimal(0)) == amount
                _statements_agree(session, customer_id, then, moment)
            _balances_by_effect_agree(session, customer_id)

    read_again()


def _statements_agree(session: Session, customer_id: UUID, then: dict[str, Decimal], known_at: datetime) -> None:
    for account, amount in then.items():
        made = statement(session, customer_id=customer_id, account=account, known_at=known_at)
        assert sum(1 for _ in made.rows) > 0
        assert made.closing == amount


def _balances_by_effect_agree(session: Session, customer_id: UUID) -> None:
    """Every third instant of effect, as a bound, against the entries added up here one by one."""
    entries = session.execute(
        select(Entry.effective_at, Entry.amount, Entry.debit_account, Entry.recorded_at)
        .where(Entry.customer_id == customer_id)
        .order_by(Entry.effective_at)
    ).all()
    for bound, _, _, known_at in entries[::3]:
        expected = Decimal(0)
        for effective_at, amount, debit_account, recorded_at in entries:
            if effective_at < bound and recorded_at <= known_at:
                expected = EXACT.add(expected, amount if debit_account == "assets:unbilled" else -amount)
        found = balance_at(
            session, customer_id=customer_id, account="assets:unbilled", effective_before=bound, known_at=known_at
        )
        assert found == expected


def test_a_statement_keeps_nothing_of_what_it_read(ledger: Ledger, acme: UUID) -> None:
    """Rows come from a cursor in Postgres, and the session remembers none of them."""
    for _ in range(2):
        ledger.post(*EntryFactory.build_batch(3_000, customer_id=acme))
    with ledger.transaction() as session:
        made = statement(session, customer_id=acme, account="assets:unbilled")
        next(made.rows)
        assert session.connection().exec_driver_sql("SELECT count(*) FROM pg_cursors WHERE NOT is_holdable").scalar()
        assert sum(1 for _ in made.rows) == 5_999
        assert not session.identity_map
