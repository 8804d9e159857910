"""What the API takes and answers, as JSON schemas by name."""

from app.api.openapi_shapes import EXACT, SENT, TEXT, TIME, UUID, WHOLE, Json, object_of, or_null, ref
from app.api.schemas import MAX_EVENTS
from invoicing.credit.grants import GRANTABLE
from invoicing.customers import DEFAULT_PROVIDER, PROVIDERS
from invoicing.early_bills import CAUSES
from invoicing.movements.beginnings import BY_KIND
from invoicing.movements.disputes import STATUSES as DISPUTE_STATUSES
from invoicing.plans.catalogue import INTERVALS, TIMINGS
from invoicing.tax.ids import FORMS
from invoicing.tax.profiles import STATUSES

_CUSTOMER_DETAILS: Json = {
    "external_id": {"type": "string", "minLength": 1, "maxLength": 200, "description": "The platform's own id."},
    "name": {"type": "string", "minLength": 1, "maxLength": 200},
    "currency": {"type": "string", "pattern": "^[A-Z]{3}$", "description": "ISO 4217; for the customer's whole life."},
    "time_zone": {"type": "string", "default": "UTC", "description": "IANA name; months are cut at its midnights."},
    "anchor_day": {"type": "integer", "minimum": 1, "maximum": 31, "default": 1},
    "email": or_null({"type": "string", "maxLength": 320}),
    "collection_method": {"enum": ["automatic", "send_invoice"], "default": "automatic"},
    "draft_window_s": or_null({"type": "integer", "minimum": 0, "maximum": 50 * 86_400}),
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
    "number": or_null(TEXT),
    "kind": {"enum": ["cycle", "top_up"]},
    "state": {"enum": ["draft", "final", "paid", "void", "uncollectible", "carried_forward", "empty"]},
    "period_start": TIME,
    "period_end": TIME,
    "currency": TEXT,
    "exact_total": or_null(EXACT),
    "tax": {**EXACT, "description": "Tax on top of the lines, part of total; 0 until it is final."},
    "tax_included": {**EXACT, "description": "Tax inside of lines whose prices include it."},
    "total": or_null(EXACT),
    "credits_applied": or_null(EXACT),
    "amount_due": or_null(EXACT),
    "amount_credited": {**EXACT, "description": "What credit notes took off the open amount."},
    "amount_paid": EXACT,
    "amount_open": {**EXACT, "description": "What is still to be paid; 0 unless the invoice is final."},
    "provider": or_null({"enum": list(PROVIDERS)}),
    "finalize_after": TIME,
    "finalized_at": or_null(TIME),
    "paid_at": or_null(TIME),
}
_LINE = object_of(
    {
        "id": UUID,
        "position": WHOLE,
        "item": or_null(TEXT),
        "description": TEXT,
        "quantity": or_null(EXACT),
        "amount": EXACT,
        "rounded": or_null(EXACT),
        "tax_inclusive": {"type": "boolean"},
        "usage_period_start": TIME,
    }
)
_TAX = object_of(
    {
        "name": TEXT,
        "jurisdiction": TEXT,
        "percent": EXACT,
        "inclusive": {"type": "boolean"},
        "treatment": {"enum": ["rate", "reverse_charge", "exempt"]},
        "taxable": EXACT,
        "amount": EXACT,
        "legal_note": or_null(TEXT),
    }
)
_TAX_PROFILE = object_of(
    {
        "customer_id": UUID,
        "version": WHOLE,
        "country": TEXT,
        "state": or_null(TEXT),
        "tax_id": or_null(TEXT),
        "tax_id_type": or_null({"enum": list(FORMS)}),
        "status": {"enum": list(STATUSES)},
        "legal_note": or_null(TEXT),
        "valid_from": TIME,
        "reason": TEXT,
        "actor": TEXT,
        "recorded_at": TIME,
    }
)
_PAYMENT = object_of({"provider": TEXT, "id": TEXT, "amount": EXACT, "received_at": TIME})
_FAILURE = object_of(
    {
        "provider": TEXT,
        "id": TEXT,
        "attempt": WHOLE,
        "code": or_null(TEXT),
        "message": or_null(TEXT),
        "failed_at": TIME,
        "next_attempt_at": or_null(TIME),
    }
)
_CREDIT_NOTE = object_of(
    {
        "id": UUID,
        "movement_id": or_null(UUID),
        "number": TEXT,
        "amount": EXACT,
        "unpaid_part": EXACT,
        "cash_part": EXACT,
        "credits_part": EXACT,
        "disposition": {"enum": ["refund", "keep"]},
        "reason": TEXT,
        "issued_at": TIME,
        "voided_at": {**or_null(TIME), "description": "From then on it counts nowhere: its refund did not arrive."},
        "void_reason": or_null(TEXT),
    }
)
_REFUND = object_of(
    {
        "id": UUID,
        "movement_id": or_null(UUID),
        "credit_note_id": or_null(UUID),
        "provider": TEXT,
        "payment": TEXT,
        "external_id": or_null(TEXT),
        "amount": EXACT,
        "state": {"enum": ["requested", "pending", "succeeded", "failed", "canceled"]},
        "failure_code": or_null(TEXT),
        "failure_reason": or_null(TEXT),
        "requested_at": TIME,
        "settled_at": or_null(TIME),
        "failed_at": or_null(TIME),
    }
)
_DISPUTE = object_of(
    {
        "id": UUID,
        "provider": TEXT,
        "external_id": TEXT,
        "payment": or_null(TEXT),
        "amount": or_null(EXACT),
        "reason": or_null(TEXT),
        "status": or_null({"enum": list(DISPUTE_STATUSES)}),
        "evidence_due_at": or_null(TIME),
        "opened_at": or_null(TIME),
        "closed_at": or_null(TIME),
        "withdrawn": EXACT,
        "reinstated": EXACT,
        "fees": EXACT,
    }
)
_ORDER = object_of(
    {
        "state": {"enum": ["due", "running", "waiting", "unknown", "parked", "done", "refused"]},
        "external_id": or_null(TEXT),
        "attempts": WHOLE,
        "last_error": or_null(TEXT),
        "next_attempt_at": or_null(TIME),
    }
)
_KINDS: Json = {"enum": list(BY_KIND)}
_ERROR = object_of({"row": WHOLE, "field": TEXT, "code": TEXT, "message": TEXT}, required=["field", "code", "message"])

