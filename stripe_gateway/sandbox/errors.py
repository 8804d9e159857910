"""Refusals in Stripe's own words and shapes."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


class ApiError(Exception):
    """An answer with an error body, as Stripe would give it.

    `stored` says whether the idempotency layer keeps it: Stripe keeps what happened after execution began and forgets
    what validation, limits and authentication refused. `keeps_work` is true where the refusal is itself the result of
    work that stays, such as a declined charge.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        decline_code: str | None = None,
        extra: Json | None = None,
        headers: dict[str, str] | None = None,
        stored: bool = True,
        keeps_work: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.stored = stored
        self.keeps_work = keeps_work
        body: Json = {"message": message, "type": kind}
        if code is not None:
            body["code"] = code
            body["doc_url"] = f"https://docs.stripe.com/error-codes/{code.replace('_', '-')}"
        if param is not None:
            body["param"] = param
        if decline_code is not None:
            body["decline_code"] = decline_code
        body.update(extra or {})
        self.body: Json = {"error": body}


def invalid(message: str, *, code: str | None = None, param: str | None = None) -> ApiError:
    """A request that could not be understood; never stored under its idempotency key."""
    return ApiError(400, message, code=code, param=param, stored=False)


def refused(message: str, *, code: str | None = None, param: str | None = None) -> ApiError:
    """A well-formed request that the object's state forbids; stored, as execution had begun."""
    return ApiError(400, message, code=code, param=param)


def missing(noun: str, object_id: str, *, param: str = "id") -> ApiError:
    """No such object: 404 when the address names it, 400 when a parameter does."""
    status = 404 if param == "id" else 400
    return ApiError(status, f"No such {noun}: '{object_id}'", code="resource_missing", param=param)


def unauthorized(message: str) -> ApiError:
    return ApiError(401, message, stored=False)


def forbidden() -> ApiError:
    """A restricted key without the permission."""
    return ApiError(403, "The provided key does not have the required permissions for this endpoint.", stored=False)


def in_use() -> ApiError:
    """The first request with an idempotency key has not come to its end."""
    return ApiError(
        409,
        "There is currently another in-progress request using this Idempotency Key (that probably means you submitted "
        "twice, and the other request is still going through). Try again later.",
        kind="idempotency_error",
        code="idempotency_key_in_use",
        stored=False,
    )


def rate_limited(reason: str) -> ApiError:
    """A 429 of the rate or concurrency limiters; it names its reason and runs before the idempotency layer."""
    return ApiError(
        429,
        "Request rate limit exceeded. Learn more about rate limits here https://docs.stripe.com/rate-limits.",
        code="rate_limit",
        headers={"Stripe-Rate-Limited-Reason": reason},
        stored=False,
    )


def lock_timeout() -> ApiError:
    """A 429 without a reason: the object was locked by another request, nothing was executed."""
    return ApiError(
        429,
        "This object cannot be accessed right now because another API request or Stripe process is currently accessing "
        "it. If you see this error intermittently, retry the request.",
        code="lock_timeout",
        headers={"Stripe-Should-Retry": "true"},
        stored=False,
    )


def server_error(*, should_retry: bool | None = None) -> ApiError:
    """A 500; `should_retry` is what Stripe's header of that name may advise."""
    return ApiError(
        500,
        "An unknown error occurred. Please contact support if this keeps happening.",
        kind="api_error",
        headers={} if should_retry is None else {"Stripe-Should-Retry": str(should_retry).lower()},
    )
