"""Our objects as JSON: amounts and quantities are text, so that no reader's floats touch them; times end in Z."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from invoicing.credit.lots import Lot
from invoicing.customers import CustomerView
from invoicing.drafts import InvoiceView
from invoicing.movements.tables import CreditNote, Dispute, Movement, Refund
from invoicing.plans.catalogue import PlanTerms
from invoicing.provider import SyncState
from invoicing.statements import PeriodStatement
from invoicing.subscriptions import Subscription
from invoicing.tables import CreditGrant, Invoice, Line, Payment, PaymentFailure
from invoicing.tax.tables import InvoiceTax, TaxProfile
from ledger.money import plain


def instant(moment: datetime | None) -> str | None:
    """A time in UTC, written with Z."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def number(value: Decimal | None) -> str | None:
    """An exact number, written out."""
    return None if value is None else plain(value)


def customer(view: CustomerView) -> dict[str, Any]:
    """A customer."""
    return {
        "id": str(view.customer_id),
        "external_id": view.external_id,
        "name": view.name,
        "email": view.email,
        "currency": view.currency,
        "time_zone": view.time_zone,
        "anchor_day": view.anchor_day,
        "collection_method": view.collection_method,
        "draft_window_s": view.draft_window_s,
        "provider": view.provider,
        "invoice_prefix": view.invoice_prefix,
        "created_at": instant(view.created_at),
    }


def plan(terms: PlanTerms) -> dict[str, Any]:
    """One version of a plan."""
    return {
        "plan": terms.plan,
        "name": terms.name,
        "currency": terms.currency,
        "fee": plain(terms.fee),
        "interval": terms.interval,
        "timing": terms.timing,
        "included_usage": plain(terms.included_usage),
        "trial_days": terms.trial_days,
        "valid_from": instant(terms.valid_from),
    }


def subscription(found: Subscription) -> dict[str, Any]:
    """A plan that a customer has, from when until when."""
    return {
        **plan(found.terms),
        "since": instant(found.since),
        "until": instant(found.until),
        "trial_until": instant(found.trial_until),
        "paid_until": instant(found.paid_until),
    }


def balance(
    customer_id: UUID, *, statement: PeriodStatement, accounts: dict[str, Decimal], as_of: datetime
) -> dict[str, Any]:
    """Every account's balance, and what the period that holds `as_of` would be billed if it ended then."""
    return {
        "customer_id": str(customer_id),
        "currency": statement.currency,
        "as_of": instant(as_of),
        "balances": {account: plain(amount) for account, amount in accounts.items()},
        "current_period": {
            "start": instant(statement.start),
            "end": instant(statement.end),
            "unbilled": plain(statement.total),
            "last_recorded_at": instant(statement.last_recorded_at),
        },
    }


def tax_profile(row: TaxProfile) -> dict[str, Any]:
    """One version of a customer's tax profile."""
    return {
        "customer_id": str(row.customer_id),
        "version": row.seq,
        "country": row.country,
        "state": row.state,
        "tax_id": row.tax_id,
        "tax_id_type": row.tax_id_type,
        "status": row.status,
        "legal_note": row.legal_note,
        "valid_from": instant(row.valid_from),
        "reason": row.reason,
        "actor": row.actor,
        "recorded_at": instant(row.recorded_at),
    }


def balances(
    view: CustomerView, *, accounts: dict[str, Decimal], effective_before: datetime | None, known_at: datetime | None
) -> dict[str, Any]:
    """Every account's balance, and the times that it is for; null is a side that was left open."""
    return {
        "customer_id": str(view.customer_id),
        "currency": view.currency,
        "effective_before": instant(effective_before),
        "known_at": instant(known_at),
        "balances": {account: plain(amount) for account, amount in accounts.items()},
    }


def credit_grant(row: CreditGrant) -> dict[str, Any]:
    """A credit as it was granted or sold."""
    return {
        "id": str(row.id),
        "customer_id": str(row.customer_id),
        "account": row.account,
        "amount": plain(row.amount),
        "currency": row.currency,
        "priority": row.priority,
        "expires_at": instant(row.expires_at),
        "items": row.items,
        "reason": row.reason,
        "granted_at": instant(row.created_at),
    }


def credit_lot(lot: Lot) -> dict[str, Any]:
    """What is left of a credit; `id` is null for what its account holds beyond all grants."""
    return {
        "id": str(lot.id) if lot.id else None,
        "account": lot.account,
        "amount": plain(lot.amount),
        "remaining": plain(lot.remaining),
        "priority": lot.priority if lot.id else None,
        "expires_at": instant(lot.expires_at),
        "items": None if lot.items is None else sorted(lot.items),
        "granted_at": instant(lot.created_at),
        "is_paid": lot.is_paid,
        "is_disputed": lot.is_disputed,
    }


def invoice(row: Invoice) -> dict[str, Any]:
    """An invoice without its lines. Totals are null until it is final."""
    return {
        "id": str(row.id),
        "customer_id": str(row.customer_id),
        "number": row.number,
        "kind": row.kind,
        "state": row.state,
        "period_start": instant(row.period_start),
        "period_end": instant(row.period_end),
        "currency": row.currency,
        "exact_total": number(row.exact_total),
        "tax": plain(row.tax),
        "tax_included": plain(row.tax_included),
        "total": number(row.total),
        "credits_applied": number(row.credits_applied),
        "amount_due": number(row.amount_due),
        "amount_credited": number(row.amount_credited),
        "amount_paid": number(row.amount_paid),
        "amount_open": plain(row.open if row.state == "final" else Decimal(0)),
        "provider": row.provider,
        "finalize_after": instant(row.finalize_after),
        "finalized_at": instant(row.finalized_at),
        "paid_at": instant(row.paid_at),
    }


