"""Test cards: what attaching and charging each of Stripe's test payment methods does.

Source: https://docs.stripe.com/testing#cards, #declined-payments, #disputes and #refunds.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ApiError


@dataclass(frozen=True)
class Card:
    """A test card; the codes are None where that step succeeds."""

    brand: str
    last4: str
    number: str = ""
    funding: str = "credit"
    country: str = "US"
    attach_decline: str | None = None  # decline code when it is attached to a customer
    charge_decline: str | None = None  # decline code when it is charged
    needs_person: bool = False  # an off-session charge needs the customer to authenticate
    refund: str | None = None  # "fails" some time after it succeeded, or is "pending" before it succeeds
    dispute: str | None = None  # why a payment is disputed soon after it succeeded
    inquiry: bool = False  # the dispute begins as an inquiry, which moves no money
    fraud_warning: bool = False  # a payment is followed by an early fraud warning


_DECLINED = {
    "pm_card_chargeDeclined": ("generic_decline", "0002", "4000000000000002"),
    "pm_card_chargeDeclinedInsufficientFunds": ("insufficient_funds", "9995", "4000000000009995"),
    "pm_card_chargeDeclinedLostCard": ("lost_card", "9987", "4000000000009987"),
    "pm_card_chargeDeclinedStolenCard": ("stolen_card", "9979", "4000000000009979"),
    "pm_card_chargeDeclinedExpiredCard": ("expired_card", "0069", "4000000000000069"),
    "pm_card_chargeDeclinedIncorrectCvc": ("incorrect_cvc", "0127", "4000000000000127"),
    "pm_card_chargeDeclinedProcessingError": ("processing_error", "0119", "4000000000000119"),
}
CARDS: dict[str, Card] = {
    "pm_card_visa": Card("visa", "4242", "4242424242424242"),
    "pm_card_visa_debit": Card("visa", "5556", "4000056655665556", funding="debit"),
    "pm_card_mastercard": Card("mastercard", "4444", "5555555555554444"),
    "pm_card_mastercard_debit": Card("mastercard", "8210", "5200828282828210", funding="debit"),
    "pm_card_amex": Card("amex", "0005", "378282246310005"),
    "pm_card_discover": Card("discover", "1117", "6011111111111117"),
    "pm_card_de": Card("visa", "0276", "4000002760000016", country="DE"),
    "pm_card_gb": Card("visa", "0000", "4000008260000000", country="GB"),
    "pm_card_chargeCustomerFail": Card("visa", "0341", "4000000000000341", charge_decline="generic_decline"),
    "pm_card_authenticationRequired": Card("visa", "3184", "4000002760003184", needs_person=True),
    "pm_card_refundFail": Card("visa", "5126", "4000000000005126", refund="fails"),
    "pm_card_pendingRefund": Card("visa", "7726", "4000000000007726", refund="pending"),
    "pm_card_createDispute": Card("visa", "0259", "4000000000000259", dispute="fraudulent"),
    "pm_card_createDisputeProductNotReceived": Card("visa", "2685", "4000000000002685", dispute="product_not_received"),
    "pm_card_createDisputeInquiry": Card("visa", "1976", "4000000000001976", dispute="fraudulent", inquiry=True),
    "pm_card_createIssuerFraudRecord": Card("visa", "5423", "4000000000005423", fraud_warning=True),
    **{
        name: Card("visa", last4, number, attach_decline=decline, charge_decline=decline)
        for name, (decline, last4, number) in _DECLINED.items()
    },
}
# Older spellings of the same cards.
ALIASES = {
    name.replace("pm_card_chargeDeclined", "pm_card_visa_chargeDeclined"): name
    for name in CARDS
    if name.startswith("pm_card_chargeDeclined")
}
BY_NUMBER = {card.number: name for name, card in CARDS.items()}

_MESSAGES = {
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
}
# Codes that are a code of their own; every other decline is code card_declined with its decline code.
_OWN_CODES = frozenset({"expired_card", "incorrect_cvc", "processing_error"})


def find_card(name: str) -> str | None:
    """The canonical name of a test payment method, or None where it is none of ours."""
    name = ALIASES.get(name, name)
    return name if name in CARDS else None


def decline(decline_code: str, *, keeps_work: bool) -> ApiError:
    """The 402 for a card that was declined. A failed charge stays on record; a failed attachment leaves nothing."""
    own = decline_code in _OWN_CODES
    return ApiError(
        402,
        _MESSAGES.get(decline_code, "Your card was declined."),
        kind="card_error",
        code=decline_code if own else "card_declined",
        decline_code=None if own else decline_code,
        keeps_work=keeps_work,
    )


def authentication_required() -> ApiError:
    """The 402 for a card whose holder must confirm the payment in person."""
    return ApiError(
        402,
        "Your card was declined. This transaction requires authentication.",
        kind="card_error",
        code="authentication_required",
        decline_code="authentication_required",
        keeps_work=True,
    )


def refusal(card: Card, *, off_session: bool) -> ApiError | None:
    """Why a charge of this card fails, None when it succeeds."""
    if card.charge_decline:
        return decline(card.charge_decline, keeps_work=True)
    return authentication_required() if card.needs_person and off_session else None
