"""The API's own description, as OpenAPI 3.1. A test compares it with the routes and with real answers."""

from typing import Any

from flask import jsonify
from flask.typing import ResponseReturnValue

from app.api.blueprint import bp
from app.api.problems import CONTENT_TYPE
from app.api.schemas import MAX_EVENTS
from invoicing.beginnings import BY_KIND
from invoicing.credits import GRANTABLE
from invoicing.customers import DEFAULT_PROVIDER, PROVIDERS
from invoicing.disputes import STATUSES as DISPUTE_STATUSES
from invoicing.early_bills import CAUSES
from invoicing.plans import INTERVALS, TIMINGS
from invoicing.tax_ids import FORMS
from invoicing.tax_profiles import STATUSES

Json = dict[str, Any]


@bp.get("/openapi.json")
def openapi() -> ResponseReturnValue:
    """This description. It needs no token."""
    return jsonify(DOCUMENT)


def _object(properties: Json, *, required: list[str] | None = None) -> Json:
    names = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


TEXT: Json = {"type": "string"}
WHOLE: Json = {"type": "integer"}
EXACT: Json = {"type": "string", "pattern": r"^-?\d+(\.\d+)?$", "description": "An exact decimal number, as text."}
SENT: Json = {
    "anyOf": [{"type": "string"}, {"type": "number"}],
    "description": "An exact decimal number, as text or as a JSON number; every digit counts.",
}
TIME: Json = {"type": "string", "format": "date-time"}
UUID: Json = {"type": "string", "format": "uuid"}

