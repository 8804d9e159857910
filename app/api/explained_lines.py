"""Explanations of lines as JSON: exact amounts are text, times end in Z."""

from typing import Any

from app.api.rendering import instant, number
from invoicing.explaining.of_charge import ChargeExplanation
from invoicing.explaining.of_line import LineExplanation
from invoicing.explaining.parts import Part
from invoicing.explaining.words import facts_of_charge, facts_of_line


def line_explained(found: LineExplanation, *, time_zone: str) -> dict[str, Any]:
    """One line of an invoice with everything that made it."""
    line, rounding = found.line, found.rounding
    return {
        "kind": "line",
        "invoice": {"id": str(found.invoice.id), "number": found.invoice.number, "state": found.invoice.state},
        "line": {
            "id": str(line.id),
            "position": line.position,
            "description": line.description,
            "item": line.item,
            "amount": number(line.amount),
            "quantity": number(line.quantity),
        },
        "adds_up": found.adds_up,
        "charge": None if found.charge is None else charge_explained(found.charge, time_zone=time_zone),
        "adjustment_id": None if found.adjustment is None else str(found.adjustment.id),
        "rounding": None
        if rounding is None
        else {
            "exact_total": number(rounding.exact_total),
            "rounded_total": number(rounding.rounded_total),
            "share": number(rounding.share),
        },
        "taxes": [
            {
                "title": tax.title,
                "treatment": tax.treatment,
                "jurisdiction": tax.jurisdiction,
                "percent": number(tax.percent),
                "inclusive": tax.inclusive,
                "taxable": number(tax.taxable),
                "amount": number(tax.amount),
                "of_invoice": number(tax.of_all),
                "legal_note": tax.legal_note,
                "valid_from": instant(tax.valid_from),
                "valid_until": instant(tax.valid_until),
            }
            for tax in found.taxes
        ],
        "untaxed": found.untaxed,
        "credits": [
            {
                "grant_id": None if credit.lot.id is None else str(credit.lot.id),
                "account": credit.lot.account,
                "priority": credit.lot.priority,
                "expires_at": instant(credit.lot.expires_at),
                "items": None if credit.lot.items is None else sorted(credit.lot.items),
                "amount": number(credit.amount),
            }
            for credit in found.credits
        ],
        "words": [{"title": title, "text": text} for title, text in facts_of_line(found, time_zone=time_zone)],
    }


def charge_explained(found: ChargeExplanation, *, time_zone: str) -> dict[str, Any]:
    """What a line or a row so far bills: the steps less what stands elsewhere are its amount."""
    charge, terms = found.charge, found.terms
    return {
        "item": charge.item,
        "name": found.name,
        "unit": found.unit,
        "amount": number(charge.amount),
        "quantity": number(charge.quantity),
        "period_start": instant(charge.period_start),
        "usage_period_start": instant(charge.usage_period_start),
        "price": None
        if terms is None
        else {
            "id": str(terms.id),
            "model": terms.model,
            "price_list": terms.price_list,
            "region": terms.region,
            "valid_from": instant(terms.valid_from),
            "valid_until": instant(terms.until or found.replaced_at),
            "published_by": found.published_by,
        },
        "discount_id": None if found.discount is None else str(found.discount.id),
        "plan_version_id": None if found.plan is None else str(found.plan.id),
        "counted_from": instant(found.counted_from),
        "counted": number(found.counted),
        "other": number(found.other),
        "steps": [
            {
                "words": step.words,
                "quantity": number(step.quantity),
                "unit_amount": number(step.unit_amount),
                "flat_amount": number(step.flat_amount),
                "amount": number(step.amount),
            }
            for step in found.steps
        ],
        "total": number(found.total),
        "elsewhere": [_elsewhere(part) for part in found.elsewhere],
        "entries": {
            "count": found.entries,
            "first_seq": None if found.first is None else found.first.seq,
            "last_seq": None if found.last is None else found.last.seq,
        },
        "by_app_and_region": [
            {
                "app": share.app,
                "region": share.region,
                "quantity": number(share.quantity),
                "amount": number(share.amount),
                "entries": share.entries,
            }
            for share in found.shares
        ],
        "adds_up": found.adds_up,
        "words": [{"title": title, "text": text} for title, text in facts_of_charge(found, time_zone=time_zone)],
    }


def _elsewhere(part: Part) -> dict[str, Any]:
    return {
        "period_start": instant(part.period_start),
        "usage_period_start": instant(part.usage_period_start),
        "invoice_id": None if part.invoice is None else str(part.invoice.id),
        "invoice_number": None if part.invoice is None else part.invoice.number,
        "quantity": number(part.quantity),
        "amount": number(part.amount),
    }
