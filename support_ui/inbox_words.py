"""Why an event of Stripe's waits for a person, and what that person does: in words, by the reason's stable code."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Explanation:
    """`title` says what is wrong in a few words; `cure` what to do before the event is run again."""

    title: str
    cure: str


EXPLANATIONS: dict[str, Explanation] = {
    "event_refused": Explanation(
        "It does not fit our record",
        "Nothing was posted. Compare the event with the invoice and with Stripe's page of it. If our record is right, "
        "correct it at Stripe; if a difference is meant, let finance decide. Then run it again.",
    ),
    "other_mode": Explanation(
        "Test mode and live mode are mixed",
        "The webhook endpoint at Stripe belongs to the other mode than our key. Give the endpoint's own secret in "
        "STRIPE_WEBHOOK_SECRET, or remove the endpoint. Nothing of it is ever posted; running it again changes that "
        "only once the key's mode is the event's.",
    ),
    "other_account": Explanation(
        "It is about another Stripe account",
        "The endpoint listens to connected accounts, or the secret is another account's. Set the endpoint at Stripe to "
        "events of our own account. If the account is ours, set STRIPE_ACCOUNT_ID to its id, then run it again.",
    ),
    "stripe_foreign_invoice": Explanation(
        "An invoice at Stripe carries our ids, but is not the one that we sent",
        "Somebody copied an invoice at Stripe, or another installation uses the same account. Look at both invoices. "
        "Void the copy at Stripe, or give the other installation an account of its own.",
    ),
    "stripe_invoice_differs": Explanation(
        "The invoice at Stripe is not the one that we sent",
        "Its number, total, currency or customer changed there. Compare both; void the one at Stripe if that is wrong, "
        "and issue the invoice anew. Then run it again.",
    ),
    "stripe_object_of_another": Explanation(
        "The object belongs to another customer or invoice of ours",
        "Two of our invoices claim the same payment. Nothing was posted twice. Look at both with Stripe's page of the "
        "payment, and let finance decide whose it is.",
    ),
    "unexpected": Explanation(
        "The event could not be read",
        "It has a shape that this version does not know, or a fault of ours came up. The log holds the details under "
        "the event's id. After a fix is deployed, run all of them again.",
    ),
    "stripe_refused": Explanation(
        "Stripe refused a question that the event needs answered",
        "Its words stand beside the event. Most often the key lacks a permission: `billing stripe check` says which. "
        "Then run it again.",
    ),
    "stripe_not_found": Explanation(
        "Stripe does not know the object any more",
        "It was deleted at Stripe, or belongs to another account or mode. If nothing of ours is missing, leave the "
        "event here: it is kept and does no harm.",
    ),
    "payment_conflict": Explanation(
        "The payment is in the books with another amount or invoice",
        "The same payment was recorded before and differs now. Nothing was changed. Compare both with Stripe's page of "
        "the payment, and let finance correct the books.",
    ),
    "payment_refused": Explanation(
        "The books do not take this payment",
        "The invoice is not in a state that takes money, such as a draft or a void one. Look at the invoice; refund "
        "the payment at Stripe or have the invoice issued anew. Then run it again.",
    ),
    "amount_not_expressible": Explanation(
        "The amount has finer parts than the currency allows",
        "Our record and Stripe's use different minor units for this currency. Tell a developer; run it again after "
        "the fix.",
    ),
    "stripe_key_misused": Explanation(
        "A request to Stripe was repeated with other contents",
        "A fault of ours. Tell a developer and give the event's id; nothing was sent twice.",
    ),
}

OTHERS = Explanation(
    "The books refused it",
    "The sentence beside the event says why, and what to do. Mend that, then run the event again.",
)


def explain(code: str | None) -> Explanation:
    """The words for a reason; those of the books' own refusals stand in their sentence."""
    return EXPLANATIONS["unexpected"] if code is None else EXPLANATIONS.get(code, OTHERS)