_CUSTOMER_DETAILS: Json = {
    "external_id": {"type": "string", "minLength": 1, "maxLength": 200, "description": "The platform's own id."},
    "name": {"type": "string", "minLength": 1, "maxLength": 200},
    "currency": {"type": "string", "pattern": "^[A-Z]{3}$", "description": "ISO 4217; for the customer's whole life."},
    "time_zone": {"type": "string", "default": "UTC", "description": "IANA name; months are cut at its midnights."},
    "anchor_day": {"type": "integer", "minimum": 1, "maximum": 31, "default": 1},
    "email": _or_null({"type": "string", "maxLength": 320}),
    "collection_method": {"enum": ["automatic", "send_invoice"], "default": "automatic"},
    "draft_window_s": _or_null({"type": "integer", "minimum": 0, "maximum": 50 * 86_400}),
    "provider": {"enum": list(PROVIDERS), "default": DEFAULT_PROVIDER},
}
_PLAN: Json = {
    "plan": TEXT,
    "name": TEXT,
    "currency": TEXT,
    "fee": {**EXACT, "description": "For a whole interval, in major units."},
    "interval": {"enum": list(INTERVALS)},
    "timing": {"enum": list(TIMINGS)},
    "included_usage": {**EXACT, "description": "Usage of each month that costs nothing, in major units."},
    "trial_days": WHOLE,
    "valid_from": TIME,
}
_INVOICE: Json = {
    "id": UUID,
    "customer_id": UUID,
    "number": _or_null(TEXT),
    "kind": {"enum": ["cycle", "top_up"]},
    "state": {"enum": ["draft", "final", "paid", "void", "uncollectible", "carried_forward", "empty"]},
    "period_start": TIME,
    "period_end": TIME,
    "currency": TEXT,
    "exact_total": _or_null(EXACT),
    "tax": {**EXACT, "description": "Tax on top of the lines, part of total; 0 until it is final."},
    "tax_included": {**EXACT, "description": "Tax inside of lines whose prices include it."},
    "total": _or_null(EXACT),
    "credits_applied": _or_null(EXACT),
    "amount_due": _or_null(EXACT),
    "amount_credited": {**EXACT, "description": "What credit notes took off the open amount."},
    "amount_paid": EXACT,
    "amount_open": {**EXACT, "description": "What is still to be paid; 0 unless the invoice is final."},
    "provider": _or_null({"enum": list(PROVIDERS)}),
    "finalize_after": TIME,
    "finalized_at": _or_null(TIME),
    "paid_at": _or_null(TIME),
}
_LINE = _object(
    {
        "id": UUID,
        "position": WHOLE,
        "item": _or_null(TEXT),
        "description": TEXT,
        "quantity": _or_null(EXACT),
        "amount": EXACT,
        "rounded": _or_null(EXACT),
        "tax_inclusive": {"type": "boolean"},
        "usage_period_start": TIME,
    }
)
_TAX = _object(
    {
        "name": TEXT,
        "jurisdiction": TEXT,
        "percent": EXACT,
        "inclusive": {"type": "boolean"},
        "treatment": {"enum": ["rate", "reverse_charge", "exempt"]},
        "taxable": EXACT,
        "amount": EXACT,
        "legal_note": _or_null(TEXT),
    }
)
_TAX_PROFILE = _object(
    {
        "customer_id": UUID,
        "version": WHOLE,
        "country": TEXT,
        "state": _or_null(TEXT),
        "tax_id": _or_null(TEXT),
        "tax_id_type": _or_null({"enum": list(FORMS)}),
        "status": {"enum": list(STATUSES)},
        "legal_note": _or_null(TEXT),
        "valid_from": TIME,
        "reason": TEXT,
        "actor": TEXT,
        "recorded_at": TIME,
    }
)
_PAYMENT = _object({"provider": TEXT, "id": TEXT, "amount": EXACT, "received_at": TIME})
_FAILURE = _object(
    {
        "provider": TEXT,
        "id": TEXT,
        "attempt": WHOLE,
        "code": _or_null(TEXT),
        "message": _or_null(TEXT),
        "failed_at": TIME,
        "next_attempt_at": _or_null(TIME),
    }
)
_CREDIT_NOTE = _object(
    {
        "id": UUID,
        "movement_id": _or_null(UUID),
        "number": TEXT,
        "amount": EXACT,
        "unpaid_part": EXACT,
        "cash_part": EXACT,
        "credits_part": EXACT,
        "disposition": {"enum": ["refund", "keep"]},
        "reason": TEXT,
        "issued_at": TIME,
        "voided_at": {**_or_null(TIME), "description": "From then on it counts nowhere: its refund did not arrive."},
        "void_reason": _or_null(TEXT),
    }
)
_REFUND = _object(
    {
        "id": UUID,
        "movement_id": _or_null(UUID),
        "credit_note_id": _or_null(UUID),
        "provider": TEXT,
        "payment": TEXT,
        "external_id": _or_null(TEXT),
        "amount": EXACT,
        "state": {"enum": ["requested", "pending", "succeeded", "failed", "canceled"]},
        "failure_code": _or_null(TEXT),
        "failure_reason": _or_null(TEXT),
        "requested_at": TIME,
        "settled_at": _or_null(TIME),
        "failed_at": _or_null(TIME),
    }
)
_DISPUTE = _object(
    {
        "id": UUID,
        "provider": TEXT,
        "external_id": TEXT,
        "payment": _or_null(TEXT),
        "amount": _or_null(EXACT),
        "reason": _or_null(TEXT),
        "status": _or_null({"enum": list(DISPUTE_STATUSES)}),
        "evidence_due_at": _or_null(TIME),
        "opened_at": _or_null(TIME),
        "closed_at": _or_null(TIME),
        "withdrawn": EXACT,
        "reinstated": EXACT,
        "fees": EXACT,
    }
)
_ORDER = _object(
    {
        "state": {"enum": ["due", "running", "waiting", "unknown", "parked", "done", "refused"]},
        "external_id": _or_null(TEXT),
        "attempts": WHOLE,
        "last_error": _or_null(TEXT),
        "next_attempt_at": _or_null(TIME),
    }
)
_KINDS: Json = {"enum": list(BY_KIND)}
_ERROR = _object({"row": WHOLE, "field": TEXT, "code": TEXT, "message": TEXT}, required=["field", "code", "message"])