SCHEMAS: Json = {
    "NewCustomer": object_of(_CUSTOMER_DETAILS, required=["external_id", "name", "currency"]),
    "Customer": object_of({"id": UUID, **_CUSTOMER_DETAILS, "invoice_prefix": TEXT, "created_at": TIME}),
    "Customers": object_of({"customers": {"type": "array", "items": ref("Customer")}}),
    "Event": object_of(
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
    "Usage": object_of(
        {
            "source": {"type": "string", "default": "platform", "description": "Whose event ids these are."},
            "events": {"type": "array", "items": ref("Event"), "minItems": 1, "maxItems": MAX_EVENTS},
        },
        required=["events"],
    ),
    "UsagePosted": object_of({"posted": WHOLE, "replayed": WHOLE}),
    "Balance": object_of(
        {
            "customer_id": UUID,
            "currency": TEXT,
            "as_of": TIME,
            "balances": {"type": "object", "additionalProperties": EXACT},
            "current_period": object_of(
                {"start": TIME, "end": TIME, "unbilled": EXACT, "last_recorded_at": or_null(TIME)}
            ),
        }
    ),
    "Balances": object_of(
        {
            "customer_id": UUID,
            "currency": TEXT,
            "effective_before": or_null(TIME),
            "known_at": or_null(TIME),
            "balances": {"type": "object", "additionalProperties": EXACT},
        }
    ),
    "Invoice": object_of(_INVOICE),
    "Invoices": object_of({"invoices": {"type": "array", "items": ref("Invoice")}}),
    "InvoiceWithLines": object_of(
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
    "NewMovement": object_of(
        {
            "id": {**UUID, "description": "The caller's own: the same id is begun once."},
            "kind": _KINDS,
            "amount": or_null({**SENT, "description": "Major units; left out: all there is. A credit note needs it."}),
            "options": {"type": "object", "additionalProperties": TEXT, "description": "As the kind asks for them."},
            "reason": {"type": "string", "minLength": 1, "maxLength": 2000, "description": "Not for the customer."},
        },
        required=["id", "kind", "reason"],
    ),
    "Movement": object_of(
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
            "approved_by": or_null(TEXT),
            "approved_at": or_null(TIME),
            "state": {"enum": ["awaiting_approval", "working", "done", "refused", "withdrawn"]},
            "decided_at": or_null(TIME),
            "external_id": or_null(TEXT),
            "code": or_null(TEXT),
            "note": or_null(TEXT),
            "orders": {"type": "array", "items": _ORDER, "description": "What is asked of the provider for it."},
        }
    ),
    "Movements": object_of({"movements": {"type": "array", "items": ref("Movement")}}),
    "NewCredit": object_of(
        {
            "id": {**UUID, "description": "The caller's own: the same id is granted once."},
            "account": {"enum": list(GRANTABLE), "default": "liabilities:credits:goodwill"},
            "amount": {**SENT, "description": "Major units, above 0, with no more decimals than an invoice has."},
            "currency": or_null({**TEXT, "description": "What you believe the customer is billed in."}),
            "priority": {"type": "integer", "minimum": 0, "maximum": 1000, "default": 100},
            "expires_at": or_null({**TIME, "description": "Pays for periods that end by then; null: for ever."}),
            "items": or_null({"type": "array", "items": TEXT, "minItems": 1, "maxItems": 100}),
            "reason": {"type": "string", "minLength": 1, "maxLength": 2000},
        },
        required=["id", "amount", "reason"],
    ),
    "Credit": object_of(
        {
            "id": UUID,
            "customer_id": UUID,
            "account": TEXT,
            "amount": EXACT,
            "currency": TEXT,
            "priority": {"type": "integer"},
            "expires_at": or_null(TIME),
            "items": or_null({"type": "array", "items": TEXT}),
            "reason": TEXT,
            "granted_at": TIME,
        }
    ),
    "Credits": object_of(
        {
            "customer_id": UUID,
            "currency": TEXT,
            "credits": {
                "type": "array",
                "items": object_of(
                    {
                        "id": or_null(UUID),
                        "account": TEXT,
                        "amount": EXACT,
                        "remaining": EXACT,
                        "priority": or_null({"type": "integer"}),
                        "expires_at": or_null(TIME),
                        "items": or_null({"type": "array", "items": TEXT}),
                        "granted_at": or_null(TIME),
                        "is_paid": {"type": "boolean"},
                        "is_disputed": {
                            "type": "boolean",
                            "description": "Its payment is disputed: not usable before that is decided.",
                        },
                    }
                ),
            },
        }
    ),
    "NewRevocation": object_of({"reason": {"type": "string", "minLength": 1, "maxLength": 2000}}, required=["reason"]),
    "Revocation": object_of({"credit_id": UUID, "amount": EXACT, "reason": TEXT, "revoked_at": TIME}),
    "NewTopUp": object_of(
        {
            "id": {**UUID, "description": "The caller's own: the same id is sold once. The invoice has it."},
            "amount": {**SENT, "description": "Major units; at least what is collected."},
            "currency": or_null(TEXT),
            "expires_at": or_null(TIME),
            "reason": {"type": "string", "minLength": 1, "maxLength": 2000, "default": "Prepaid credit bought"},
        },
        required=["id", "amount"],
    ),
    "NewRefill": object_of(
        {
            "threshold": or_null({**SENT, "description": "Major units, from 0; null ends refills."}),
            "amount": or_null({**SENT, "description": "What is bought then; null ends refills."}),
        },
        required=["threshold", "amount"],
    ),
    "Refill": object_of({"customer_id": UUID, "currency": TEXT, "threshold": or_null(EXACT), "amount": or_null(EXACT)}),
    "NewEarlyBill": object_of(
        {
            "reason": {"type": "string", "minLength": 1, "maxLength": 2000},
            "cause": {"enum": list(CAUSES), "default": "early"},
            "period_start": or_null({**TIME, "description": "The period you saw: it is billed once."}),
        },
        required=["reason"],
    ),
    "NewSpendingThreshold": object_of(
        {
            "amount": or_null({**SENT, "description": "Major units, above 0; null lifts the threshold."}),
            "reason": {"type": "string", "minLength": 1, "maxLength": 2000},
        }
    ),
    "Plan": object_of(_PLAN),
    "Plans": object_of({"plans": {"type": "array", "items": ref("Plan")}}),
    "NewPlan": object_of(
        {
            "plan": {"type": "string", "minLength": 1, "maxLength": 60},
            "interval": {"enum": list(INTERVALS), "default": "month"},
            "when": {"enum": ["now", "period_end"], "default": "now"},
            "reason": {"type": "string", "minLength": 1, "maxLength": 2000},
        },
        required=["plan", "reason"],
    ),
    "PlanEnd": object_of(
        {
            "when": {"enum": ["now", "period_end"], "default": "now"},
            "reason": {"type": "string", "minLength": 1, "maxLength": 2000},
        },
        required=["reason"],
    ),
    "Subscription": object_of(
        {
            **_PLAN,
            "since": TIME,
            "until": or_null(TIME),
            "trial_until": or_null(TIME),
            "paid_until": or_null({**TIME, "description": "Up to where the fee was charged."}),
        }
    ),
    "CustomerPlan": object_of({"current": or_null(ref("Subscription")), "next": or_null(ref("Subscription"))}),
    "SpendingThreshold": object_of({"customer_id": UUID, "currency": TEXT, "amount": or_null(EXACT)}),
    "NewTaxProfile": object_of(
        {
            "country": {"type": "string", "description": "ISO 3166-1, such as DE."},
            "state": or_null({"type": "string", "description": "ISO 3166-2 without its country: CA of US-CA."}),
            "tax_id": or_null(TEXT),
            "tax_id_type": or_null({"enum": list(FORMS)}),
            "status": or_null({"enum": list(STATUSES), "description": "null lets the rules decide."}),
            "legal_note": or_null({"type": "string", "description": "Why an exempt customer is exempt."}),
            "valid_from": or_null(TIME),
            "reason": {"type": "string", "minLength": 1, "maxLength": 2000},
        },
        required=["country", "reason"],
    ),
    "TaxProfile": _TAX_PROFILE,
    "TaxProfiles": object_of({"tax_profiles": {"type": "array", "items": _TAX_PROFILE}}),
    "NewPanelSession": object_of({"return_url": or_null({"type": "string", "format": "uri"})}, required=[]),
    "PanelSession": object_of({"url": TEXT, "expires_at": TIME}),
    "Problem": object_of(
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
