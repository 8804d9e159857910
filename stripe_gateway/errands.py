"""Errands: a claimed row that is taken to Stripe step by step. What syncs and operations have in common stands here.

Each step asks Stripe with no transaction open and stores the answer under the row's fence. Whatever can come back
besides an answer is noted the same way for both: what did nothing is sent again, what may have happened is looked for
before anything is sent again, what will never succeed waits for a person.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from stripe_gateway import outbox, recovery
from stripe_gateway.client import Client
from stripe_gateway.clock import RunClock
from stripe_gateway.errors import (
    CallFailed,
    GatewayError,
    KeyMisused,
    LeaseLost,
    NoAnswer,
    Refused,
    ServerFailed,
    StripeAway,
    StripeClosed,
)
from stripe_gateway.recovery import SAME_KEY_TRIES, StillUnsure
from stripe_gateway.tables import StripeOperation, StripeRequest, StripeSync

_LOG = structlog.get_logger(__name__)

SURPRISES = 5  # attempts that may fail in an unforeseen way before a person is asked

Errand = TypeVar("Errand", StripeSync, StripeOperation)


class Runner(ABC, Generic[Errand]):
    """Takes one claimed errand as far as it goes."""

    name: ClassVar[str]
    """What the log calls these errands."""

    def __init__(self, engine: Engine, client: Client, clock: RunClock) -> None:
        self._engine = engine
        self._client = client
        self._clock = clock

    @property
    @abstractmethod
    def steps(self) -> Mapping[str, Callable[[Errand], Errand]]:
        """What is done at each step; every one returns the row as it is then."""

    @abstractmethod
    def subject(self, errand: Errand) -> UUID:
        """Under which id its requests are frozen."""

    def run(self, errand: Errand) -> Errand:
        """Work on a claimed errand until it ends, is parked, or must wait; returns its row as it is then.

        Raises:
            LeaseLost: another process went on with it.
            StripeClosed: Stripe does not take our key; the row was let go as it stood.
        """
        while errand.lease_until is not None and errand.step != "done":
            try:
                errand = self.steps[errand.step](errand)
            except CallFailed as failure:
                errand = self._note(errand, failure)
                if isinstance(failure, StripeClosed):
                    raise
            except (LeaseLost, SQLAlchemyError):
                raise
            except GatewayError as refusal:
                errand = self._park(errand, refusal.code, str(refusal))
            except Exception as error:  # noqa: BLE001 - one customer's surprise must not keep the others waiting
                errand = self._note_surprise(errand, error)
        return errand

    def _must_look(self, errand: Errand, request: StripeRequest) -> bool:
        """Whether Stripe is to be read before anything is sent."""
        return errand.state == "unknown" or not recovery.is_trusted(request, now=self._clock.now())

    def _request(self, errand: Errand, step: str) -> StripeRequest:
        request = outbox.request_of(
            self._engine,
            customer_id=errand.customer_id,
            subject_id=self.subject(errand),
            step=step,
            generation=errand.generation,
        )
        assert request is not None, "a step is entered together with its request"  # noqa: S101 - one transaction
        return request

    def _doubt(self, errand: Errand, **values: Any) -> Errand:
        """Remember that Stripe must be asked before anything is sent, so that a failure to ask changes nothing."""
        return outbox.keep(self._engine, errand, state="unknown", **values)

    def _park(self, errand: Errand, code: str, reason: str, **values: Any) -> Errand:
        subject = str(self.subject(errand))
        _LOG.error(f"{self.name} parked", customer_id=str(errand.customer_id), id=subject, code=code, reason=reason)
        return outbox.release(
            self._engine, errand, state="parked", unsure_at=None, last_code=code, last_error=reason, **values
        )

    def _note(self, errand: Errand, failure: CallFailed) -> Errand:
        """Store how an attempt failed, and let the row go."""
        now = self._clock.now()
        code = failure.stripe_code or failure.code
        if isinstance(failure, Refused | KeyMisused):
            return self._park(errand, code, str(failure))
        if isinstance(failure, StripeAway):
            # Nothing was sent, so this was no attempt: it stays due, and its turn comes when Stripe is back.
            return outbox.release(self._engine, errand, attempts=max(0, errand.attempts - 1))
        # The step itself may have begun to doubt before it failed: what is stored counts.
        doubtful = outbox.again(self._engine, errand).state == "unknown"
        values: dict[str, Any] = {
            "state": "unknown" if doubtful else "waiting",
            "next_attempt_at": outbox.retry_at(errand.attempts, now=now),
            "last_code": code,
            "last_error": str(failure),
        }
        if isinstance(failure, StillUnsure):
            values |= {"state": "unknown", "next_attempt_at": failure.until}
        elif isinstance(failure, NoAnswer | ServerFailed) and not doubtful:
            values["unsure_at"] = now
            if isinstance(failure, ServerFailed) and errand.attempts >= SAME_KEY_TRIES:
                values["state"] = "unknown"
        return outbox.release(self._engine, errand, **values)

    def _note_surprise(self, errand: Errand, error: Exception) -> Errand:
        """Something nobody foresaw, such as an answer of another shape: try again a few times, then park."""
        _LOG.exception(f"{self.name} failed", customer_id=str(errand.customer_id), id=str(self.subject(errand)))
        reason = f"{type(error).__name__}: {error}"
        if errand.attempts >= SURPRISES:
            return self._park(errand, "unexpected", reason)
        retry_at = outbox.retry_at(errand.attempts, now=self._clock.now())
        return outbox.release(
            self._engine, errand, state="unknown", next_attempt_at=retry_at, last_code="unexpected", last_error=reason
        )