SCHEMAS: Json = {
    "NewCustomer": _object(_CUSTOMER_DETAILS, required=["external_id", "name", "currency"]),
    "Customer": _object({"id": UUID, **_CUSTOMER_DETAILS, "invoice_prefix": TEXT, "created_at": TIME}),
    "Customers": _object({"customers": {"type": "array", "items": _ref("Customer")}}),
    "Event": _object(
        {
            "id": {"type": "string", "minLength": 1, "maxLength": 300, "description": "Known for ever, per source."},
            "customer": {"type": "string", "description": "The platform's id of the customer, or ours."},
            "item": {"type": "string", "minLength": 1, "maxLength": 200},
            "quantity": {**SENT, "description": "May be left out only beside an amount. Negative: taken back."},
            "at": {**TIME, "description": "When it happened, with a zone; of an interval its start."},
            "amount": {**SENT, "description": "Major units; only if the source rated the event itself."},
            "currency": {"type": "string", "description": "What the source rated in; must be the customer's."},
            "labels": {"type": "object", "additionalProperties": TEXT, "maxProperties": 32},
        },
        required=["id", "customer", "item", "at"],
    ),
    "Usage": _object(
        {
            "source": {"type": "string", "default": "platform", "description": "Whose event ids these are."},
            "events": {"type": "array", "items": _ref("Event"), "minItems": 1, "maxItems": MAX_EVENTS},
        },
        required=["events"],
    ),
    "UsagePosted": _object({"posted": WHOLE, "replayed": WHOLE}),
    "Balance": _object(
        {
            "customer_id": UUID,
            "currency": TEXT,
            "as_of": TIME,
            "balances": {"type": "object", "additionalProperties": EXACT},
            "current_period": _object(
                {"start": TIME, "end": TIME, "unbilled": EXACT, "last_recorded_at": _or_null(TIME)}
            ),
        }
    ),
    "Balances": _object(
        {
            "customer_id": UUID,
            "currency": TEXT,
            "effective_before": _or_null(TIME),
            "known_at": _or_null(TIME),
            "balances": {"type": "object", "additionalProperties": EXACT},
        }
    ),
    "Invoice": _object(_INVOICE),
    "Invoices": _object({"invoices": {"type": "array", "items": _ref("Invoice")}}),
    "InvoiceWithLines": _object(
        {
            **_INVOICE,
            "lines": {"type": "array", "items": _LINE},
            "taxes": {"type": "array", "items": _TAX},
            "payments": {"type": "array", "items": _PAYMENT},
            "payment_failures": {"type": "array", "items": _FAILURE},
            "credit_notes": {"type": "array", "items": _CREDIT_NOTE},
            "refunds": {"type": "array", "items": _REFUND},
            "disputes": {"type": "array", "items": _DISPUTE},
        }
    ),
    "NewMovement": _object(
        {
            "id": {**UUID, "description": "The caller's own: the same id is begun once."},
            "kind": _KINDS,
            "amount": _or_null({**SENT, "description": "Major units; left out: all there is. A credit note needs it."}),
            "options": {"type": "object", "additionalProperties": TEXT, "description": "As the kind asks for them."},
            "reason": {"type": "string", "minLength": 1, "maxLength": 2000, "description": "Not for the customer."},
        },
        required=["id", "kind", "reason"],
    ),
    "Movement": _object(
        {
            "id": UUID,
            "invoice_id": UUID,
            "kind": _KINDS,
            "amount": EXACT,
            "currency": TEXT,
            "options": {"type": "object", "additionalProperties": TEXT},
            "reason": TEXT,
            "actor": TEXT,
            "requested_at": TIME,
            "needs_approval": {"type": "boolean"},
            "approved_by": _or_null(TEXT),
            "approved_at": _or_null(TIME),
            "state": {"enum": ["awaiting_approval", "working", "done", "refused", "withdrawn"]},
            "decided_at": _or_null(TIME),
            "external_id": _or_null(TEXT),
            "code": _or_null(TEXT),
            "note": _or_null(TEXT),
            "orders": {"type": "array", "items": _ORDER, "description": "What is asked of the provider for it."},
        }
    ),
    "Movements": _object({"movements": {"type": "array", "items": _ref("Movement")}}),
    "NewCredit": _object(
        {
            "id": {**UUID, "description": "The caller's own: the same id is granted once."},
            "account": {"enum": list(GRANTABLE), "default": "liabilities:credits:goodwill"},
            "amount": {**SENT, "description": "Major units, above 0, with no more decimals than an invoice has."},
            "currency": _or_null({**TEXT, "description": "What you believe the customer is billed in."}),
            "priority": {"type": "integer", "minimum": 0, "maximum": 1000, "default": 100},
            "expires_at": _or_null({**TIME, "description": "Pays for periods that end by then; null: for ever."}),
            "items": _or_null({"type": "array", "items": TEXT, "minItems": 1, "maxItems": 100}),
            "reason": {"type": "string", "minLength": 1, "maxLength": 2000},
        },
        required=["id", "amount", "reason"],
    ),
    "Credit": _object(
        {
            "id": UUID,
            "customer_id": UUID,
            "account": TEXT,
            "amount": EXACT,
            "currency": TEXT,
            "priority": {"type": "integer"},
            "expires_at": _or_null(TIME),
            "items": _or_null({"type": "array", "items": TEXT}),
            "reason": TEXT,
            "granted_at": TIME,
        }
    ),
    "Credits": _object(
        {
            "customer_id": UUID,
            "currency": TEXT,
            "credits": {
                "type": "array",
                "items": _object(
                    {
                        "id": _or_null(UUID),
                        "account": TEXT,
                        "amount": EXACT,
                        "remaining": EXACT,
                        "priority": _or_null({"type": "integer"}),
                        "expires_at": _or_null(TIME),
                        "items": _or_null({"type": "array", "items": TEXT}),
                        "granted_at": _or_null(TIME),
                        "is_paid": {"type": "boolean"},
                    }
                ),
            },
        }
    ),
    "NewRevocation": _object({"reason": {"type": "string", "minLength": 1, "maxLength": 2000}}, required=["reason"]),
    "Revocation": _object({"credit_id": UUID, "amount": EXACT, "reason": TEXT, "revoked_at": TIME}),
    "NewTopUp": _object(
        {
            "id": {**UUID, "description": "The caller's own: the same id is sold once. The invoice has it."},
            "amount": {**SENT, "description": "Major units; at least what is collected."},
            "currency": _or_null(TEXT),
            "expires_at": _or_null(TIME),
            "reason": {"type": "string", "minLength": 1, "maxLength": 2000, "default": "Prepaid credit bought"},
        },
        required=["id", "amount"],
    ),
    "NewRefill": _object(
        {
            "threshold": _or_null({**SENT, "description": "Major units, from 0; null ends refills."}),
            "amount": _or_null({**SENT, "description": "What is bought then; null ends refills."}),
        },
        required=["threshold", "amount"],
    ),
    "Refill": _object({"customer_id": UUID, "currency": TEXT, "threshold": _or_null(EXACT), "amount": _or_null(EXACT)}),
    "NewEarlyBill": _object(
        {
            "reason": {"type": "string", "minLength": 1, "maxLength": 2000},
            "cause": {"enum": list(CAUSES), "default": "early"},
            "period_start": _or_null({**TIME, "description": "The period you saw: it is billed once."}),
        },
        required=["reason"],
    ),
    "NewSpendingThreshold": _object(
        {
            "amount": _or_null({**SENT, "description": "Major units, above 0; null lifts the threshold."}),
            "reason": {"type": "string", "minLength": 1, "maxLength": 2000},
        }
    ),
    "Plan": _object(_PLAN),
    "Plans": _object({"plans": {"type": "array", "items": _ref("Plan")}}),
    "NewPlan": _object(
        {
            "plan": {"type": "string", "minLength": 1, "maxLength": 60},
            "interval": {"enum": list(INTERVALS), "default": "month"},
            "when": {"enum": ["now", "period_end"], "default": "now"},
            "reason": {"type": "string", "minLength": 1, "maxLength": 2000},
        },
        required=["plan", "reason"],
    ),
    "PlanEnd": _object(
        {
            "when": {"enum": ["now", "period_end"], "default": "now"},
            "reason": {"type": "string", "minLength": 1, "maxLength": 2000},
        },
        required=["reason"],
    ),
    "Subscription": _object(
        {
            **_PLAN,
            "since": TIME,
            "until": _or_null(TIME),
            "trial_until": _or_null(TIME),
            "paid_until": _or_null({**TIME, "description": "Up to where the fee was charged."}),
        }
    ),
    "CustomerPlan": _object({"current": _or_null(_ref("Subscription")), "next": _or_null(_ref("Subscription"))}),
    "SpendingThreshold": _object({"customer_id": UUID, "currency": TEXT, "amount": _or_null(EXACT)}),
    "NewTaxProfile": _object(
        {
            "country": {"type": "string", "description": "ISO 3166-1, such as DE."},
            "state": _or_null({"type": "string", "description": "ISO 3166-2 without its country: CA of US-CA."}),
            "tax_id": _or_null(TEXT),
            "tax_id_type": _or_null({"enum": list(FORMS)}),
            "status": _or_null({"enum": list(STATUSES), "description": "null lets the rules decide."}),
            "legal_note": _or_null({"type": "string", "description": "Why an exempt customer is exempt."}),
            "valid_from": _or_null(TIME),
            "reason": {"type": "string", "minLength": 1, "maxLength": 2000},
        },
        required=["country", "reason"],
    ),
    "TaxProfile": _TAX_PROFILE,
    "TaxProfiles": _object({"tax_profiles": {"type": "array", "items": _TAX_PROFILE}}),
    "NewPanelSession": _object({"return_url": _or_null({"type": "string", "format": "uri"})}, required=[]),
    "PanelSession": _object({"url": TEXT, "expires_at": TIME}),
    "Problem": _object(
        {
            "type": TEXT,
            "title": TEXT,
            "status": WHOLE,
            "detail": TEXT,
            "code": {"type": "string", "description": "Stable: match on it, never on the text."},
            "errors": {"type": "array", "items": _ERROR},
        },
        required=["type", "title", "status", "detail", "code"],
    ),
}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _operation(
    summary: str,
    answers: dict[str, str],
    *,
    body: str | None = None,
    refusals: str = "",
    parameters: tuple[Json, ...] = (),
) -> Json:
    operation: Json = {
        "summary": summary,
        "responses": {
            **{status: {"description": "Done.", "content": _json(_ref(name))} for status, name in answers.items()},
            **{
                status: {"description": "Refused.", "content": {CONTENT_TYPE: {"schema": _ref("Problem")}}}
                for status in ("401", *refusals.split())
            },
        },
    }
    if body:
        operation["requestBody"] = {"required": body != "NewPanelSession", "content": _json(_ref(body))}
    if parameters:
        operation["parameters"] = list(parameters)
    return operation


