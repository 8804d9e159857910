"""Why something is not done with a final invoice: one class for each reason, each with its code and its cure."""

from invoicing.errors import InvoicingError


class MovementNotFound(InvoicingError):
    """There is no such movement. Reload the invoice."""

    code = "unknown_movement"


class MovementConflict(InvoicingError):
    """A movement with this id was asked for before with other content. Nothing was written; use a new id."""

    code = "movement_conflict"


class MovementUnderWay(InvoicingError):
    """Something else that excludes this is under way for the invoice. Wait for it, or withdraw it."""

    code = "movement_under_way"


class MovementNotPossible(InvoicingError):
    """The invoice is not in a state in which this can be done. The text says what can be done instead."""

    code = "movement_not_possible"


class BadOptions(InvoicingError):
    """The options do not fit this kind of movement. The text says which are missing or unknown."""

    code = "bad_options"


class AmountTooLarge(InvoicingError):
    """More than there is to credit, to refund or to keep. The text says how much there is."""

    code = "amount_too_large"


class NotAwaitingApproval(InvoicingError):
    """This movement awaits no approval (any more). Reload the invoice."""

    code = "not_awaiting_approval"


class RefundNotFound(InvoicingError):
    """There is no such refund. Check the id."""

    code = "unknown_refund"


class RefundConflict(InvoicingError):
    """The refund is known with other details. Nothing was written; a person must compare it with the provider."""

    code = "refund_conflict"


class RefundRefused(InvoicingError):
    """What the provider says was refunded does not fit the payment. Nothing was written; a person must look."""

    code = "refund_refused"


class PaymentNotFound(InvoicingError):
    """The payment is not in the books (yet). Record it first, then try again."""

    code = "unknown_payment"


class DisputeConflict(InvoicingError):
    """The dispute is known with another invoice, payment or currency. Nothing was written; a person must look."""

    code = "dispute_conflict"


class DisputeRefused(InvoicingError):
    """What the provider says of a dispute does not fit our record. Nothing was written; a person must look."""

    code = "dispute_refused"


class ExchangeConflict(InvoicingError):
    """The exchange is known with other amounts, or is none. Nothing was written; a person must compare it."""

    code = "exchange_conflict"


class PayoutConflict(InvoicingError):
    """The payout is known with another amount. Nothing was written; a person must compare it with the provider."""

    code = "payout_conflict"
