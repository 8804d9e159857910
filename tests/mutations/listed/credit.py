"""The guards of credit: no lot pays more than it has, before it is paid for, or after its end."""

from tests.mutations.guard import Guard, Replace, Sql, without

_GUARDS = "tests/invoicing/test_credit_guards.py"
_LOTS = "tests/invoicing/test_credit_lots.py"
_TOP_UPS = "tests/invoicing/test_top_ups.py"
_GONE = "tests/invoicing/test_credit_money_gone.py"
_POSTGRES = f"{_LOTS}::test_postgres_refuses_what_the_code_would"
_OWNERS = f"{_GUARDS}::test_not_even_the_owner_changes_what_was_given_bought_or_billed_early"
_NO_CREDIT = f"{_LOTS}::test_what_is_no_credit_is_refused_with_the_cure"
_SOLD = f"{_GUARDS}::test_prepaid_credit_is_what_an_invoice_sold"
_PAYS = "tests/property/test_credit_lots.py::test_no_lot_pays_more_than_it_has_for_more_than_it_may_or_after_its_end"
_USED = "credit_uses_added"
_UNPAID = "IF NEW.kind = 'applied' AND lot.invoice_id IS NOT NULL AND NOT EXISTS"
_EDITED = "UPDATE {} SET actor = actor"