def invoice_view(
    view: InvoiceView,
    *,
    draft_tax: Decimal,
    notes: Iterable[CreditNote],
    refunds: Iterable[Refund],
    disputes: Iterable[Dispute],
) -> dict[str, Any]:
    """An invoice with its lines and all that happened since. A draft's totals are what they would be now.

    `draft_tax` is what would come on top of a draft; 0 for what is final.
    """
    return {
        **invoice(view.invoice),
        "exact_total": plain(view.exact_total),
        "total": number(view.invoice.total if view.invoice.total is not None else view.rounded_total + draft_tax),
        "lines": [_line(line) for line in view.lines],
        "taxes": [_tax(tax) for tax in view.taxes],
        "payments": [_payment(payment) for payment in view.payments],
        "payment_failures": [_failure(failure) for failure in view.failures],
        "credit_notes": [_credit_note(note) for note in notes],
        "refunds": [_refund(refund) for refund in refunds],
        "disputes": [_dispute(dispute) for dispute in disputes],
    }


def movement(row: Movement, currency: str, *, states: Iterable[SyncState]) -> dict[str, Any]:
    """What was begun with an invoice, and how far each order of it is at the provider."""
    return {
        "id": str(row.id),
        "invoice_id": str(row.invoice_id),
        "kind": row.kind,
        "amount": plain(row.amount),
        "currency": currency,
        "options": row.options,
        "reason": row.reason,
        "actor": row.actor,
        "requested_at": instant(row.requested_at),
        "needs_approval": row.needs_approval,
        "approved_by": row.approved_by,
        "approved_at": instant(row.approved_at),
        "state": row.state,
        "decided_at": instant(row.decided_at),
        "external_id": row.external_id,
        "code": row.code,
        "note": row.note,
        "orders": [
            {
                "state": state.state,
                "external_id": state.external_id,
                "attempts": state.attempts,
                "last_error": state.last_error,
                "next_attempt_at": instant(state.next_attempt_at),
            }
            for state in states
        ],
    }


def _credit_note(note: CreditNote) -> dict[str, Any]:
    return {
        "id": str(note.id),
        "movement_id": None if note.movement_id is None else str(note.movement_id),
        "number": note.number,
        "amount": plain(note.amount),
        "unpaid_part": plain(note.unpaid_part),
        "cash_part": plain(note.cash_part),
        "credits_part": plain(note.credits_part),
        "disposition": note.disposition,
        "reason": note.reason,
        "issued_at": instant(note.issued_at),
        "voided_at": instant(note.voided_at),
        "void_reason": note.void_reason,
    }


def _refund(refund: Refund) -> dict[str, Any]:
    return {
        "id": str(refund.id),
        "movement_id": None if refund.movement_id is None else str(refund.movement_id),
        "credit_note_id": None if refund.credit_note_id is None else str(refund.credit_note_id),
        "provider": refund.provider,
        "payment": refund.payment_external_id,
        "external_id": refund.external_id,
        "amount": plain(refund.amount),
        "state": refund.state,
        "failure_code": refund.failure_code,
        "failure_reason": refund.failure_reason,
        "requested_at": instant(refund.requested_at),
        "settled_at": instant(refund.settled_at),
        "failed_at": instant(refund.failed_at),
    }


def _dispute(dispute: Dispute) -> dict[str, Any]:
    return {
        "id": str(dispute.id),
        "provider": dispute.provider,
        "external_id": dispute.external_id,
        "payment": dispute.payment_external_id,
        "amount": number(dispute.amount),
        "reason": dispute.reason,
        "status": dispute.status,
        "evidence_due_at": instant(dispute.evidence_due_at),
        "opened_at": instant(dispute.opened_at),
        "closed_at": instant(dispute.closed_at),
        "withdrawn": plain(dispute.withdrawn),
        "reinstated": plain(dispute.reinstated),
        "fees": plain(dispute.fees),
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "id": str(line.id),
        "position": line.position,
        "item": line.item,
        "description": line.description,
        "quantity": number(line.quantity),
        "amount": plain(line.amount),
        "rounded": number(line.rounded),
        "tax_inclusive": line.tax_inclusive,
        "usage_period_start": instant(line.usage_period_start),
    }


def _tax(tax: InvoiceTax) -> dict[str, Any]:
    return {
        "name": tax.name,
        "jurisdiction": tax.jurisdiction,
        "percent": plain(tax.percent),
        "inclusive": tax.inclusive,
        "treatment": tax.treatment,
        "taxable": plain(tax.taxable),
        "amount": plain(tax.amount),
        "legal_note": tax.legal_note,
    }


def _payment(payment: Payment) -> dict[str, Any]:
    return {
        "provider": payment.provider,
        "id": payment.external_id,
        "amount": plain(payment.amount),
        "received_at": instant(payment.received_at),
    }


def _failure(failure: PaymentFailure) -> dict[str, Any]:
    return {
        "provider": failure.provider,
        "id": failure.external_id,
        "attempt": failure.attempt,
        "code": failure.code,
        "message": failure.message,
        "failed_at": instant(failure.failed_at),
        "next_attempt_at": instant(failure.next_attempt_at),
    }
