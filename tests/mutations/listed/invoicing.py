"""Invoicing's guards: one invoice per period, as it was agreed to, and never more back than came in."""

from tests.mutations.guard import Guard, Replace, Sql

_SCHEMA = "migrations/versions/0002_invoicing.py"
_FORGED = "tests/invoicing/test_guards.py::test_what_is_forged_is_refused"
_REFUSED = "tests/invoicing/test_movement_guards.py::test_postgres_refuses_what_the_code_would_never_do"
_OWNERS = "tests/invoicing/test_payments.py::test_postgres_itself_protects_a_final_invoice_even_from_the_owner"
_SLIPPED = "tests/invoicing/test_guards.py::test_a_line_does_not_slip_into_an_invoice_that_is_being_finalized"
_ADJUSTMENTS = "tests/invoicing/test_adjustments.py"
_REFUSALS = "tests/invoicing/test_movement_refusals.py"
_AWAITED = """OR EXISTS (SELECT FROM public.adjustments a WHERE a.customer_id = NEW.customer_id AND \
a.invoice_id = NEW.id
                      AND a.needs_approval AND a.approved_at IS NULL AND a.undone_at IS NULL)"""

GUARDS = (
    Guard(
        name="invoicing: one invoice per period that is not void",
        protects="A period could be billed twice.",
        taken=[Sql("DROP INDEX invoices_one_not_void")],
        noticed_by=f"{_FORGED}[owner-a second invoice of the period]",
    ),
    Guard(
        name="invoicing: a number is given once",
        protects="Two invoices of a customer could carry one number.",
        taken=[Sql("DROP INDEX invoices_number_seq")],
        noticed_by=f"{_FORGED}[owner-a number given out twice]",
    ),
    Guard(
        name="invoicing: numbers have no gap",
        protects="A number could be left out, and an auditor would look for its invoice.",
        taken=[Sql("DROP TRIGGER for_life ON customers")],
        noticed_by=f"{_OWNERS}[UPDATE customers SET last_invoice_number = 7]",  # noqa: S608 - a test's name
    ),
    Guard(
        name="invoicing: an invoice goes along its states",
        protects="A final invoice could become a draft again and be changed.",
        taken=[Sql("DROP TRIGGER along_its_states ON invoices")],
        noticed_by=f"{_OWNERS}[UPDATE invoices SET number = 'FREE-1']",  # noqa: S608 - a test's name
    ),
    Guard(
        name="invoicing: an invoice begins as a draft",
        protects="An invoice could be born final, past everybody who should see it.",
        taken=[Sql("DROP TRIGGER starts_as_draft ON invoices")],
        noticed_by=f"{_FORGED}[owner-an invoice born with a number]",
    ),
    Guard(
        name="invoicing: lines of a final invoice are frozen",
        protects="What a customer was billed for could be changed after the fact.",
        taken=[Sql("DROP TRIGGER only_in_drafts ON invoice_lines")],
        noticed_by=f"{_FORGED}[owner-a final line changed]",
    ),
    Guard(
        name="invoicing: a final invoice takes no line",
        protects="A line could be added to an invoice that a customer has in hand.",
        taken=[Sql("DROP TRIGGER only_into_drafts ON invoice_lines")],
        noticed_by=f"{_FORGED}[owner-a line in a final invoice]",
    ),
    Guard(
        name="invoicing: a line waits for the finalization",
        protects="A line could slip into an invoice whose total has been added up already.",
        taken=[
            Replace(
                _SCHEMA,
                "i.customer_id = a.customer_id AND i.id = a.invoice_id FOR SHARE)",
                "i.customer_id = a.customer_id AND i.id = a.invoice_id)",
            )
        ],
        noticed_by=f"{_SLIPPED}[new line]",
    ),
    Guard(
        name="invoicing: the draft has a version",
        protects="Of two tabs the second would change a draft that its person never saw.",
        taken=[
            Replace(
                "invoicing/drafts.py",
                "if expected_version is not None and invoice.version != expected_version:",
                "if expected_version is not None and expected_version < 0:",
            )
        ],
        noticed_by=f"{_ADJUSTMENTS}::test_the_second_of_two_tabs_is_told_that_the_draft_changed",
    ),
    Guard(
        name="invoicing: an adjustment above the limit waits",
        protects="One person alone could put any amount on an invoice.",
        taken=[
            Replace(
                "invoicing/adjustments.py",
                "needs_approval=abs(amount) > settings.approval_limit",
                "needs_approval=False",
            )
        ],
        noticed_by=f"{_ADJUSTMENTS}::test_an_adjustment_above_the_limit_waits_for_a_second_person",
    ),
    Guard(
        name="invoicing: nothing final before its approval (both)",
        protects="An adjustment that nobody agreed to would be billed.",
        taken=[
            Replace(
                "invoicing/finalization.py",
                "if awaiting_approval(session, customer_id=customer_id, invoice_id=invoice_id):",
                "if False:",
            ),
            Replace(_SCHEMA, _AWAITED, "OR false"),
        ],
        noticed_by=f"{_ADJUSTMENTS}::test_an_adjustment_above_the_limit_waits_for_a_second_person",
    ),
    Guard(
        name="invoicing: nothing final before its approval (Postgres)",
        protects="Code that forgets the approval would bill it.",
        taken=[Replace(_SCHEMA, _AWAITED, "OR false")],
        noticed_by="tests/invoicing/test_guards.py::test_an_approval_is_not_looked_for_in_a_temporary_table[owner]",
    ),
    Guard(
        name="invoicing: the second person is another one (both)",
        protects="Whoever made an adjustment could approve it.",
        taken=[
            Replace("invoicing/adjustments.py", "if adjustment.actor == actor:", "if False:"),
            Sql("ALTER TABLE adjustments DROP CONSTRAINT adjustments_second_person"),
        ],
        noticed_by=f"{_ADJUSTMENTS}::test_an_adjustment_above_the_limit_waits_for_a_second_person",
    ),
    Guard(
        name="invoicing: the second person is another one (Postgres)",
        protects="Code that forgets to compare the two would let an author approve.",
        taken=[Sql("ALTER TABLE adjustments DROP CONSTRAINT adjustments_second_person")],
        noticed_by=f"{_FORGED}[owner-an adjustment that its author approves]",
    ),
    Guard(
        name="invoicing: a held draft stays one (both)",
        protects="What a person stopped would be billed all the same.",
        taken=[
            Replace("invoicing/finalization.py", "if invoice.held_at is not None:", "if False:"),
            Replace(_SCHEMA, "(NEW.held_at IS NOT NULL\n", "(false\n"),
        ],
        noticed_by=f"{_ADJUSTMENTS}::test_a_held_draft_is_not_finalized_until_it_is_released",
    ),
    Guard(
        name="invoicing: a held draft stays one (Postgres)",
        protects="Code that forgets the hold would bill the draft.",
        taken=[Replace(_SCHEMA, "(NEW.held_at IS NOT NULL\n", "(false\n")],
        noticed_by="tests/invoicing/test_guards.py::test_a_held_draft_is_not_made_final[owner]",
    ),
    Guard(
        name="invoicing: a far larger draft is held",
        protects="A wrong price would be billed to everybody before anybody looks.",
        taken=[Replace("invoicing/cycles.py", "AND j.finding IS NOT NULL", "AND false")],
        noticed_by="tests/invoicing/test_cycle.py::test_a_far_larger_draft_than_usual_is_held_for_a_person",
    ),
    Guard(
        name="invoicing: a draft is what the ledger holds",
        protects="An invoice could say something else than the books.",
        taken=[
            Replace(
                "invoicing/finalization.py",
                "if on_draft != in_ledger or adjusted_on_draft != adjusted_in_ledger:",
                "if False:",
            )
        ],
        noticed_by="tests/invoicing/test_cycle.py::test_a_draft_whose_lines_differ_from_the_ledger_is_not_finalized",
    ),
    Guard(
        name="invoicing: no more is credited than a line has",
        protects="A credit on a line could turn it negative.",
        taken=[Replace("invoicing/adjustments.py", "    if amount > left:", "    if False:")],
        noticed_by=f"{_ADJUSTMENTS}::test_no_more_is_credited_than_the_line_has_left",
    ),
    Guard(
        name="invoicing: a period is closed after its grace time",
        protects="Usage that is still under way would come too late for its invoice.",
        taken=[Replace("invoicing/cycles.py", "ended_by = as_of - settings.grace", "ended_by = as_of")],
        noticed_by="tests/invoicing/test_cycle.py::test_a_period_is_closed_only_after_its_grace_time",
    ),
    Guard(
        name="invoicing: a payment is recorded once (both)",
        protects="The same money could settle an invoice twice.",
        taken=[
            Replace(
                "invoicing/payments.py",
                "known = session.get(Payment, (customer_id, provider, external_id))",
                "known = None",
            ),
            Sql("ALTER TABLE payments DROP CONSTRAINT payments_pkey CASCADE"),
        ],
        noticed_by="tests/invoicing/test_payments.py::test_the_same_payment_five_times_is_paid_once",
    ),
    Guard(
        name="invoicing: a payment keeps its amount",
        protects="News of another amount under a known id would be taken for a repetition.",
        taken=[
            Replace(
                "invoicing/payments.py", "if known.amount != amount or known.invoice_id != invoice_id:", "if False:"
            )
        ],
        noticed_by="tests/invoicing/test_payments.py::test_a_known_payment_with_another_amount_is_refused",
    ),
    Guard(
        name="invoicing: what is paid follows from payments",
        protects="An invoice could be called paid without any money.",
        taken=[Sql("DROP TRIGGER money_moved ON invoices")],
        noticed_by="tests/invoicing/test_movement_guards.py::test_an_invoice_is_not_called_paid_without_a_payment",
    ),
    Guard(
        name="invoicing: a credit note is never above its invoice (Postgres)",
        protects="More could be credited than was billed.",
        taken=[Sql("DROP TRIGGER within_the_invoice ON credit_notes")],
        noticed_by=f"{_REFUSED}[owner-a credit note beyond the invoice]",
    ),
    Guard(
        name="invoicing: a refund is never above its payment (Postgres)",
        protects="More could be sent back than came in.",
        taken=[Sql("DROP TRIGGER within_the_payment ON refunds")],
        noticed_by=f"{_REFUSED}[owner-a refund beyond the payment]",
    ),
    Guard(
        name="invoicing: a credit note is never above its invoice (both)",
        protects="More could be credited than was billed.",
        taken=[
            Replace("invoicing/movements/credit_notes.py", "    if amount > possible:", "    if False:"),
            Sql("DROP TRIGGER within_the_invoice ON credit_notes"),
        ],
        noticed_by=f"{_REFUSALS}::test_what_the_invoice_does_not_allow_is_refused_by_name_and_changes_nothing[unpaid-credit_note-100.01--amount_too_large]",
        # What is credited beyond the invoice was paid by nobody, and the code itself falls over it.
        fails_with=("AssertionError", "Failed"),
    ),
    Guard(
        name="invoicing: a refund is never above its payment (both)",
        protects="More could be sent back than came in.",
        taken=[
            Replace("invoicing/movements/refunds.py", "take = min(left, found.refundable)", "take = left"),
            Sql("DROP TRIGGER within_the_payment ON refunds"),
        ],
        noticed_by=f"{_REFUSALS}::test_the_newest_payments_go_back_first_and_never_a_disputed_one",
    ),
    Guard(
        name="invoicing: money that the bank may take is not kept as credit",
        protects="A customer could spend as credit what they got back from their bank.",
        taken=[Replace("invoicing/movements/refunds.py", "    if amount > standing.secure:", "    if False:")],
        noticed_by=f"{_REFUSALS}::test_what_the_invoice_does_not_allow_is_refused_by_name_and_changes_nothing[disputed-credit_note-1-keep-amount_too_large]",
    ),
    Guard(
        name="invoicing: refunds go forward",
        protects="A refund that arrived could be booked as if it had not.",
        taken=[Sql("DROP TRIGGER only_forward ON refunds")],
        noticed_by=f"{_REFUSED}[owner-a refund of another payment]",
    ),
    Guard(
        name="invoicing: disputes go forward",
        protects="A late event could undo what a dispute took.",
        taken=[Sql("DROP TRIGGER only_forward ON disputes")],
        noticed_by=f"{_REFUSED}[owner-a dispute that is open again]",
    ),
    Guard(
        name="invoicing: a movement stays what was asked for",
        protects="The amount could grow between the wish and its approval.",
        taken=[Sql("DROP TRIGGER only_forward ON movements")],
        noticed_by=f"{_REFUSED}[owner-a movement that grew]",
    ),
    Guard(
        name="invoicing: a movement above the limit waits for its approval (Postgres)",
        protects="Code that forgets the approval would move the money.",
        taken=[Sql("ALTER TABLE movements DROP CONSTRAINT movements_approved_first")],
        noticed_by=f"{_REFUSED}[owner-a movement that skips its approval]",
    ),
    Guard(
        name="invoicing: a movement is approved by a second person (both)",
        protects="Whoever asks for a refund could approve it.",
        taken=[
            Replace("invoicing/movements/requests.py", "if movement.actor == actor:", "if False:"),
            Sql("ALTER TABLE movements DROP CONSTRAINT movements_second_person"),
        ],
        noticed_by=f"{_REFUSALS}::test_above_the_limit_nothing_moves_before_a_second_person_agreed[credit note]",
    ),
    Guard(
        name="invoicing: a movement is approved by a second person (Postgres)",
        protects="Code that forgets to compare the two would let an author approve.",
        taken=[Sql("ALTER TABLE movements DROP CONSTRAINT movements_second_person")],
        noticed_by=f"{_REFUSED}[owner-a movement that its author approves]",
    ),
    Guard(
        name="invoicing: one ending at a time",
        protects="An invoice could be made void while a refund of it is under way.",
        taken=[Replace("invoicing/movements/requests.py", "if kind in ENDINGS or other.kind in ENDINGS:", "if False:")],
        noticed_by="tests/api/test_movements.py::test_while_an_ending_is_under_way_nothing_else_begins",
    ),
    Guard(
        name="invoicing: a void that money overtook is refused",
        protects="An invoice would be reversed although it was paid.",
        taken=[
            Replace(
                "invoicing/movements/requests.py",
                'if moved is not None or invoice.state not in ("final", "uncollectible"):',
                "if False:",
            )
        ],
        noticed_by=f"{_REFUSALS}::test_a_void_that_money_overtook_posts_nothing_and_is_a_task",
        # Postgres refuses it all the same, but then nobody is told.
        fails_with=("IntegrityError",),
    ),
)
