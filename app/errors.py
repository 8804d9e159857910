"""The one place that knows HTTP's opinion of our refusals."""

from http import HTTPStatus

import structlog
from flask import Flask, render_template, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import DBAPIError, OperationalError
from werkzeug.exceptions import HTTPException

from app.accounts.staff import StaffError
from app.api.problems import problem_response
from invoicing.errors import InvoicingError
from ledger.errors import LedgerError
from stripe_gateway.errors import GatewayError

HTTP_STATUS: dict[str, int] = {
    "unknown_customer": 404,
    "unknown_invoice": 404,
    "unknown_entry": 404,
    "unknown_line": 404,
    "unknown_adjustment": 404,
    "unknown_event": 404,
    "not_a_draft": 409,
    "draft_changed": 409,
    "draft_held": 409,
    "already_held": 409,
    "not_held": 409,
    "not_parked": 409,
    "approval_pending": 409,
    "approval_not_needed": 409,
    "adjustment_undone": 409,
    "second_person_needed": 403,
    "draft_does_not_match_ledger": 409,
    "customer_conflict": 409,
    "books_conflict": 409,
    "entry_conflict": 409,
    "payment_conflict": 409,
    "credit_conflict": 409,
    "unknown_credit": 404,
    "nothing_left_of_credit": 409,
    "credit_disputed": 409,
    "credit_not_paid": 409,
    "price_conflict": 409,
    "unknown_movement": 404,
    "unknown_refund": 404,
    "plan_change_refused": 409,
    "no_plan": 409,
    "included_changed": 409,
    "period_moved": 409,
    "nothing_to_bill": 409,
    "cannot_bill_now": 409,
    "movement_conflict": 409,
    "movement_under_way": 409,
    "movement_not_possible": 409,
    "not_awaiting_approval": 409,
    "refund_conflict": 409,
    "dispute_conflict": 409,
    "payout_conflict": 409,
    "batch_too_large": 413,
    "unknown_user": 404,
    "user_exists": 409,
    "bad_signature": 400,
    "bad_event": 400,
    "body_too_large": 413,
    "unknown_sync": 404,
    "sync_done": 409,
    "unknown_operation": 404,
    "operation_done": 409,
    "stripe_order_conflict": 409,
    "event_done": 409,
    "lease_lost": 409,
    "stripe_busy": 503,
    "stripe_no_answer": 503,
    "stripe_server_error": 503,
    "stripe_closed": 503,
    "stripe_call_failed": 502,
    "stripe_refused": 502,
    "stripe_not_found": 502,
}
"""By stable code; every other refusal is 422: the request was understood, and is not acceptable as it stands."""

_FOR_PROGRAMS = {
    404: "There is nothing at this address. /api/v1/openapi.json lists what there is; ids in addresses are UUIDs.",
    405: "This address is not asked this way. The header Allow names the methods; /api/v1/openapi.json lists them all.",
}
"""What a developer is told where Flask speaks to somebody at a browser's address line."""

log = structlog.get_logger()

REFUSALS = (LedgerError, InvoicingError, GatewayError, StaffError)


def status_of(error: Exception) -> int:
    """The HTTP status that says what one of our refusals says."""
    return HTTP_STATUS.get(str(getattr(error, "code", "")), HTTPStatus.UNPROCESSABLE_ENTITY)


def _wants_problem() -> bool:
    return request.path.startswith(("/api/", "/webhooks/"))


def _answer(error: Exception, *, status: int, code: str, title: str, detail: str) -> ResponseReturnValue:
    if _wants_problem():
        return problem_response(status=status, code=code, title=title, detail=detail, error=error)
    return render_template("error.html", status=status, code=code, title=title, detail=detail), status


def handle_refusal(error: Exception) -> ResponseReturnValue:
    """One of ours: say what is wrong and how to cure it."""
    status = status_of(error)
    title = HTTPStatus(status).phrase
    return _answer(error, status=status, code=str(getattr(error, "code", "refused")), title=title, detail=str(error))


def handle_http(error: HTTPException) -> ResponseReturnValue:
    """Flask's own: not found, method not allowed, too large."""
    status = error.code or 500
    if status < 400:
        return error.get_response()
    code = HTTPStatus(status).phrase.lower().replace(" ", "_") if status in set(HTTPStatus) else "error"
    detail = error.description or error.name
    if request.path.startswith("/api/"):
        detail = _FOR_PROGRAMS.get(status, detail)
    return _answer(error, status=status, code=code, title=error.name, detail=detail)


def handle_csrf(error: CSRFError) -> ResponseReturnValue:
    """A form without its token: an old page, or another site's."""
    detail = "This page is too old, or the form was not ours. Go back, reload the page and send it again."
    return _answer(error, status=400, code="csrf", title="The form could not be accepted", detail=detail)


def handle_database(error: DBAPIError) -> ResponseReturnValue:
    """Postgres is away or busy: nothing is half done, so the same request may be sent again."""
    if not isinstance(error, OperationalError) and not error.connection_invalidated:
        return handle_unexpected(error)
    log.warning("database unavailable", error=str(error.orig).splitlines()[0])
    detail = "The database did not answer. Nothing was changed; send the same request again in a moment."
    return _answer(error, status=503, code="database_unavailable", title="Try again", detail=detail)


def handle_unexpected(error: Exception) -> ResponseReturnValue:
    """Ours to mend: the caller learns nothing but that it happened, the log learns everything."""
    log.exception("request failed", path=request.path, method=request.method)
    detail = "Something went wrong on our side, and nothing was changed. It has been logged."
    return _answer(error, status=500, code="internal_error", title="Internal error", detail=detail)


def register(app: Flask) -> None:
    for refusal in REFUSALS:
        app.register_error_handler(refusal, handle_refusal)
    app.register_error_handler(CSRFError, handle_csrf)
    app.register_error_handler(HTTPException, handle_http)
    app.register_error_handler(DBAPIError, handle_database)
    app.register_error_handler(Exception, handle_unexpected)
