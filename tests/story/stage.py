"""The stage of a story: the product on a real database, the sandbox as a process, one clock for both, and death.

The product is called as its workers, cron and web endpoint call it, with the time of the story. Nothing here decides
anything: what is called when, meets which fault and dies where comes from the teller.
"""

import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import redis
import requests
import stripe
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from invoicing.adjustments import add_charge, credit_line, undo
from invoicing.credit.grants import grant_credit
from invoicing.customers import create_customer, customer_id_for
from invoicing.cycles import close_due
from invoicing.finalizing import finalize_due
from invoicing.movements.refunds import settle_refund
from invoicing.movements.requests import request_movement
from invoicing.settings import Settings
from ledger.entries import NewEntry, digest, entry_id, transaction_id
from ledger.posting import post
from stripe_gateway.breaker import Breaker, BreakerRules
from stripe_gateway.client import Client
from stripe_gateway.errors import StripeClosed
from stripe_gateway.gateway import StripeGateway
from stripe_gateway.reconciliation import ReconcileReport
from tests.gateway.conftest import settings_for
from tests.processes.sandbox import WEBHOOK_SECRET, SandboxProcess
from tests.sandbox.receiver import Receiver

AGENT = "agent@demo.test"
RULES = Settings(approval_limit=Decimal(10**6), anomaly_floor=Decimal(10**9))

# Real time must decide nothing: an outage is known after so many subjects, however fast they failed, and is probed
# when the story says that time has passed. What the one process knows stays true until the stage itself changes it.
BREAKER = BreakerRules(
    subjects=4, lasting_s=0, window_s=1e7, first_pause_s=3600, longest_pause_s=3600, relapse_s=1, known_for_s=1e7
)

_LEASED = ("stripe_syncs", "stripe_operations", "stripe_customers", "stripe_events")


class Killed(BaseException):
    """The process is dead. Nothing catches this: what was not committed is gone, what was sent was sent."""


