"""Every call that we make to Stripe, and what its failure means.

Answers are plain dictionaries, as in webhook events, so that one function can read both.
"""

import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import stripe

from stripe_gateway.breaker import Breaker
from stripe_gateway.errors import (
    CallFailed,
    KeyMisused,
    NoAnswer,
    NotNow,
    NotThere,
    Refused,
    ServerFailed,
    StripeAway,
    StripeClosed,
)
from stripe_gateway.line import Line, Traffic
from stripe_gateway.money_calls import MoneyCalls
from stripe_gateway.pacing import Lane, LocalPacer, Pace, Pacer, Rates, Scope, SharedPacer

Json = dict[str, Any]

# Otherwise the SDK writes a file into the user's configuration folder and reports timings.
stripe.enable_telemetry = False

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 20.0  # together below the lease under which the call is made
READ_RETRIES = 2  # of calls that change nothing; the SDK waits 0.5 to 5 s between them
PAGE = 100
LIMITED_BY = "stripe-rate-limited-reason"
LIVE_KEYS = ("sk_live_", "rk_live_")


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How to reach Stripe. `api_base` None is Stripe itself; `redis_url` None paces this process alone."""

    api_key: str = field(repr=False)
    api_base: str | None = None
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    """All that are valid now: two while one replaces the other."""
    redis_url: str | None = field(default=None, repr=False)
    account_id: str | None = None
    """Our account at Stripe, `acct_...`: events about another one are refused. None: any that name one are."""
    rates: Rates | None = None
    """Stripe's limits. None: those of a live account, or of a test account if the key is one."""
    read_timeout_s: float = READ_TIMEOUT_S

    @property
    def livemode(self) -> bool:
        """Whether real money moves: every object and event must say the same."""
        return self.api_key.startswith(LIVE_KEYS)

    @property
    def paced_at(self) -> Rates:
        # A test account at Stripe has a global limit of 25 calls a second; our own sandbox has a live account's.
        # Source: https://docs.stripe.com/rate-limits
        if self.rates is not None:
            return self.rates
        return Rates() if self.livemode or self.api_base else Rates(total=25.0)

    def pacer(self) -> Pacer:
        """The one that this account's calls wait for."""
        if self.redis_url is None:
            return LocalPacer(self.paced_at)
        return SharedPacer(self.redis_url, self.paced_at, account=self.account)

    @property
    def account(self) -> str:
        """A name for the key's account that says nothing of the key."""
        return hashlib.sha256(self.api_key.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, the newest first; `after` leads to the next one, None at the end."""

    data: list[Json]
    after: str | None


class Client(MoneyCalls):
    """Stripe's API, as far as we use it. May be shared by threads; each keeps its own connection.

    Calls with an idempotency key are sent once: the outbox sends them again, on record and with its lease checked,
    while the SDK's own retries would stay unseen and could outlast the lease. Calls that only read are repeated.

    Every method raises a `CallFailed` of the class that says what to do. With a breaker, each raises `StripeAway` and
    sends nothing while Stripe is away.
    """

    def __init__(self, settings: ClientSettings, *, pacer: Pacer | None = None, breaker: Breaker | None = None) -> None:
        self.livemode = settings.livemode
        self.account_id = settings.account_id
        self.traffic = Traffic()
        self.paced_at = settings.paced_at
        self._lane: Lane = "bulk"
        self._pacer = pacer or settings.pacer()
        self._breaker = breaker
        self._line = Line(timeout=(CONNECT_TIMEOUT_S, settings.read_timeout_s))
        self._stripe = stripe.StripeClient(
            settings.api_key,
            base_addresses={"api": settings.api_base} if settings.api_base else {},
            max_network_retries=0,
            http_client=self._line,
        )

    def for_people(self) -> "Client":
        """The same client for calls that a person waits for: they go before all others."""
        faster = copy.copy(self)
        faster._lane = "person"
        return faster

    def pace(self) -> Pace | None:
        """How fast all processes call Stripe of late; None if nobody keeps that (without Redis)."""
        return self._pacer.pace()

    def stripe_is_there(self) -> bool:
        """Whether calls may be made now, as far as anybody knows. While Stripe is away, asks it when it is time."""
        try:
            self._check_breaker()
        except StripeAway:
            return False
        return True

    def until_probe_s(self) -> float | None:
        """Seconds until Stripe may be asked whether it is back; None while it is there."""
        return None if self._breaker is None else self._breaker.until_probe_s()

    def create_customer(self, body: Mapping[str, Any], *, key: str) -> Json:
        return self._send("customers.create", lambda: self._v1.customers.create(_params(body), _keyed(key)))

    def retrieve_customer(self, customer: str) -> Json:
        """A deleted customer comes back with `deleted` true."""
        return self._send("customers.retrieve", lambda: self._v1.customers.retrieve(customer, None, _REPEATED))

    def list_customers(self, *, created_from: int, email: str | None) -> Iterator[Json]:
        """Customers created at or after the Unix second `created_from`, the newest first."""
        asked: Json = {"created": {"gte": created_from}}
        if email is not None:
            asked["email"] = email
        return self._pages("customers.list", lambda p: self._v1.customers.list(_params(p), _REPEATED), asked)

    def create_invoice(self, body: Mapping[str, Any], *, key: str) -> Json:
        return self._send("invoices.create", lambda: self._v1.invoices.create(_params(body), _keyed(key)))

    def add_lines(self, invoice: str, body: Mapping[str, Any], *, key: str) -> Json:
        return self._send(
            "invoices.add_lines", lambda: self._v1.invoices.add_lines(invoice, _params(body), _keyed(key))
        )

    def finalize_invoice(self, invoice: str, body: Mapping[str, Any], *, key: str) -> Json:
        return self._send(
            "invoices.finalize", lambda: self._v1.invoices.finalize_invoice(invoice, _params(body), _keyed(key))
        )

    def delete_draft(self, invoice: str) -> None:
        """Delete a draft; one that is gone already is fine.

        Raises:
            Refused: it is no draft any more.
        """
        try:
            self._send("invoices.delete", lambda: self._v1.invoices.delete(invoice, None, _REPEATED))
        except NotThere:
            return

    def retrieve_invoice(self, invoice: str) -> Json:
        return self._send("invoices.retrieve", lambda: self._v1.invoices.retrieve(invoice, None, _REPEATED))

    def list_invoices(
        self, *, customer: str | None = None, created_from: int | None = None, status: str | None = None
    ) -> Iterator[Json]:
        """Invoices, the newest first; `created_from` is a Unix second, inclusive."""
        asked: Json = {"customer": customer, "status": status}
        if created_from is not None:
            asked["created"] = {"gte": created_from}
        return self._pages("invoices.list", lambda p: self._v1.invoices.list(_params(p), _REPEATED), asked)

    def list_invoice_payments(
        self, *, invoice: str | None = None, created_from: int | None = None, with_intents: bool = False
    ) -> Iterator[Json]:
        """Payments of invoices, the newest first; `with_intents` puts the payment intent in its id's place."""
        asked: Json = {"invoice": invoice}
        if created_from is not None:
            asked["created"] = {"gte": created_from}
        if with_intents:
            asked["expand"] = ["data.payment.payment_intent"]
        return self._pages(
            "invoice_payments.list", lambda p: self._v1.invoice_payments.list(_params(p), _REPEATED), asked
        )

    def list_balance_transactions(self, *, kind: str, created_from: int) -> Iterator[Json]:
        """Movements of the account's balance of one type, with their sources' ids, the newest first."""
        asked: Json = {"type": kind, "created": {"gte": created_from}, "expand": ["data.source"]}
        return self._pages(
            "balance_transactions.list", lambda p: self._v1.balance_transactions.list(_params(p), _REPEATED), asked
        )

    def list_events(
        self, *, types: Sequence[str], created_from: int | None = None, after: str | None = None, limit: int = PAGE
    ) -> Json:
        """One page of the events of these types (at most 20), the newest first, from those older than `after`.

        `created_from` is a Unix second, inclusive. `has_more` says whether older ones follow; Stripe keeps 30 days.
        """
        asked: Json = {"types": list(types), "limit": limit}
        if created_from is not None:
            asked["created"] = {"gte": created_from}
        if after is not None:
            asked["starting_after"] = after
        return self._send("events.list", lambda: self._v1.events.list(_params(asked), _REPEATED))

    def peek(self, operation: str, **asked: Any) -> Json:
        """The beginning of what an operation reads, such as `invoices.list`: to see whether the key may read it."""
        *path, verb = operation.split(".")
        service = self._v1
        for name in path:
            service = getattr(service, name)
        return self._send(operation, lambda: getattr(service, verb)(asked, _REPEATED))

    def create_portal_session(self, customer: str, *, return_url: str) -> Json:
        # A second session is as good as the first, so the SDK may repeat the call under a key of its own.
        return self._send(
            "billing_portal.sessions.create",
            lambda: self._v1.billing_portal.sessions.create(
                {"customer": customer, "return_url": return_url}, _REPEATED
            ),
        )

    def set_default_payment_method(self, customer: str, payment_method: str) -> str:
        """Attach the payment method and charge it from now on; returns its id, which differs for test methods."""
        attached = self._send(
            "payment_methods.attach",
            lambda: self._v1.payment_methods.attach(payment_method, {"customer": customer}, _REPEATED),
        )
        method = str(attached["id"])
        self._send(
            "customers.update",
            lambda: self._v1.customers.update(
                customer, {"invoice_settings": {"default_payment_method": method}}, _REPEATED
            ),
        )
        return method

    def page(
        self,
        kind: str,
        *,
        after: str | None,
        created_from: int | None = None,
        created_to: int | None = None,
        **narrowed: Any,
    ) -> Page:
        """One page of a kind, such as "refunds"; `created_*` are inclusive Unix seconds, `narrowed` are filters."""
        created = {"gte": created_from, "lte": created_to}
        asked: Json = {"limit": PAGE, "starting_after": after, **narrowed}
        asked["created"] = {name: value for name, value in created.items() if value is not None} or None
        wanted = {name: value for name, value in asked.items() if value is not None}
        answer = self._send(f"{kind}.list", lambda: getattr(self._v1, kind).list(_params(wanted), _REPEATED))
        data: list[Json] = answer["data"]
        return Page(data, data[-1]["id"] if answer["has_more"] and data else None)

    def read(self, kind: str, external_id: str) -> Json:
        """One object of a kind, such as "refunds"."""
        return self._send(f"{kind}.retrieve", lambda: getattr(self._v1, kind).retrieve(external_id, None, _REPEATED))

    @property
    def _v1(self) -> Any:
        # The SDK types each parameter as a TypedDict; ours come out of the database, frozen as JSON.
        return self._stripe.v1

    def _pages(self, operation: str, send: Callable[[Json], Any], asked: Json) -> Iterator[Json]:
        wanted = {name: value for name, value in asked.items() if value is not None} | {"limit": PAGE}
        while True:
            page = self._send(operation, lambda: send(wanted))
            yield from page["data"]
            if not page["has_more"] or not page["data"]:
                return
            wanted["starting_after"] = page["data"][-1]["id"]

    def _send(self, operation: str, send: Callable[[], Any]) -> Json:
        self._check_breaker()
        waited_s = self._pacer.wait(operation, lane=self._lane)
        if waited_s > 0:
            self._check_breaker()  # others may have found out while we waited
        begun = time.monotonic()
        try:
            answer: stripe.StripeObject = send()
            self._note_answer(None)
            return answer.to_dict()
        except stripe.StripeError as error:
            failure = failure_of(error)
            self._note_answer(failure)
            if failure.status == 429:
                self._pacer.refused(operation, scope=_too_fast(error, failure))
            raise failure from error
        finally:
            self.traffic.count(waited_s=waited_s, took_s=time.monotonic() - begun)

    def _check_breaker(self) -> None:
        if self._breaker is not None:
            self._breaker.check(self._probe)

    def _note_answer(self, failure: CallFailed | None) -> None:
        if self._breaker is None:
            return
        if isinstance(failure, NoAnswer | ServerFailed):
            self._breaker.failed(self._line.subject, failure)
        else:
            self._breaker.succeeded()

    def _probe(self) -> None:
        """The cheapest question that shows whether Stripe answers. It changes nothing, so its loss leaves no doubt."""
        try:
            self._v1.customers.list({"limit": 1})
        except stripe.StripeError as error:
            raise failure_of(error) from error


_REPEATED = {"max_network_retries": READ_RETRIES}


def _keyed(key: str) -> Json:
    return {"idempotency_key": key}


def _params(body: Mapping[str, Any]) -> Any:
    return dict(body)


def _too_fast(error: stripe.StripeError, failure: CallFailed) -> Scope | None:
    """What a 429 is about: everything, this operation, or (None) an object that is locked.

    Source: https://docs.stripe.com/rate-limits
    """
    headers = error.headers or {}
    reason = next((str(value) for name, value in headers.items() if name.lower() == LIMITED_BY), "")
    if not reason and failure.stripe_code == "lock_timeout":
        return None
    return "total" if reason.startswith("global") else "operation"


def failure_of(error: stripe.StripeError) -> CallFailed:
    """What to do about an exception of the SDK, as one of our classes."""
    status, kind, code = error.http_status, None, error.code
    body = error.json_body
    if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping):
        # A 409 comes without `code` on the exception itself.
        detail = cast("Mapping[str, Any]", body["error"])
        kind, code = detail.get("type"), code or detail.get("code")
    found = _class_of(error, status=status, kind=kind)
    text = error.user_message or str(error)
    return found(text, status=status, stripe_code=code, request_id=error.request_id)


def _class_of(error: stripe.StripeError, *, status: int | None, kind: str | None) -> type[CallFailed]:
    if status is None or isinstance(error, stripe.APIConnectionError):
        return NoAnswer
    if status in (401, 403):
        return StripeClosed
    if status in (409, 429):
        return NotNow
    if status == 400 and (kind == "idempotency_error" or isinstance(error, stripe.IdempotencyError)):
        return KeyMisused
    if status == 404:
        return NotThere
    if 400 <= status < 500:
        return Refused
    # 5xx, and a 2xx whose body cannot be read: it happened, or it did not.
    return ServerFailed if status >= 500 else NoAnswer