def _in_path(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": UUID}


_CUSTOMER_ID = _in_path("customer_id")
_LIMIT: Json = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000}}
_MOMENT: tuple[Json, ...] = tuple(
    {"name": name, "in": "query", "schema": TIME, "description": description}
    for name, description in (
        ("effective_before", "Count what took effect before; everything without it."),
        ("known_at", "Count what had been recorded by then, inclusive; everything without it."),
    )
)
_EXTERNAL_ID: Json = {"name": "external_id", "in": "query", "required": True, "schema": TEXT}
_BODY_REFUSALS = "400 413 415 422"

DOCUMENT: Json = {
    "openapi": "3.1.0",
    "info": {"title": "fly-billing", "version": "1", "description": "Customers, usage, balances and invoices."},
    "security": [{"token": []}],
    "paths": {
        "/api/v1/customers": {
            "post": _operation(
                "Create a customer; the same again changes nothing (200).",
                {"201": "Customer", "200": "Customer"},
                body="NewCustomer",
                refusals=f"{_BODY_REFUSALS} 409",
            ),
            "get": _operation(
                "Look a customer up by the platform's id.",
                {"200": "Customers"},
                refusals="422",
                parameters=(_EXTERNAL_ID,),
            ),
        },
        "/api/v1/customers/{customer_id}": {
            "get": _operation("One customer.", {"200": "Customer"}, refusals="404", parameters=(_CUSTOMER_ID,))
        },
        "/api/v1/customers/{customer_id}/balance": {
            "get": _operation(
                "Every account's balance, and what is unbilled in the current period.",
                {"200": "Balance"},
                refusals="404",
                parameters=(_CUSTOMER_ID,),
            )
        },
        "/api/v1/customers/{customer_id}/balances": {
            "get": _operation(
                "Every account's balance at any past moment.",
                {"200": "Balances"},
                refusals="404 422",
                parameters=(_CUSTOMER_ID, *_MOMENT),
            )
        },
        "/api/v1/customers/{customer_id}/invoices": {
            "get": _operation(
                "Invoices, the newest first, drafts included.",
                {"200": "Invoices"},
                refusals="404 422",
                parameters=(_CUSTOMER_ID, _LIMIT),
            )
        },
        "/api/v1/customers/{customer_id}/invoices/{invoice_id}": {
            "get": _operation(
                "One invoice with its lines, payments, credit notes, refunds and disputes.",
                {"200": "InvoiceWithLines"},
                refusals="404",
                parameters=(_CUSTOMER_ID, _in_path("invoice_id")),
            )
        },
        "/api/v1/customers/{customer_id}/invoices/{invoice_id}/movements": {
            "post": _operation(
                "Begin something with a final invoice; the same again changes nothing (200).",
                {"201": "Movement", "200": "Movement"},
                body="NewMovement",
                refusals=f"{_BODY_REFUSALS} 404 409",
                parameters=(_CUSTOMER_ID, _in_path("invoice_id")),
            ),
            "get": _operation(
                "What was begun with the invoice, in order, and how far it is.",
                {"200": "Movements"},
                refusals="404",
                parameters=(_CUSTOMER_ID, _in_path("invoice_id")),
            ),
        },
        "/api/v1/customers/{customer_id}/credits": {
            "post": _operation(
                "Give promotional or goodwill credit; the same again changes nothing (200).",
                {"201": "Credit", "200": "Credit"},
                body="NewCredit",
                refusals=f"{_BODY_REFUSALS} 404 409",
                parameters=(_CUSTOMER_ID,),
            ),
            "get": _operation(
                "What is left of the customer's credit, in the order in which it is used.",
                {"200": "Credits"},
                refusals="404",
                parameters=(_CUSTOMER_ID,),
            ),
        },
        "/api/v1/customers/{customer_id}/credits/{credit_id}/revocation": {
            "post": _operation(
                "Take back what is left of a credit; again, it changes nothing (200).",
                {"201": "Revocation", "200": "Revocation"},
                body="NewRevocation",
                refusals=f"{_BODY_REFUSALS} 404 409",
                parameters=(_CUSTOMER_ID, _in_path("credit_id")),
            )
        },
        "/api/v1/customers/{customer_id}/top_ups": {
            "post": _operation(
                "Sell prepaid credit by an invoice that is final at once; the same again changes nothing (200).",
                {"201": "Invoice", "200": "Invoice"},
                body="NewTopUp",
                refusals=f"{_BODY_REFUSALS} 404 409",
                parameters=(_CUSTOMER_ID,),
            )
        },
        "/api/v1/customers/{customer_id}/refill": {
            "put": _operation(
                "Whether and how prepaid credit is refilled.",
                {"200": "Refill"},
                body="NewRefill",
                refusals=f"{_BODY_REFUSALS} 404",
                parameters=(_CUSTOMER_ID,),
            ),
            "get": _operation("The customer's refills.", {"200": "Refill"}, refusals="404", parameters=(_CUSTOMER_ID,)),
        },
        "/api/v1/customers/{customer_id}/early_bills": {
            "post": _operation(
                "Bill the current period now; the same period again changes nothing (200).",
                {"201": "Invoice", "200": "Invoice"},
                body="NewEarlyBill",
                refusals=f"{_BODY_REFUSALS} 404 409",
                parameters=(_CUSTOMER_ID,),
            )
        },
        "/api/v1/plans": {"get": _operation("Every plan that is offered.", {"200": "Plans"}, refusals="")},
        "/api/v1/customers/{customer_id}/plan": {
            "put": _operation(
                "Give the customer a plan, now or when the present one's paid time is over.",
                {"200": "CustomerPlan"},
                body="NewPlan",
                refusals=f"{_BODY_REFUSALS} 404 409",
                parameters=(_CUSTOMER_ID,),
            ),
            "delete": _operation(
                "End the customer's plan.",
                {"200": "CustomerPlan"},
                body="PlanEnd",
                refusals=f"{_BODY_REFUSALS} 404 409",
                parameters=(_CUSTOMER_ID,),
            ),
            "get": _operation(
                "The customer's plan, and what follows it.",
                {"200": "CustomerPlan"},
                refusals="404",
                parameters=(_CUSTOMER_ID,),
            ),
        },
        "/api/v1/customers/{customer_id}/spending_threshold": {
            "put": _operation(
                "Bill the customer at once whenever so much is unbilled.",
                {"200": "SpendingThreshold"},
                body="NewSpendingThreshold",
                refusals=f"{_BODY_REFUSALS} 404",
                parameters=(_CUSTOMER_ID,),
            ),
            "get": _operation(
                "The customer's spending threshold.",
                {"200": "SpendingThreshold"},
                refusals="404",
                parameters=(_CUSTOMER_ID,),
            ),
        },
        "/api/v1/customers/{customer_id}/tax-profile": {
            "put": _operation(
                "Say where the customer is taxed, from when on; the same again changes nothing (200).",
                {"201": "TaxProfile", "200": "TaxProfile"},
                body="NewTaxProfile",
                refusals=f"{_BODY_REFUSALS} 404",
                parameters=(_CUSTOMER_ID,),
            ),
            "get": _operation(
                "Every version of the customer's tax profile, the one written last first.",
                {"200": "TaxProfiles"},
                refusals="404",
                parameters=(_CUSTOMER_ID,),
            ),
        },
        "/api/v1/customers/{customer_id}/panel_sessions": {
            "post": _operation(
                "A link that opens the customer's billing panel, once and soon.",
                {"201": "PanelSession"},
                body="NewPanelSession",
                refusals=f"{_BODY_REFUSALS} 404",
                parameters=(_CUSTOMER_ID,),
            )
        },
        "/api/v1/usage": {
            "post": _operation(
                "Post a batch of usage: all of it, or none, naming every bad row.",
                {"200": "UsagePosted"},
                body="Usage",
                refusals=f"{_BODY_REFUSALS} 409",
            )
        },
        "/api/v1/openapi.json": {
            "get": {
                "summary": "This description.",
                "security": [],
                "responses": {"200": {"description": "OpenAPI 3.1.", "content": _json({"type": "object"})}},
            }
        },
    },
    "components": {"schemas": SCHEMAS, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
}
