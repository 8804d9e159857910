"""Announcements: what a movement will do, in money and at the provider, said in full before anybody agrees to it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy.orm import Session

from invoicing.movements.beginnings import BY_KIND
from invoicing.movements.credit_notes import split_of
from invoicing.movements.refunds import is_by_hand, parts_of
from invoicing.movements.standing import Standing
from invoicing.provider import Provider
from ledger import accounts
from support_ui.figures import day, words_money

MANUAL = "manual"

_CREDITS = {
    accounts.CREDITS_PROMOTIONAL: "promotional credit",
    accounts.CREDITS_GOODWILL: "goodwill credit",
    accounts.CREDITS_PREPAID: "prepaid credit",
}


@dataclass(frozen=True, slots=True)
class Announcement:
    """What will happen. `amount` is in major units of the invoice's currency."""

    amount: Decimal
    sentences: tuple[str, ...]
    needs_approval: bool

    @property
    def digest(self) -> str:
        """The same for the same words: a form that carries it agrees to exactly them."""
        return hashlib.sha256("\n".join(self.sentences).encode()).hexdigest()[:32]


def announce(
    session: Session,
    standing: Standing,
    *,
    kind: str,
    amount: Decimal | None,
    options: Mapping[str, str],
    fees: Decimal,
    approval_limit: Decimal,
    provider: Provider | None = None,
) -> Announcement:
    """What `request_movement` would do with the same arguments now. Writes nothing; `fees` were kept by the provider.

    Raises:
        InvoicingError: whatever `request_movement` refuses for.
    """
    wish = BY_KIND[kind].check(session, standing, amount=amount, options=options, provider=provider)
    teller = _Teller(session, standing, fees)
    sentences = teller.tell(kind, wish.amount, options)
    needs_approval = wish.may_need_approval and wish.amount > approval_limit
    if needs_approval:
        limit = words_money(approval_limit, standing.invoice.currency)
        sentences.insert(0, f"It is more than {limit}: nothing of this happens before a second person approves it.")
    return Announcement(wish.amount, tuple(sentences), needs_approval)


@dataclass(frozen=True, slots=True)
class _Teller:
    session: Session
    standing: Standing
    fees: Decimal

    def tell(self, kind: str, amount: Decimal, options: Mapping[str, str]) -> list[str]:
        if kind == "credit_note":
            return self._credit_note(amount, options.get("paid_part", "keep"))
        if kind == "refund_unapplied":
            return [*self._way_back(amount, payment=options.get("payment")), "The invoice itself stays as it is."]
        if kind == "keep_unapplied":
            return [f"{self._money(amount)} become prepaid credit, which the next invoices use. No money moves."]
        if kind == "void":
            return self._void(amount, options["then"])
        if kind == "write_off":
            return self._write_off(amount)
        if kind == "outside_payment":
            return self._outside(amount, options)
        return [
            f"The dispute {options['dispute']} over {self._money(amount)} is accepted at Stripe.",
            "It is lost at once: neither the money nor the dispute fee comes back. This cannot be undone.",
        ]

    @property
    def _is_manual(self) -> bool:
        return self.standing.invoice.provider == MANUAL

    def _money(self, amount: Decimal) -> str:
        return words_money(amount, self.standing.invoice.currency)

    def _credit_note(self, amount: Decimal, paid_part: str) -> list[str]:
        split = split_of(self.session, self.standing, amount)
        told = [f"A credit note over {self._money(amount)} is issued. The customer sees it, but not your reason."]
        if split.unpaid:
            left = self.standing.open - split.unpaid
            after = f"{self._money(left)} stay open." if left else "Nothing stays open: the invoice is paid."
            told.append(f"{self._money(split.unpaid)} that are open are not owed any more. {after}")
        if split.cash and paid_part == "refund":
            told += self._way_back(split.cash)
        elif split.cash:
            told.append(
                f"{self._money(split.cash)} that were paid become prepaid credit, which the next invoices use. "
                "No money moves."
            )
        told += [
            f"{self._money(part)} that {_CREDITS[account]} had paid become {_CREDITS[account]} again."
            for account, part in split.credits.items()
        ]
        if not self._is_manual and (split.unpaid or split.cash):
            told.append("Stripe gets the same credit note for its invoice.")
        return told

    def _way_back(self, amount: Decimal, *, payment: str | None = None) -> list[str]:
        parts = parts_of(self.standing, amount, payment=payment)
        told = []
        by_hand = sum((part for found, part in parts if is_by_hand(found)), Decimal(0))
        for found, part in parts:
            if not is_by_hand(found):
                paid_on = day(found.payment.received_at)
                told.append(
                    f"{self._money(part)} go back through Stripe, to where the payment of {paid_on} came from. "
                    "The customer's bank may take days to show it."
                )
        if by_hand:
            told.append(
                f"{self._money(by_hand)} came by bank transfer and go back by hand: a task asks somebody to transfer "
                "them, and they are booked once that is noted under Bank."
            )
        if by_hand < amount:
            kept = f" ({self._money(self.fees)} on this invoice so far)" if self.fees > 0 else ""
            told.append(f"The processing fee that Stripe kept{kept} does not come back.")
        return told

    def _void(self, total: Decimal, then: str) -> list[str]:
        invoice = self.standing.invoice
        told = [
            f"Invoice {invoice.number} over {self._money(total)} becomes void"
            + (" at once." if self._is_manual else ", once Stripe has confirmed it there: nobody can pay it any more."),
            "Its number stays taken, and the customer sees it as cancelled.",
        ]
        if invoice.credits_applied:
            told.append(f"{self._money(invoice.credits_applied)} of credits that it had used come back.")
        if then == "rebill":
            told.append(
                "Its charges go on a new draft, without the corrections that were made on this one. The draft waits "
                "as long as any draft before it becomes a new invoice."
            )
        else:
            told.append(f"Its charges are given up: {self._money(total)} are never billed.")
        return told

    def _write_off(self, amount: Decimal) -> list[str]:
        where = "at once" if self._is_manual else "once Stripe has marked it as uncollectible there"
        return [
            f"{self._money(amount)} that are open are booked as a loss, {where}.",
            "Nobody asks the customer for it any more. If they pay after all, the loss is taken back by itself.",
        ]

    def _outside(self, amount: Decimal, options: Mapping[str, str]) -> list[str]:
        wanted = self.standing.invoice.open
        on = day(datetime.fromisoformat(options["received_at"]))
        booked = f"{self._money(amount)} are booked as received in our bank account on {on} (UTC)"
        left = max(Decimal(0), wanted - amount)
        told = [f"{booked}: {self._money(left)} stay open." if left else f"{booked}: the invoice is paid."]
        if amount > wanted:
            more = self._money(amount - wanted)
            told.append(f"That is {more} more than was open: they stay the customer's, to be sent back or kept.")
        if self.standing.invoice.state == "uncollectible":
            told.append("It had been given up: that loss is taken back.")
        if not self._is_manual and left:
            told.append("Stripe is told of it, and collects only the rest.")
        elif not self._is_manual:
            told.append("Stripe stops collecting: the invoice is marked there as paid outside Stripe.")
        return told