GUARDS = (
    Guard(
        name="credit: what was granted never changes",
        protects="A credit could be larger than what somebody decided.",
        taken=[Sql("DROP TRIGGER append_only ON credit_grants")],
        noticed_by=f"{_OWNERS}[{_EDITED}-credit_grants]",
    ),
    Guard(
        name="credit: what became of a lot never changes",
        protects="What was used could be made unused, and pay a second time.",
        taken=[Sql("DROP TRIGGER append_only ON credit_uses")],
        noticed_by=f"{_OWNERS}[{_EDITED}-credit_uses]",
    ),
    Guard(
        name="credit: a wish to refill never changes",
        protects="A card would be charged another amount than its owner said.",
        taken=[Sql("DROP TRIGGER append_only ON refill_rules")],
        noticed_by=f"{_OWNERS}[{_EDITED}-refill_rules]",
    ),
    Guard(
        name="credit: a lot never pays more than it has (code)",
        protects="An invoice would be paid by credit that nobody gave.",
        taken=[Replace("invoicing/credit/lots.py", "min(left, (lot.remaining // unit) * unit)", "left")],
        noticed_by=_PAYS,
    ),
    Guard(
        name="credit: a lot never pays more than it has (Postgres)",
        protects="Code that counts wrong would use what is not there.",
        taken=[without(_USED, "IF NEW.kind <> 'returned' AND NEW.amount > left_ THEN", "IF false THEN")],
        noticed_by=_POSTGRES,
    ),
    Guard(
        name="credit: a restricted lot pays for its items alone",
        protects="Credit for one thing would pay for another.",
        taken=[
            Replace(
                "invoicing/credit/lots.py",
                "take = min(take, sum((lines.get(item, Decimal(0)) for item in lot.items), Decimal(0)))",
                "pass",
            )
        ],
        noticed_by=f"{_LOTS}::test_a_restricted_credit_pays_for_its_items_and_nothing_else",
    ),
    Guard(
        name="credit: no more comes back than was taken",
        protects="A void invoice would leave a lot with more than it was given.",
        taken=[without(_USED, "IF NEW.kind = 'returned' AND NEW.amount > back THEN", "IF false THEN")],
        noticed_by=_POSTGRES,
    ),
    Guard(
        name="credit: an entry says what a use says",
        protects="A lot would be used up without anything in the books.",
        taken=[
            without(
                _USED,
                "(CASE NEW.kind WHEN 'returned' THEN entry.credit_account ELSE entry.debit_account END) <> lot.account",
                "false",
            )
        ],
        noticed_by=_POSTGRES,
    ),
    Guard(
        name="credit: an entry pays the invoice that a use names",
        protects="Credit would be called used by an invoice that it never paid.",
        taken=[
            without(
                _USED,
                "OR (NEW.kind = 'applied' AND (entry.credit_account <> 'assets:receivable'\n"
                "                                     OR entry.document_id IS DISTINCT FROM NEW.invoice_id))",
                "OR false",
            )
        ],
        noticed_by=f"{_GUARDS}::test_credit_pays_for_no_invoice_in_postgres[without an entry that says so]",
    ),
    Guard(
        name="credit: an entry stands behind as much use as it took",
        protects="Two lots would be used up by what was taken once.",
        taken=[without(_USED, "coalesce(sum(u.amount), 0)", "0 * count(*)")],
        noticed_by=f"{_GUARDS}::test_an_entry_stands_behind_as_much_use_as_it_took",
    ),
    Guard(
        name="credit: two uses at once see each other",
        protects="Neither would see the other's, and both would use what is there once.",
        taken=[without(_USED, "AND id = NEW.grant_id FOR UPDATE;", "AND id = NEW.grant_id;")],
        noticed_by=f"{_GUARDS}::test_of_two_uses_of_a_lot_at_once_the_second_sees_the_first",
    ),
    Guard(
        name="credit: a lot that ended pays for nothing later",
        protects="What a customer was told has expired would go on paying.",
        taken=[
            Replace("invoicing/credit/lots.py", "(self.expires_at is None or self.expires_at >= period_end)", "True")
        ],
        noticed_by=_PAYS,
    ),
    Guard(
        name="credit: nothing expires before its time",
        protects="Code with a wrong clock would take credit that still holds.",
        taken=[
            without(
                _USED,
                "IF NEW.kind = 'expired' AND (lot.expires_at IS NULL OR NEW.at < lot.expires_at) THEN",
                "IF false THEN",
            )
        ],
        noticed_by=_POSTGRES,
    ),
    Guard(
        name="credit: what a draft may still use does not expire",
        protects="A late close would cost customers the credit that covers its period.",
        taken=[
            Replace("invoicing/credit/endings.py", "_may_still_be_used(session, customer_id, lot.expires_at)", "False")
        ],
        noticed_by=(
            f"{_LOTS}::test_a_credit_that_expires_after_a_period_is_kept_for_its_draft_and_what_is_left_expires_then"
        ),
    ),
    Guard(
        name="credit: whoever revokes holds the books",
        protects="What an invoice is using would be taken back at the same time.",
        taken=[
            Replace(
                "invoicing/credit/endings.py",
                "reason = checked_reason(reason)\n    lock_books(session, [customer_id])",
                "reason = checked_reason(reason)",
            )
        ],
        noticed_by=f"{_GUARDS}::test_what_an_invoice_is_using_is_not_revoked",
    ),
    Guard(
        name="credit: one id is one grant",
        protects="A second click would be answered by a grant of another amount, and nobody would know.",
        taken=[
            Replace(
                "invoicing/credit/grants.py",
                "if sent != (known.account, known.amount, known.priority, known.expires_at, known.items):",
                "if False:",
            )
        ],
        noticed_by=f"{_LOTS}::test_the_same_grant_again_is_the_first_one_and_with_another_expiry_is_refused",
    ),
    Guard(
        name="credit: a grant is in the customer's currency (code)",
        protects="Five euros of goodwill would become five yen.",
        taken=[
            Replace("invoicing/credit/grants.py", "if currency is not None and currency != billed_in:", "if False:")
        ],
        noticed_by=f"{_NO_CREDIT}[currency]",
    ),
    Guard(
        name="credit: a grant is in the customer's currency (Postgres)",
        protects="A lot would pay in one currency for an invoice in another.",
        taken=[without("credit_grants_added", "IF NEW.currency IS DISTINCT FROM books_currency", "IF false")],
        noticed_by=_POSTGRES,
    ),
    Guard(
        name="credit: whole minor units (Postgres)",
        protects="A third of a cent would stand on an account for ever.",
        taken=[Sql("ALTER TABLE credit_grants DROP CONSTRAINT credit_grants_whole_units")],
        noticed_by=_POSTGRES,
    ),
    Guard(
        name="credit: a top-up pays once it is paid (both)",
        protects="Credit that nobody paid for would pay for usage.",
        taken=[
            Replace("invoicing/credit/lots.py", "return self.is_paid and not", "return not"),
            without(_USED, _UNPAID, "IF false AND NOT EXISTS"),
        ],
        noticed_by=f"{_TOP_UPS}::test_bought_credit_pays_for_usage_once_its_own_invoice_is_paid",
    ),
    Guard(
        name="credit: a top-up pays once it is paid (Postgres)",
        protects="Code that forgets to look would let credit pay that nobody paid for.",
        taken=[
            without(_USED, _UNPAID, "IF false AND NOT EXISTS"),
        ],
        noticed_by=f"{_GUARDS}::test_credit_pays_for_no_invoice_in_postgres[before it is paid for]",
    ),
    Guard(
        name="credit: what is disputed pays for nothing (Postgres)",
        protects="Credit would pay whose money the bank is about to take back.",
        taken=[Sql("DROP TRIGGER undisputed ON credit_uses")],
        noticed_by=f"{_GONE}::test_postgres_lets_no_disputed_credit_pay",
    ),
    Guard(
        name="credit: prepaid credit was sold",
        protects="Money that nobody owes would stand as if a customer had paid it in.",
        taken=[Sql("ALTER TABLE credit_grants DROP CONSTRAINT credit_grants_bought")],
        noticed_by=f"{_SOLD}[nobody sold it]",
    ),
    Guard(
        name="credit: as much as was sold",
        protects="An invoice over 20 would sell a lot of 21.",
        taken=[without("credit_grants_added", "AND i.kind = 'top_up' AND i.total = NEW.amount", "")],
        noticed_by=f"{_SOLD}[more than was sold]",
    ),
    Guard(
        name="credit: one refill at a time",
        protects="A card would be charged for another top-up while the first is on its way.",
        taken=[
            Replace("invoicing/credit/refills.py", "if open_top_ups(session, customer_id=customer_id):", "if False:")
        ],
        noticed_by=f"{_TOP_UPS}::test_credit_is_refilled_once_when_too_little_is_left_after_what_is_used",
    ),
    Guard(
        name="credit: a refill that failed is not repeated",
        protects="A card that fails would be asked for ever.",
        taken=[
            Replace(
                "invoicing/credit/refills.py",
                "if is_paused(session, customer_id=customer_id, set_at=rule.set_at):",
                "if False:",
            )
        ],
        noticed_by=f"{_TOP_UPS}::test_a_refill_that_nobody_paid_pauses_until_it_is_wanted_again",
    ),
    Guard(
        name="credit: a customer sees its own credit alone",
        protects="Customers would read what others were given.",
        taken=[Sql("ALTER TABLE credit_grants DISABLE ROW LEVEL SECURITY")],
        noticed_by="tests/panel/test_walls.py::test_every_table_and_view_shows_one_customer_and_nobody_else",
    ),
)
