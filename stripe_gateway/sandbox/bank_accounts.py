"""Bank accounts that are debited: what Stripe's test accounts do, days after the debit began.

A debit is a delayed payment: the payment intent is `processing` and the charge `pending` until the bank answers. A
debit that was paid can be returned afterwards; Stripe makes that a dispute that is lost from the start. Source:
https://docs.stripe.com/payments/ach-direct-debit/set-up-payment#test-account-numbers and
https://docs.stripe.com/payments/sepa-debit/accept-a-payment#test-integration.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import Json, invalid

TYPES = ("us_bank_account", "sepa_debit")
CURRENCIES = {"us_bank_account": "usd", "sepa_debit": "eur"}
ROUTING_NUMBER = "110000000"


@dataclass(frozen=True)
class BankAccount:
    """A test bank account. The first three fields are those by which a card is told apart, too."""

    type: str
    number: str  # an account number, or an IBAN
    failure: str | None = None  # the failure code with which the debit ends
    endless: bool = False  # the debit stays in processing
    dispute: str | None = None  # why the bank returns the debit soon after it was paid
    # What only cards do.
    refund: str | None = None
    inquiry: bool = False
    fraud_warning: bool = False
    attach_decline: str | None = None

    @property
    def last4(self) -> str:
        return self.number[-4:]


def _us(number: str, **behaviour: str | bool) -> BankAccount:
    return BankAccount("us_bank_account", number, **behaviour)  # type: ignore[arg-type]  # the fields above, by name


def _sepa(number: str, **behaviour: str | bool) -> BankAccount:
    return BankAccount("sepa_debit", number, **behaviour)  # type: ignore[arg-type]  # the fields above, by name


BANK_ACCOUNTS: dict[str, BankAccount] = {
    "pm_usBankAccount_success": _us("000123456789"),
    "pm_usBankAccount_accountClosed": _us("000111111113", failure="account_closed"),
    "pm_usBankAccount_noAccount": _us("000111111116", failure="no_account"),
    "pm_usBankAccount_insufficientFunds": _us("000222222227", failure="insufficient_funds"),
    "pm_usBankAccount_debitNotAuthorized": _us("000333333335", failure="debit_not_authorized"),
    "pm_usBankAccount_invalidCurrency": _us("000444444440", failure="invalid_currency"),
    "pm_usBankAccount_dispute": _us("000555555559", dispute="insufficient_funds"),
    "pm_usBankAccount_processing": _us("000000000009", endless=True),
    "pm_success_de": _sepa("DE89370400440532013000"),
    "pm_successDelayed_de": _sepa("DE08370400440532013003"),
    "pm_failed_de": _sepa("DE62370400440532013001", failure="generic_could_not_process"),
    "pm_failedDelayed_de": _sepa("DE78370400440532013004", failure="generic_could_not_process"),
    "pm_insufficientFunds_de": _sepa("DE65370400440002222227", failure="insufficient_funds"),
    "pm_disputed_de": _sepa("DE35370400440532013002", dispute="debit_not_authorized"),
}
_BY_NUMBER = {account.number: name for name, account in BANK_ACCOUNTS.items()}

FAILURES = {
    "account_closed": "The customer's bank account has been closed.",
    "no_account": "The customer's bank account could not be located.",
    "insufficient_funds": "The customer's account has insufficient funds to cover this payment.",
    "debit_not_authorized": "The customer has notified their bank that this payment was unauthorized.",
    "invalid_currency": "The bank was unable to process this payment because of its currency.",
    "generic_could_not_process": "This payment could not be processed.",
}
RETURNS = ("insufficient_funds", "incorrect_account_details", "bank_cannot_process", "debit_not_authorized")


def named_account(kind: str, details: Json) -> str:
    """The test account that these details of a new payment method name.

    Raises:
        ApiError: 400, when it is none of Stripe's test accounts.
    """
    field = "iban" if kind == "sepa_debit" else "account_number"
    number = str(details.get(field) or "").replace(" ", "").upper()
    name = _BY_NUMBER.get(number)
    if name is None or BANK_ACCOUNTS[name].type != kind:
        raise invalid(f"Invalid {field}: use one of Stripe's test accounts.", param=f"{kind}[{field}]")
    return name


def shown_account(account: BankAccount) -> Json:
    """What a payment method and a charge both show of an account."""
    shown: Json = {"fingerprint": f"sandbox{account.last4}bank", "last4": account.last4}
    if account.type == "sepa_debit":
        country, code = account.number[:2], account.number[4:12]
        return {**shown, "bank_code": code, "branch_code": None, "country": country}
    return {
        **shown,
        "account_holder_type": "company",
        "account_type": "checking",
        "bank_name": "STRIPE TEST BANK",
        "routing_number": ROUTING_NUMBER,
    }


def as_method(account: BankAccount) -> Json:
    """The part of a payment method that describes the account."""
    if account.type == "sepa_debit":
        return {**shown_account(account), "generated_from": {"charge": None, "setup_attempt": None}}
    return {
        **shown_account(account),
        "financial_connections_account": None,
        "networks": {"preferred": "ach", "supported": ["ach"]},
        "status_details": {},
    }