class Mortality:
    """Where the process meets the world, it may die: before it speaks, or before it hears the answer."""

    def __init__(self) -> None:
        self._left: int | None = None
        self._after = False
        self.crossed = 0
        """How many calls this process sent to Stripe that may have changed something there."""

    @contextmanager
    def installed(self) -> Iterator["Mortality"]:
        """With the instruments on the libraries that speak, psycopg and requests, until the block ends."""
        owners: list[tuple[Any, str]] = [(psycopg.Connection, "commit"), (requests.adapters.HTTPAdapter, "send")]
        originals = [getattr(owner, name) for owner, name in owners]
        delays = stripe.HTTPClient.INITIAL_DELAY, stripe.HTTPClient.MAX_DELAY
        # The SDK waits between two tries of a read; nothing depends on how long.
        stripe.HTTPClient.INITIAL_DELAY, stripe.HTTPClient.MAX_DELAY = 0.0, 0
        for (owner, name), original in zip(owners, originals, strict=True):
            setattr(owner, name, self._around(original))
        try:
            yield self
        finally:
            for (owner, name), original in zip(owners, originals, strict=True):
                setattr(owner, name, original)
            stripe.HTTPClient.INITIAL_DELAY, stripe.HTTPClient.MAX_DELAY = delays

    def _around(self, original: Any) -> Any:
        def crossing(subject: Any, *args: Any, **options: Any) -> Any:
            if args and isinstance(subject, requests.adapters.HTTPAdapter):
                self.crossed += args[0].method != "GET" and "/v1/" in args[0].url
            dies = self._count()
            if dies and not self._after:
                raise Killed
            answer = original(subject, *args, **options)
            if dies:
                if answer is not None:
                    answer.close()
                raise Killed
            return answer

        return crossing

    def _count(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        if self._left >= 0:
            return False
        self._left = None
        return True

    @contextmanager
    def at(self, boundary: int | None, *, after: bool) -> Iterator[None]:
        """Die at this boundary of the block (from 0), if it has so many."""
        self._left, self._after = boundary, after
        try:
            yield
        finally:
            self._left = None


@dataclass(frozen=True)
class Errand:
    """Something that is due: "event", "sync" or "operation", in an order that does not depend on Stripe's ids."""

    kind: str
    ids: tuple[str, ...]
    rank: tuple[Any, ...]


class Stage:
    """One story's product and sandbox."""

    def __init__(
        self, engine: Engine, sandbox: SandboxProcess, receiver: Receiver, mortality: Mortality, *, redis_url: str
    ) -> None:
        self.engine, self.sandbox, self.receiver, self.mortality = engine, sandbox, receiver, mortality
        self._looking = engine.execution_options(isolation_level="AUTOCOMMIT")  # a third of the round trips
        self.now = datetime.min.replace(tzinfo=UTC)
        self.redis_url = redis_url
        self._taken = self._seq = self._heard_at = 0
        self.somebody_died = False
        self._order: dict[str, int] = {}
        self._line = requests.Session()
        self._line.trust_env = False
        self.start()

    def start(self) -> None:
        """A process begins: it knows nothing but what is stored."""
        settings = settings_for(self.sandbox, redis_url=self.redis_url)
        self.gateway = StripeGateway(self.engine, settings)
        self.gateway.__dict__["client"] = Client(settings, breaker=Breaker(self.engine, BREAKER))

    # time

    def go_to(self, now: datetime) -> None:
        """It is `now`, for everybody, and Stripe did what was due until then; what dead processes held is free."""
        self.now = now
        probe = "UPDATE stripe_outages SET next_probe_at = clock_timestamp() - interval '1 s' WHERE until IS NULL"
        updates = []
        if self.somebody_died:
            self.somebody_died = False
            updates += [
                f"UPDATE {table} SET lease_until = clock_timestamp() - interval '1 second'"  # noqa: S608 - ours
                " WHERE lease_until > clock_timestamp() - interval '1 second'"
                for table in _LEASED
            ]
        with self._looking.connect() as connection:
            if connection.execute(text(probe)).rowcount:
                self.start()  # what the process knew of the next probe is not so any more
            for update in updates:
                connection.execute(text(update))
        self._press("_sim/clock", json={"set": now.timestamp(), "freeze": True})

    def redis_is_lost(self) -> None:
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushdb()

    # what people do here

    def customer(self, name: str, *, card: str | None) -> None:
        with Session(self.engine) as session, session.begin():
            create_customer(session, external_id=name, name=name, currency="USD", actor=AGENT, now=self.now)
        if card is not None:
            self.gateway.set_payment_method(customer_id=customer_id_for(name), payment_method=card, now=self.now)

    def use(self, name: str, at: datetime, amount: Decimal, *, number: int) -> None:
        transaction = transaction_id("story", f"{name} {number}")
        accounts = ("assets:unbilled", "income:usage") if amount >= 0 else ("income:usage", "assets:unbilled")
        entry = NewEntry(
            customer_id=customer_id_for(name),
            id=entry_id(transaction, "usage"),
            transaction_id=transaction,
            debit_account=accounts[0],
            credit_account=accounts[1],
            amount=abs(amount),
            quantity=Decimal(1),
            effective_at=at,
            kind="usage",
            actor=AGENT,
            digest=digest({"amount": amount}),
            item=f"machine-{number % 3}",
        )
        with Session(self.engine) as session, session.begin():
            post(session, [entry], now=self.now)

    def grant(self, name: str, kind: str, amount: Decimal, *, grant_id: UUID) -> None:
        with Session(self.engine) as session, session.begin():
            grant_credit(
                session,
                customer_id=customer_id_for(name),
                grant_id=grant_id,
                account=f"liabilities:credits:{kind}",
                amount=amount,
                reason="A gift",
                actor=AGENT,
                now=self.now,
            )

    def correct(self, name: str, bill: str, amount: Decimal) -> UUID:
        """Correct a draft: a charge if `amount` is above 0, else a credit on its largest line."""
        row = self.bill(name, bill)
        common: dict[str, Any] = {
            "customer_id": row.customer_id,
            "invoice_id": row.id,
            "expected_version": row.version,
            "reason": "Agreed by phone",
            "actor": AGENT,
            "settings": RULES,
            "now": self.now,
        }
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            if amount > 0:
                return add_charge(session, amount=amount, description="Set-up", **common).id
            line = session.scalar(
                text(
                    "SELECT id FROM invoice_lines WHERE customer_id = :c AND invoice_id = :i"
                    " AND adjustment_id IS NULL ORDER BY amount DESC, item LIMIT 1"
                ),
                {"c": row.customer_id, "i": row.id},
            )
            return credit_line(session, amount=-amount, line_id=line, **common).id

    def uncorrect(self, name: str, bill: str, adjustment: UUID) -> None:
        row = self.bill(name, bill)
        with Session(self.engine) as session, session.begin():
            undo(
                session,
                customer_id=row.customer_id,
                invoice_id=row.id,
                expected_version=row.version,
                adjustment_id=adjustment,
                reason="A mistake",
                actor=AGENT,
                now=self.now,
            )

    def ask(
        self, name: str, bill: str, kind: str, amount: Decimal | None, options: dict[str, str], *, movement_id: UUID
    ) -> None:
        """Begin a movement; refusals come as `InvoicingError`."""
        row = self.bill(name, bill)
        with Session(self.engine) as session, session.begin():
            request_movement(
                session,
                customer_id=row.customer_id,
                invoice_id=row.id,
                movement_id=movement_id,
                kind=kind,
                amount=amount,
                options=options,
                reason="The customer asked for it",
                actor=AGENT,
                provider=self.gateway,
                settings=RULES,
                now=self.now,
            )

    def transferred(self, name: str, refund: UUID) -> None:
        """Staff sent a refund by bank transfer and say so."""
        with Session(self.engine) as session, session.begin():
            settle_refund(
                session,
                customer_id=customer_id_for(name),
                refund_id=refund,
                status="succeeded",
                external_id=f"transfer {refund}",
                failure_code=None,
                failure_reason=None,
                at=self.now,
                actor=AGENT,
                now=self.now,
            )

    # what cron and workers do

    def close(self) -> None:
        close_due(self.engine, as_of=self.now, settings=RULES)

    def finalize(self) -> None:
        finalize_due(self.engine, provider=self.gateway, as_of=self.now)

    def due(self) -> list[Errand]:
        found = []
        waiting = self.gateway.due_work(now=self.now, limit=100_000)
        ranks: dict[str, tuple[Any, ...]] = {}
        if any(work.kind == "operation" for work in waiting):
            kinds = self.rows("SELECT customer_id, id, kind, created_at FROM stripe_operations")
            ranks = {str(row.id): (row.kind, str(row.customer_id), row.created_at) for row in kinds}
        for work in waiting:
            rank: tuple[Any, ...] = work.ids
            if work.kind == "event":
                rank = (self._order[work.ids[0]],)
            elif work.kind == "operation":
                kind, customer, at = ranks[work.ids[1]]
                # Only the ids of a "balance" come from Stripe's; a customer has one at a time.
                rank = (kind, customer, at, "" if kind == "balance" else work.ids[1])
            found.append(Errand(work.kind, work.ids, rank))
        return sorted(found, key=lambda errand: (errand.kind, errand.rank))

    def run(self, errand: Errand) -> str:
        """As a worker does one job; answers the state in which it was left."""
        try:
            if errand.kind == "event":
                return self.gateway.handle_event(event_id=errand.ids[0], now=self.now) or "nothing"
            customer, subject = UUID(errand.ids[0]), UUID(errand.ids[1])
            if errand.kind == "sync":
                return self.gateway.sync_one(customer_id=customer, invoice_id=subject, now=self.now) or "nothing"
            return self.gateway.operate_one(customer_id=customer, subject_id=subject, now=self.now) or "nothing"
        except StripeClosed:
            return "closed"

    def reconcile(self) -> ReconcileReport:
        return self.gateway.reconcile(now=self.now)

    def catch_up(self) -> int:
        return self.gateway.catch_up(now=self.now).missed

    def staff_look(self) -> int:
        """Staff run again what was set aside; answers how much that was."""
        count = 0
        with Session(self.engine) as session, session.begin():
            for row in session.execute(text("SELECT customer_id, invoice_id FROM stripe_syncs WHERE state = 'parked'")):
                self.gateway.retry(session, customer_id=row[0], invoice_id=row[1], actor=AGENT, now=self.now)
                count += 1
            for row in session.execute(text("SELECT customer_id, id FROM stripe_operations WHERE state = 'parked'")):
                self.gateway.retry_operation(session, customer_id=row[0], subject_id=row[1], actor=AGENT, now=self.now)
                count += 1
            for row in session.execute(text("SELECT id FROM stripe_events WHERE state = 'parked'")):
                self.gateway.rerun(session, event_id=row[0], actor=AGENT, now=self.now)
                count += 1
        return count

    # the post

    def news(self) -> list[tuple[dict[str, Any], bytes]]:
        """What Stripe said since the last call, each event with its body, in the order in which it happened there."""
        if self.mortality.crossed == self._heard_at:
            return []  # nothing happened at Stripe since
        if self._press("_sim/webhooks/wait", json={"timeout_s": 60})["pending"]:
            raise TimeoutError("the sandbox still owes webhooks after a minute")
        self._heard_at = self.mortality.crossed
        if self._taken == len(self.receiver.deliveries):
            return []
        asked = {"after": self._seq, "limit": 100_000}
        listed = self._line.get(f"{self.sandbox.url}/_sim/webhooks", params=asked, timeout=60).json()["deliveries"]
        bodies = {delivery.event["id"]: delivery.body for delivery in self.receiver.deliveries[self._taken :]}
        self._taken = len(self.receiver.deliveries)
        self._seq = max([self._seq, *(line["seq"] for line in listed)])
        for line in listed:
            self._order.setdefault(line["event_id"], len(self._order))
        return [(json.loads(bodies[line["event_id"]]), bodies[line["event_id"]]) for line in listed]

    def deliver(self, body: bytes, *, secret: str = WEBHOOK_SECRET) -> str:
        """As the web endpoint takes it, at the story's time: the sandbox itself signs with real time."""
        stamp = int(self.now.timestamp())
        mark = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
        with Session(self.engine) as session, session.begin():
            event = self.gateway.receive(session, body=body, signature=f"t={stamp},v1={mark}", now=self.now)
        self._order.setdefault(event, len(self._order))
        return event

    # Stripe's own buttons

    def by_hand(self, path: str, **form: Any) -> dict[str, Any]:
        """What somebody does in the Dashboard, through the ordinary API with a key of the account."""
        return self._press(f"v1/{path}", data=form, auth=(self.sandbox.api_key, ""))

    def steer(self, path: str, **body: Any) -> dict[str, Any]:
        """What customers and banks do."""
        return self._press(f"_sim/{path}", json=body)

    def _press(self, path: str, **what: Any) -> dict[str, Any]:
        self._heard_at = -1
        answer = self._line.post(f"{self.sandbox.url}/{path}", timeout=60, **what)
        found: dict[str, Any] = answer.json()
        return found if answer.ok else {"refused": found["error"].get("code") or found["error"]["type"]}

    def at_stripe(self) -> int:
        """Stripe's balance, in minor units."""
        answer = self._line.get(f"{self.sandbox.url}/v1/balance", auth=(self.sandbox.api_key, ""), timeout=60)
        found = answer.json()
        return sum(part["amount"] for kind in ("available", "pending") for part in found[kind])

    # looking

    def rows(self, query: str, **values: Any) -> Sequence[Any]:
        with self._looking.connect() as connection:
            return connection.execute(text(query), values).all()

    def bill(self, name: str, bill: str) -> Any:
        """The invoice's row, by the model's name for it: period, generation."""
        period, generation = (int(part) for part in bill.split("."))
        [row] = self.rows(
            "SELECT * FROM invoices WHERE customer_id = :c AND generation = :g AND extract(year FROM period_start) * 12"
            " + extract(month FROM period_start) - 1 = :p AND kind = 'cycle'",
            c=customer_id_for(name), g=generation, p=period,
        )  # fmt: skip
        return row
