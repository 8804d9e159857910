"""Who holds the books against the model's paper, and both against what Stripe holds."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from invoicing import checks as invoicing_checks
from invoicing.customers import customer_id_for
from ledger import checks as ledger_checks
from stripe_gateway import checks as gateway_checks
from stripe_gateway.reconciliation import ReconcileReport
from tests.story.witness import HOUSE, money

if TYPE_CHECKING:
    from tests.story.teller import Teller

CHECKS = {**ledger_checks.CHECKS, **invoicing_checks.CHECKS, **gateway_checks.CHECKS}
SUMS = """
    SELECT b.customer_id, a.account, sum(a.amount) AS amount
      FROM ledger_books b JOIN (
           SELECT customer_id, debit_account AS account, amount FROM ledger_totals
            UNION ALL SELECT customer_id, credit_account, -amount FROM ledger_totals) a USING (customer_id)
  GROUP BY 1, 2 HAVING sum(a.amount) <> 0
"""
# Money that was paid out went through two accounts of the customer's; for the paper it is one.
ALIASES = {"assets:house": "stripe"}


class Difference(AssertionError):
    """The books are not what the paper says."""


class Judge:
    """Compares at the end of every day, and more at the end of the story."""

    def __init__(self, teller: "Teller") -> None:
        self.teller = teller
        self.compared = 0
        self.deferred = 0
        """How often a customer was compared, or not because the product could not have heard of all yet."""

    def _books(self) -> dict[Any, dict[str, Decimal]]:
        found: dict[Any, dict[str, Decimal]] = {}
        for row in self.teller.stage.rows(SUMS):
            account = ALIASES.get(row.account, row.account.rpartition(":")[2])
            book = found.setdefault(row.customer_id, {})
            book[account] = book.get(account, Decimal(0)) + row.amount
        return found

    def day(self) -> None:
        """Everybody of whom the product has heard all; and Stripe's own balance, always."""
        teller = self.teller
        books = self._books()
        waiting = set(teller.unheard.values())
        states = self._states()
        for name in teller.names:
            if name in waiting:
                self.deferred += 1
                continue
            self.compared += 1
            self._customer(name, books.get(customer_id_for(name), {}), states.get(name, {}))
        self._stripe()
        if HOUSE not in waiting:
            self._house(books, exact=False)

    def _states(self) -> dict[str, dict[str, tuple[str, Decimal]]]:
        rows = self.teller.stage.rows(
            "SELECT id, state, coalesce(amount_due - amount_paid - amount_credited, 0) AS open FROM invoices"
        )
        found: dict[str, dict[str, tuple[str, Decimal]]] = {}
        for row in rows:
            name, bill = self.teller._owner(str(row.id))
            found.setdefault(name, {})[bill] = (row.state, row.open)
        return found

    def _customer(self, name: str, book: dict[str, Decimal], states: dict[str, tuple[str, Decimal]]) -> None:
        paper = self.teller.papers[name]
        wanted = {account: amount for account, amount in paper.accounts.items() if amount}
        ours = {account: amount for account, amount in book.items() if amount}
        if wanted != ours:
            odd = {
                account: f"{ours.get(account, 0)} in the books, {wanted.get(account, 0)} on paper"
                for account in sorted({*ours, *wanted})
                if ours.get(account, Decimal(0)) != wanted.get(account, Decimal(0))
            }
            raise self._difference(name, f"{odd}")
        for bill in paper.bills.values():
            owed = bill.open + bill.given_up
            state, still_open = states.get(bill.name, ("nothing", Decimal(0)))
            if state != bill.state or (state in ("final", "uncollectible") and still_open != owed):
                raise self._difference(
                    name, f"invoice {bill.name} is {state}, open {still_open}; on paper {bill.state}, {owed}"
                )
        if len(states) != len(paper.bills):
            raise self._difference(name, f"invoices {sorted(states)} in the books, {sorted(paper.bills)} on paper")

    def _stripe(self) -> None:
        if self.teller.is_away:
            return
        there, wanted = money(self.teller.stage.at_stripe()), self.teller.house.at_stripe(self.teller.papers)
        if there != wanted:
            raise self._difference(HOUSE, f"Stripe holds {there}, on paper {wanted}")

    def _house(self, books: dict[Any, dict[str, Decimal]], *, exact: bool) -> None:
        """The company's own: the bank as it is known, and at the end every cent at Stripe."""
        mine = {customer_id_for(name) for name in self.teller.names}
        own = [book for key, book in books.items() if key not in mine]
        bank = sum((book.get("bank", Decimal(0)) for book in own), Decimal(0))
        if bank != self.teller.house.bank:
            raise self._difference(HOUSE, f"the bank has {bank}, on paper {self.teller.house.bank}")
        if not exact:
            return
        held = sum(
            (book.get("stripe", Decimal(0)) + book.get("customers", Decimal(0)) for book in books.values()), Decimal(0)
        )
        suspense = sum((book.get("suspense", Decimal(0)) for book in own), Decimal(0))
        fees = sum((book.get("provider_fees", Decimal(0)) for book in own), Decimal(0))
        in_transit = self.teller.house.in_transit
        wanted = self.teller.house.at_stripe(self.teller.papers) + in_transit
        if (held, suspense, fees) != (wanted, Decimal(0), self.teller.house.fees):
            raise self._difference(
                HOUSE, f"{held} at Stripe in all books, fees {fees}, suspense {suspense}; on paper {wanted}, fees "
                f"{self.teller.house.fees}",
            )  # fmt: skip

    def end(self, report: ReconcileReport) -> None:
        """Nothing is left over that nobody explains."""
        teller = self.teller
        left = [
            f"{one.kind} {one.text}"
            for one in report.unexplained
            if not teller.acts.explains(one.kind, one.customer_id, one.invoice_id)
        ]
        if left:
            raise self._difference(HOUSE, f"the last comparison found what nobody explains: {left}")
        for row in teller.stage.rows(
            "SELECT type, state, code, error FROM stripe_events WHERE state NOT IN ('done', 'ignored')"
        ):
            if row.code not in teller.acts.expected_parked:
                raise self._difference(HOUSE, f"an event was left: {tuple(row)}")
        for query in (
            "SELECT number, state, last_error FROM stripe_syncs WHERE state NOT IN ('done', 'canceled')",
            "SELECT kind, state, last_error FROM stripe_operations WHERE state NOT IN ('done', 'refused')",
            "SELECT kind, id::text, state FROM movements WHERE state = 'working'",
            "SELECT stage, subject, reason FROM parked_work WHERE released_at IS NULL",
        ):
            for row in teller.stage.rows(query):
                raise self._difference(HOUSE, f"something was left: {tuple(row)}")
        teller.unheard.clear()
        deferred = self.deferred
        self.day()
        if self.deferred != deferred:
            raise self._difference(HOUSE, "somebody was not compared at the end")
        self._house(self._books(), exact=True)
        with Session(teller.stage.engine) as session:
            for result in ledger_checks.run_checks(session, CHECKS):
                if not result.holds:
                    raise self._difference(HOUSE, f"{result.name}: {result.offenders}")

    def _difference(self, name: str, text: str) -> Difference:
        """The shortest useful story: what happened to this customer, and the entries."""
        teller = self.teller
        told = [line for line in teller.trace if f" {name} " in line or " process " in line]
        entries = []
        if name != HOUSE:
            entries = [
                f"{row.seq:4} {row.recorded_at:%m-%d %H} {row.kind:12} {row.debit_account} <- {row.credit_account}"
                f" {row.amount.normalize():f} {row.reason or ''}"
                for row in teller.stage.rows(
                    "SELECT * FROM ledger_entries WHERE customer_id = :c ORDER BY seq", c=customer_id_for(name)
                )
            ]
        story = "\n".join([*told[-80:], "-- entries", *entries[-60:]])
        return Difference(
            f"seed {teller.plan.seed}, {teller.plan.customers} customers, tick {teller.tick}, trace {teller.digest}: "
            f"{name}: {text}\n{story}"
        )
