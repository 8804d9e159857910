"""Every address of the API: its name, what it accepts, and the function that serves it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from . import (
    balance,
    bank_accounts,
    charges,
    collection,
    credit_notes,
    customer_balance,
    customers,
    disputes,
    events,
    fraud_warnings,
    invoice_lines,
    invoices,
    payment_intents,
    payment_methods,
    payment_records,
    payments,
    payouts,
    portal,
    refunds,
    webhook_endpoints,
)
from .errors import Json
from .params import Choice, Flag, Labels, Many, Number, Param, Span, Table, Text, Whole
from .world import Call

_UNSET = Text(unset=True)
_LONGEST_AMOUNT = 99_999_999  # Stripe takes at most eight digits
_AMOUNT = Whole(least=-_LONGEST_AMOUNT, most=_LONGEST_AMOUNT)
_EXPAND: Mapping[str, Param] = {"expand": Many(Text())}
_PAGE: Mapping[str, Param] = {
    "limit": Whole(least=1, most=100),
    "starting_after": Text(),
    "ending_before": Text(),
    **_EXPAND,
}
_CREATED: Mapping[str, Param] = {"created": Span()}
_ADDRESS = Table(dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"), _UNSET), unset=True)
_SHIPPING = Table({"address": _ADDRESS, "name": Text(), "phone": _UNSET}, unset=True)
_CUSTOM_FIELDS = Many(Table({"name": Text(40, required=True), "value": Text(140, required=True)}), most=4, unset=True)
_CUSTOMER: Mapping[str, Param] = {
    "address": _ADDRESS,
    "balance": Whole(),
    "description": _UNSET,
    "email": Text(512, unset=True),
    "invoice_prefix": Text(12),
    "invoice_settings": Table({"custom_fields": _CUSTOM_FIELDS, "default_payment_method": _UNSET, "footer": _UNSET}),
    "metadata": Labels(),
    "name": Text(256, unset=True),
    "next_invoice_sequence": Whole(least=1),
    "phone": Text(20, unset=True),
    "preferred_locales": Many(Text()),
    "shipping": _SHIPPING,
    "tax_exempt": Choice(("exempt", "none", "reverse", "")),
    **_EXPAND,
}
_INVOICE: Mapping[str, Param] = {
    "auto_advance": Flag(),
    "collection_method": Choice(("charge_automatically", "send_invoice")),
    "custom_fields": _CUSTOM_FIELDS,
    "days_until_due": Whole(least=0),
    "default_payment_method": _UNSET,
    "description": Text(1500, unset=True),
    "due_date": Whole(),
    "effective_at": Whole(unset=True),
    "footer": Text(5000, unset=True),
    "metadata": Labels(),
    "number": Text(26, unset=True),
    "statement_descriptor": Text(22),
    **_EXPAND,
}
_TAX_RATE_DATA = Table(
    {
        "country": Text(),
        "description": Text(),
        "display_name": Text(100, required=True),
        "inclusive": Flag(required=True),
        "jurisdiction": Text(200),
        "jurisdiction_level": Choice(("city", "country", "county", "district", "multiple", "state")),
        "percentage": Number(required=True),
        "state": Text(),
        "tax_type": Text(),
    },
    required=True,
)
_TAXABILITY = Choice(
    (
        "customer_exempt", "not_collecting", "not_subject_to_tax", "not_supported", "portion_product_exempt",
        "portion_reduced_rated", "portion_standard_rated", "product_exempt", "product_exempt_holiday",
        "proportionally_rated", "reduced_rated", "reverse_charge", "standard_rated", "taxable_basis_reduced",
        "zero_rated",
    )
)  # fmt: skip
_TAX_AMOUNT = Table(
    {
        "amount": Whole(required=True),
        "tax_rate_data": _TAX_RATE_DATA,
        "taxability_reason": _TAXABILITY,
        "taxable_amount": Whole(required=True),
    }
)
_LINE = Table(
    {
        "amount": _AMOUNT,
        "description": Text(),
        "discountable": Flag(),
        "invoice_item": Text(),
        "metadata": Labels(),
        "period": Table({"end": Whole(required=True), "start": Whole(required=True)}),
        "price_data": Table(
            {
                "currency": Text(3, required=True),
                "product": Text(),
                "product_data": Table({"name": Text(required=True), "description": Text(40_000), "metadata": Labels()}),
                "tax_behavior": Choice(("exclusive", "inclusive", "unspecified")),
                "unit_amount": Whole(least=0),
                "unit_amount_decimal": Number(),
            }
        ),
        "pricing": Table({"price": Text()}),
        "quantity": Whole(least=0),
        "quantity_decimal": Number(),
        "tax_amounts": Many(_TAX_AMOUNT, most=20, unset=True),
    }
)
_US_BANK_ACCOUNT = Table(
    {
        "account_holder_type": Choice(("company", "individual")),
        "account_number": Text(),
        "account_type": Choice(("checking", "savings")),
        "routing_number": Text(),
    }
)
_CARD = Table(
    {
        "cvc": Text(4),
        "exp_month": Whole(least=1, most=12),
        "exp_year": Whole(),
        "number": Text(),
        "token": Text(),
    }
)
_BILLING_DETAILS = Table({"address": _ADDRESS, "email": _UNSET, "name": _UNSET, "phone": _UNSET, "tax_id": Text()})
_CREDIT_NOTE: Mapping[str, Param] = {
    "amount": Whole(least=1),
    "credit_amount": Whole(least=0),
    "effective_at": Whole(),
    "email_type": Choice(("credit_note", "none")),
    "invoice": Text(required=True),
    "lines": Many(
        Table(
            {
                "amount": Whole(),
                "description": Text(),
                "invoice_line_item": Text(),
                "metadata": Labels(),
                "quantity": Whole(least=1),
                "tax_amounts": Many(
                    Table(
                        {
                            "amount": Whole(required=True),
                            "tax_rate": Text(required=True),
                            "taxable_amount": Whole(required=True),
                        }
                    ),
                    unset=True,
                ),
                "type": Choice(("custom_line_item", "invoice_line_item"), required=True),
                "unit_amount": Whole(),
                "unit_amount_decimal": Number(),
            }
        )
    ),
    "memo": Text(),
    "metadata": Labels(),
    "out_of_band_amount": Whole(least=0),
    "reason": Choice(("duplicate", "fraudulent", "order_change", "product_unsatisfactory")),
    "refund_amount": Whole(least=0),
    "refunds": Many(
        Table(
            {
                "amount_refunded": Whole(least=1),
                "refund": Text(required=True),
                "type": Choice(("refund",)),
            }
        )
    ),
    **_EXPAND,
}
_PAYMENT_RECORD: Mapping[str, Param] = {
    "amount_requested": Table({"currency": Text(3, required=True), "value": Whole(required=True)}, required=True),
    "customer_details": Table({"customer": Text(), "email": Text(), "name": Text(), "phone": Text()}),
    "customer_presence": Choice(("off_session", "on_session")),
    "description": Text(),
    "failed": Table({"failed_at": Whole(required=True)}),
    "guaranteed": Table({"guaranteed_at": Whole(required=True)}),
    "initiated_at": Whole(required=True),
    "metadata": Labels(),
    "outcome": Choice(("failed", "guaranteed")),
    "payment_method_details": Table(
        {
            "custom": Table({"display_name": Text(), "type": Text()}),
            "payment_method": Text(),
            "type": Choice(("custom",)),
        },
        required=True,
    ),
    "processor_details": Table(
        {"custom": Table({"payment_reference": Text(required=True)}), "type": Choice(("custom",), required=True)}
    ),
    **_EXPAND,
}
_ENDPOINT: Mapping[str, Param] = {"description": _UNSET, "metadata": Labels(), **_EXPAND}


@dataclass(frozen=True)
class Endpoint:
    """One named operation. `{}` in `path` stands for an id."""

    name: str
    method: str
    path: str
    serve: Callable[[Call], Json]
    params: Mapping[str, Param]

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.escape(self.path).replace(r"\{\}", "([^/]+)"))


ENDPOINTS = [
    Endpoint("customers.create", "POST", "/v1/customers", customers.create_customer,
             {**_CUSTOMER, "payment_method": Text()}),
    Endpoint("customers.list", "GET", "/v1/customers", customers.list_customers,
             {**_PAGE, **_CREATED, "email": Text(512)}),
    Endpoint("customers.retrieve", "GET", "/v1/customers/{}", customers.retrieve_customer, _EXPAND),
    Endpoint("customers.update", "POST", "/v1/customers/{}", customers.update_customer, _CUSTOMER),
    Endpoint("customers.delete", "DELETE", "/v1/customers/{}", customers.delete_customer, {}),
    Endpoint("customers.payment_methods.list", "GET", "/v1/customers/{}/payment_methods",
             payment_methods.list_customer_payment_methods, {**_PAGE, "type": Text()}),
    Endpoint("customers.balance_transactions.list", "GET", "/v1/customers/{}/balance_transactions",
             customer_balance.list_transactions, {**_PAGE, **_CREATED, "invoice": Text()}),
    Endpoint("customers.balance_transactions.create", "POST", "/v1/customers/{}/balance_transactions",
             customer_balance.create_transaction,
             {"amount": Whole(required=True), "currency": Text(3, required=True), "description": Text(350),
              "metadata": Labels(), **_EXPAND}),
    Endpoint("customers.balance_transactions.retrieve", "GET", "/v1/customers/{}/balance_transactions/{}",
             customer_balance.retrieve_transaction, _EXPAND),
    Endpoint("customers.balance_transactions.update", "POST", "/v1/customers/{}/balance_transactions/{}",
             customer_balance.update_transaction,
             {"description": Text(350), "metadata": Labels(), **_EXPAND}),
    Endpoint("payment_methods.create", "POST", "/v1/payment_methods", payment_methods.create_payment_method,
             {"type": Text(), "card": _CARD, "us_bank_account": _US_BANK_ACCOUNT,
              "sepa_debit": Table({"iban": Text(required=True)}),
              "billing_details": _BILLING_DETAILS, "metadata": Labels(), **_EXPAND}),
    Endpoint("payment_methods.list", "GET", "/v1/payment_methods", payment_methods.list_payment_methods,
             {**_PAGE, "customer": Text(), "type": Text()}),
    Endpoint("payment_methods.retrieve", "GET", "/v1/payment_methods/{}", payment_methods.retrieve_payment_method,
             _EXPAND),
    Endpoint("payment_methods.attach", "POST", "/v1/payment_methods/{}/attach", payment_methods.attach_payment_method,
             {"customer": Text(required=True), **_EXPAND}),
    Endpoint("payment_methods.detach", "POST", "/v1/payment_methods/{}/detach", payment_methods.detach_payment_method,
             _EXPAND),
    Endpoint("invoices.create", "POST", "/v1/invoices", invoices.create_invoice,
             {**_INVOICE, "currency": Text(3), "customer": Text(),
              "pending_invoice_items_behavior": Choice(("exclude", "include"))}),
    Endpoint("invoices.list", "GET", "/v1/invoices", invoices.list_invoices,
             {**_PAGE, **_CREATED, "customer": Text(),
              "status": Choice(("draft", "open", "paid", "uncollectible", "void")),
              "collection_method": Choice(("charge_automatically", "send_invoice"))}),
    Endpoint("invoices.retrieve", "GET", "/v1/invoices/{}", invoices.retrieve_invoice, _EXPAND),
    Endpoint("invoices.update", "POST", "/v1/invoices/{}", invoices.update_invoice, _INVOICE),
    Endpoint("invoices.delete", "DELETE", "/v1/invoices/{}", invoices.delete_invoice, {}),
    Endpoint("invoices.add_lines", "POST", "/v1/invoices/{}/add_lines", invoice_lines.add_lines,
             {"lines": Many(_LINE, required=True), "invoice_metadata": Labels(), **_EXPAND}),
    Endpoint("invoices.lines.list", "GET", "/v1/invoices/{}/lines", invoice_lines.list_lines, _PAGE),
    Endpoint("invoices.finalize", "POST", "/v1/invoices/{}/finalize", invoices.finalize_invoice,
             {"auto_advance": Flag(), **_EXPAND}),
    Endpoint("invoices.send", "POST", "/v1/invoices/{}/send", invoices.send_invoice, _EXPAND),
    Endpoint("invoices.pay", "POST", "/v1/invoices/{}/pay", collection.pay_invoice,
             {"off_session": Flag(), "paid_out_of_band": Flag(), "payment_method": Text(), **_EXPAND}),
    Endpoint("invoices.void", "POST", "/v1/invoices/{}/void", collection.void_invoice, _EXPAND),
    Endpoint("invoices.mark_uncollectible", "POST", "/v1/invoices/{}/mark_uncollectible", collection.mark_uncollectible,
             _EXPAND),
    Endpoint("invoices.attach_payment", "POST", "/v1/invoices/{}/attach_payment", payment_intents.attach_payment,
             {"payment_intent": Text(), "payment_record": Text(), **_EXPAND}),
    Endpoint("invoice_payments.list", "GET", "/v1/invoice_payments", payments.list_invoice_payments,
             {**_PAGE, **_CREATED, "invoice": Text(), "status": Choice(("canceled", "open", "paid")),
              "payment": Table({"type": Choice(("payment_intent", "payment_record"), required=True),
                                "payment_intent": Text(), "payment_record": Text()})}),
    Endpoint("invoice_payments.retrieve", "GET", "/v1/invoice_payments/{}", payments.retrieve_invoice_payment, _EXPAND),
    Endpoint("payment_intents.create", "POST", "/v1/payment_intents", payment_intents.create_intent,
             {"amount": Whole(least=1, most=_LONGEST_AMOUNT, required=True), "confirm": Flag(),
              "currency": Text(3, required=True), "customer": Text(), "description": Text(1000), "metadata": Labels(),
              "off_session": Flag(), "payment_method": Text(),
              "payment_method_types": Many(Choice(("card", *bank_accounts.TYPES))), **_EXPAND}),
    Endpoint("payment_intents.confirm", "POST", "/v1/payment_intents/{}/confirm", payment_intents.confirm_intent,
             {"off_session": Flag(), "payment_method": Text(), **_EXPAND}),
    Endpoint("payment_intents.cancel", "POST", "/v1/payment_intents/{}/cancel", payment_intents.cancel_intent,
             {"cancellation_reason": Choice(("abandoned", "duplicate", "fraudulent", "requested_by_customer")),
              **_EXPAND}),
    Endpoint("payment_records.report_payment", "POST", "/v1/payment_records/report_payment",
             payment_records.report_payment, _PAYMENT_RECORD),
    Endpoint("payment_records.retrieve", "GET", "/v1/payment_records/{}", payment_records.retrieve_record, _EXPAND),
    Endpoint("payment_intents.list", "GET", "/v1/payment_intents", payment_intents.list_intents,
             {**_PAGE, **_CREATED, "customer": Text()}),
    Endpoint("payment_intents.retrieve", "GET", "/v1/payment_intents/{}", payment_intents.retrieve_intent, _EXPAND),
    Endpoint("charges.list", "GET", "/v1/charges", charges.list_charges,
             {**_PAGE, **_CREATED, "customer": Text(), "payment_intent": Text()}),
    Endpoint("charges.retrieve", "GET", "/v1/charges/{}", charges.retrieve_charge, _EXPAND),
    Endpoint("balance.retrieve", "GET", "/v1/balance", balance.retrieve_balance, _EXPAND),
    Endpoint("balance_transactions.list", "GET", "/v1/balance_transactions", balance.list_balance_transactions,
             {**_PAGE, **_CREATED, "source": Text(), "type": Text(), "currency": Text(), "payout": Text()}),
    Endpoint("balance_transactions.retrieve", "GET", "/v1/balance_transactions/{}",
             balance.retrieve_balance_transaction, _EXPAND),
    Endpoint("refunds.create", "POST", "/v1/refunds", refunds.create_refund,
             {"amount": Whole(least=1), "charge": Text(), "payment_intent": Text(), "metadata": Labels(),
              "reason": Choice(("duplicate", "fraudulent", "requested_by_customer")), **_EXPAND}),
    Endpoint("refunds.list", "GET", "/v1/refunds", refunds.list_refunds,
             {**_PAGE, **_CREATED, "charge": Text(), "payment_intent": Text()}),
    Endpoint("refunds.retrieve", "GET", "/v1/refunds/{}", refunds.retrieve_refund, _EXPAND),
    Endpoint("refunds.update", "POST", "/v1/refunds/{}", refunds.update_refund, {"metadata": Labels(), **_EXPAND}),
    Endpoint("refunds.cancel", "POST", "/v1/refunds/{}/cancel", refunds.cancel_refund, _EXPAND),
    Endpoint("disputes.list", "GET", "/v1/disputes", disputes.list_disputes,
             {**_PAGE, **_CREATED, "charge": Text(), "payment_intent": Text()}),
    Endpoint("disputes.retrieve", "GET", "/v1/disputes/{}", disputes.retrieve_dispute, _EXPAND),
    Endpoint("disputes.update", "POST", "/v1/disputes/{}", disputes.update_dispute,
             {"evidence": Table(dict.fromkeys(disputes.EVIDENCE, Text(20000, unset=True))), "metadata": Labels(),
              "submit": Flag(), **_EXPAND}),
    Endpoint("disputes.close", "POST", "/v1/disputes/{}/close", disputes.close_dispute, _EXPAND),
    Endpoint("radar.early_fraud_warnings.list", "GET", "/v1/radar/early_fraud_warnings", fraud_warnings.list_warnings,
             {**_PAGE, **_CREATED, "charge": Text(), "payment_intent": Text()}),
    Endpoint("radar.early_fraud_warnings.retrieve", "GET", "/v1/radar/early_fraud_warnings/{}",
             fraud_warnings.retrieve_warning, _EXPAND),
    Endpoint("payouts.create", "POST", "/v1/payouts", payouts.create_payout,
             {"amount": Whole(least=1, required=True), "currency": Text(3, required=True), "description": Text(),
              "metadata": Labels(), "method": Choice(("standard",)), "statement_descriptor": Text(22), **_EXPAND}),
    Endpoint("payouts.list", "GET", "/v1/payouts", payouts.list_payouts,
             {**_PAGE, **_CREATED, "arrival_date": Span(), "destination": Text(),
              "status": Choice(("pending", "in_transit", "paid", "failed", "canceled"))}),
    Endpoint("payouts.retrieve", "GET", "/v1/payouts/{}", payouts.retrieve_payout, _EXPAND),
    Endpoint("payouts.update", "POST", "/v1/payouts/{}", payouts.update_payout, {"metadata": Labels(), **_EXPAND}),
    Endpoint("payouts.cancel", "POST", "/v1/payouts/{}/cancel", payouts.cancel_payout, _EXPAND),
    # The preview comes before the address with an id, which would match it too.
    Endpoint("credit_notes.preview", "GET", "/v1/credit_notes/preview", credit_notes.preview_credit_note, _CREDIT_NOTE),
    Endpoint("credit_notes.create", "POST", "/v1/credit_notes", credit_notes.create_credit_note, _CREDIT_NOTE),
    Endpoint("credit_notes.list", "GET", "/v1/credit_notes", credit_notes.list_credit_notes,
             {**_PAGE, **_CREATED, "customer": Text(), "invoice": Text()}),
    Endpoint("credit_notes.retrieve", "GET", "/v1/credit_notes/{}", credit_notes.retrieve_credit_note, _EXPAND),
    Endpoint("credit_notes.update", "POST", "/v1/credit_notes/{}", credit_notes.update_credit_note,
             {"memo": Text(), "metadata": Labels(), **_EXPAND}),
    Endpoint("credit_notes.void", "POST", "/v1/credit_notes/{}/void", credit_notes.void_credit_note, _EXPAND),
    Endpoint("credit_notes.lines.list", "GET", "/v1/credit_notes/{}/lines", credit_notes.list_lines, _PAGE),
    Endpoint("events.list", "GET", "/v1/events", events.list_events,
             {**_PAGE, **_CREATED, "type": Text(), "types": Many(Text(), most=events.MAX_TYPES),
              "delivery_success": Flag()}),
    Endpoint("events.retrieve", "GET", "/v1/events/{}", events.retrieve_event, _EXPAND),
    Endpoint("billing_portal.sessions.create", "POST", "/v1/billing_portal/sessions", portal.create_session,
             {"customer": Text(required=True), "return_url": Text(), "configuration": Text(), "locale": Text(),
              **_EXPAND}),
    Endpoint("webhook_endpoints.create", "POST", "/v1/webhook_endpoints", webhook_endpoints.create_endpoint,
             {**_ENDPOINT, "url": Text(required=True), "enabled_events": Many(Text(), required=True),
              "api_version": Text()}),
    Endpoint("webhook_endpoints.list", "GET", "/v1/webhook_endpoints", webhook_endpoints.list_endpoints, _PAGE),
    Endpoint("webhook_endpoints.retrieve", "GET", "/v1/webhook_endpoints/{}", webhook_endpoints.retrieve_endpoint,
             _EXPAND),
    Endpoint("webhook_endpoints.update", "POST", "/v1/webhook_endpoints/{}", webhook_endpoints.update_endpoint,
             {**_ENDPOINT, "url": Text(), "enabled_events": Many(Text()), "disabled": Flag()}),
    Endpoint("webhook_endpoints.delete", "DELETE", "/v1/webhook_endpoints/{}", webhook_endpoints.delete_endpoint, {}),
]  # fmt: skip

_BY_METHOD: dict[str, list[tuple[re.Pattern[str], Endpoint]]] = {}
for _endpoint in ENDPOINTS:
    _BY_METHOD.setdefault(_endpoint.method, []).append((_endpoint.pattern, _endpoint))


def find_endpoint(method: str, path: str) -> tuple[Endpoint, tuple[str, ...]] | None:
    """The operation behind an address and the ids in it, or None."""
    for pattern, endpoint in _BY_METHOD.get(method, []):
        match = pattern.fullmatch(path)
        if match:
            return endpoint, match.groups()
    return None
