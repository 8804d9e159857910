"""What can come back from Stripe besides an answer, sorted by what to do about it; and this room's own refusals."""

from datetime import datetime


class GatewayError(Exception):
    """The gateway refuses. `code` is stable; the text is for people and names the cure."""

    code = "gateway_error"


class CallFailed(GatewayError):
    """A call to Stripe had no usable answer.

    `status` is HTTP's, None without an answer; `stripe_code` is Stripe's own code; `request_id` finds the call in
    Stripe's log.
    """

    code = "stripe_call_failed"

    def __init__(
        self, text: str, *, status: int | None = None, stripe_code: str | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.stripe_code = stripe_code
        self.request_id = request_id


class NotNow(CallFailed):
    """Nothing was executed: a limiter, a lock, or the same key still in flight. Send the same again later."""

    code = "stripe_busy"


class StripeAway(NotNow):
    """Stripe has not answered anybody since `since`, so nothing was sent. It goes on by itself when Stripe is back."""

    code = "stripe_away"

    def __init__(self, since: datetime) -> None:
        super().__init__(
            f"Stripe has not answered since {since:%Y-%m-%d %H:%M:%S} UTC. Nothing was sent; everything that is due "
            "goes on by itself when Stripe is back."
        )
        self.since = since


class NotYet(NotNow):
    """Something else has to be done first. This waits, and goes on by itself."""

    code = "stripe_waits"


class NoAnswer(CallFailed):
    """The connection broke, so the call may or may not have been executed. The same key tells while Stripe keeps it."""

    code = "stripe_no_answer"


class ServerFailed(CallFailed):
    """Stripe answered 5xx: it may or may not have been executed, and the same key may repeat this answer for ever."""

    code = "stripe_server_error"


class Refused(CallFailed):
    """Stripe refused these parameters, and executed nothing. The same request will be refused again."""

    code = "stripe_refused"


class NotThere(Refused):
    """Stripe knows no such object."""

    code = "stripe_not_found"


class KeyMisused(CallFailed):
    """An idempotency key came with other parameters than the first time. A fault of ours: no new key will mend it."""

    code = "stripe_key_misused"


class StripeClosed(CallFailed):
    """Stripe does not accept our key (401 or 403). Nothing else will succeed before STRIPE_API_KEY is set right."""

    code = "stripe_closed"


class LeaseLost(GatewayError):
    """Another process took this work over while we waited; what we found out is not written."""

    code = "lease_lost"


class AmountNotExpressible(GatewayError):
    """This amount has finer parts than Stripe can charge in its currency."""

    code = "amount_not_expressible"


class SyncNotFound(GatewayError):
    """This invoice was never submitted to Stripe: it is not final, or nothing was to be collected."""

    code = "unknown_sync"


class SyncIsDone(GatewayError):
    """This invoice stands at Stripe already; there is nothing to try again."""

    code = "sync_done"


class OperationNotFound(GatewayError):
    """Nothing was asked of Stripe under this id. Reload the page."""

    code = "unknown_operation"


class OperationIsDone(GatewayError):
    """Stripe's answer is in the books already; there is nothing to try again."""

    code = "operation_done"


class EventNotFound(GatewayError):
    """No such event was received. Check the id; it begins with evt_."""

    code = "unknown_event"


class EventIsDone(GatewayError):
    """This event was handled already; running it again would do nothing."""

    code = "event_done"


class BadSignature(GatewayError):
    """The signature does not fit the body. If the webhook's secret was changed at Stripe, set STRIPE_WEBHOOK_SECRET."""

    code = "bad_signature"


class BadEvent(GatewayError):
    """The body is signed, but is no snapshot event. Set the webhook endpoint's payload style to Snapshot at Stripe."""

    code = "bad_event"


class BodyTooLarge(GatewayError):
    """The body is larger than any event of Stripe's."""

    code = "body_too_large"
