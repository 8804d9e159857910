"""The API's own description, as OpenAPI 3.1. A test compares it with the routes and with real answers."""

from flask import jsonify
from flask.typing import ResponseReturnValue

from app.api.blueprint import bp
from app.api.openapi_schemas import SCHEMAS
from app.api.openapi_shapes import TEXT, TIME, UUID, Json, ref
from app.api.problems import CONTENT_TYPE


@bp.get("/openapi.json")
def openapi() -> ResponseReturnValue:
    """This description. It needs no token."""
    return jsonify(DOCUMENT)


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
            **{status: {"description": "Done.", "content": _json(ref(name))} for status, name in answers.items()},
            **{
                status: {"description": "Refused.", "content": {CONTENT_TYPE: {"schema": ref("Problem")}}}
                for status in ("401", *refusals.split())
            },
        },
    }
    if body:
        operation["requestBody"] = {"required": body != "NewPanelSession", "content": _json(ref(body))}
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
        "/api/v1/customers/{customer_id}/tax_profile": {
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
