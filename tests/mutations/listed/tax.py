"""The guards of tax: one rate at a time, sums that are ours, and never more given back than was taken."""

from tests.mutations.guard import Guard, Replace, Sql, without

_TAX = "tests/invoicing/test_tax.py"
_RATES = "tests/invoicing/test_tax_rates.py"
_ENGINES = "tests/invoicing/test_tax_engines.py"
_WRONG = f"{_TAX}::test_postgres_refuses_what_would_make_tax_wrong"
_OWNERS = f"{_TAX}::test_not_even_the_owner_changes_what_an_invoice_was_taxed_with"
_SUMS = f"{_TAX}::test_an_invoice_whose_sums_do_not_fit_its_taxes_never_becomes_final"
_ENGINE = f"{_ENGINES}::test_an_answer_that_does_not_add_up_makes_no_invoice"
_REFUSED = f"{_RATES}::test_a_profile_that_is_wrong_is_refused_by_field"

GUARDS = (
    Guard(
        name="tax: one rate at a time (both)",
        protects="A line would bear the same tax twice.",
        taken=[
            Replace(
                "invoicing/tax/rates.py",
                "if earlier.valid_until is None or earlier.valid_until > later.valid_from:",
                "if False:",
            ),
            Sql("ALTER TABLE tax_rates DROP CONSTRAINT tax_rates_do_not_overlap"),
        ],
        noticed_by=f"{_RATES}::test_a_new_percentage_is_a_new_rate_and_ends_the_one_before",
    ),
    Guard(
        name="tax: one rate at a time (Postgres)",
        protects="Code that forgets to look would take the same tax twice.",
        taken=[Sql("ALTER TABLE tax_rates DROP CONSTRAINT tax_rates_do_not_overlap")],
        noticed_by=f"{_WRONG}[two rates at once]",
    ),
    Guard(
        name="tax: a rate is a percentage",
        protects="An invoice would bear more tax than it costs.",
        taken=[Sql("ALTER TABLE tax_rates DROP CONSTRAINT tax_rates_are_percentages")],
        noticed_by=f"{_WRONG}[more than everything]",
    ),
    Guard(
        name="tax: a rate is somebody's",
        protects="Tax would be owed to no office.",
        taken=[Sql("ALTER TABLE tax_rates DROP CONSTRAINT tax_rates_have_a_jurisdiction")],
        noticed_by=f"{_WRONG}[a rate of nowhere]",
    ),
    Guard(
        name="tax: a rate never changes (code)",
        protects="A file with a slip would be taken for a repetition, and its rate be lost.",
        taken=[Replace("invoicing/tax/rates.py", "if rate.percent != terms.percent:", "if False:")],
        noticed_by=f"{_RATES}::test_a_rate_never_changes_its_percentage_or_its_end",
    ),
    Guard(
        name="tax: a rate never changes (Postgres)",
        protects="What invoices were taxed with would be explained by another percentage.",
        taken=[Sql("DROP TRIGGER only_forward ON tax_rates")],
        noticed_by=f"{_WRONG}[another percentage]",
    ),
    Guard(
        name="tax: a rate does not end before its invoices",
        protects="An invoice would be taxed with a rate that was not valid.",
        taken=[without("tax_rates_changed", "AND i.period_end > NEW.valid_until", "AND false")],
        noticed_by=f"{_WRONG}[ended too early]",
    ),
    Guard(
        name="tax: rates are kept",
        protects="What invoices were taxed with could not be explained.",
        taken=[Sql("DROP TRIGGER kept ON tax_rates")],
        noticed_by=f"{_OWNERS}[DELETE FROM tax_rates]",  # noqa: S608 - a test's name
    ),
    Guard(
        name="tax: profiles never change",
        protects="Why a customer was taxed, or not, could be changed after the fact.",
        taken=[Sql("DROP TRIGGER append_only ON tax_profiles")],
        noticed_by=f"{_OWNERS}[UPDATE tax_profiles SET country = 'FR']",  # noqa: S608 - a test's name
    ),
    Guard(
        name="tax: the taxes of an invoice never change",
        protects="What is owed to a tax office would be something else than the customer's invoice says.",
        taken=[Sql("DROP TRIGGER append_only ON invoice_taxes")],
        noticed_by=f"{_OWNERS}[UPDATE invoice_taxes SET amount = 0]",  # noqa: S608 - a test's name
    ),
    Guard(
        name="tax: each line's share never changes",
        protects="A credit note on a line would give back another tax than the line bore.",
        taken=[Sql("DROP TRIGGER append_only ON invoice_line_taxes")],
        noticed_by=f"{_OWNERS}[UPDATE invoice_line_taxes SET amount = 0]",  # noqa: S608 - a test's name
    ),
    Guard(
        name="tax: what a credit note gave back never changes",
        protects="Tax that was given back could be given back again.",
        taken=[Sql("DROP TRIGGER append_only ON credit_note_taxes")],
        noticed_by=f"{_OWNERS}[DELETE FROM credit_note_taxes]",  # noqa: S608 - a test's name
    ),
    Guard(
        name="tax: no profile begins in a closed period (both)",
        protects="A period that is on its way to the customer would be taxed otherwise than its draft said.",
        taken=[
            Replace("invoicing/tax/profiles.py", "if closed_until is not None and begins < closed_until:", "if False:"),
            Sql("DROP TRIGGER in_open_periods ON tax_profiles"),
        ],
        noticed_by=f"{_RATES}::test_a_profile_never_begins_in_a_closed_period",
    ),
    Guard(
        name="tax: no profile begins in a closed period (Postgres)",
        protects="Code that forgets to look would tax a closed period otherwise.",
        taken=[Sql("DROP TRIGGER in_open_periods ON tax_profiles")],
        noticed_by=f"{_WRONG}[a closed period]",
    ),
    Guard(
        name="tax: a profile waits for the close",
        protects="A profile could slip into a period that is being closed.",
        taken=[
            Replace(
                "invoicing/tax/profiles.py",
                "    lock_books(session, [customer_id])\n    wanted, problems",
                "    wanted, problems",
            )
        ],
        noticed_by=(
            "tests/invoicing/test_early_bills.py::test_a_tax_profile_does_not_slip_into_a_period_that_is_being_closed"
        ),
    ),
    Guard(
        name="tax: a tax id is one (both)",
        protects="A business would be billed without tax under a number that nobody gave it.",
        taken=[
            Replace(
                "invoicing/tax/ids.py",
                "if not re.fullmatch(FORMS[tax_id_type], normal) or not _adds_up(tax_id_type, normal):",
                "if False:",
            ),
            Sql("ALTER TABLE tax_profiles DROP CONSTRAINT tax_profiles_tax_id_form"),
        ],
        noticed_by=f"{_REFUSED}[DE-details2-bad_tax_id]",
    ),
    Guard(
        name="tax: a tax id is one (Postgres)",
        protects="Code that forgets to look would keep any text as a tax id.",
        taken=[Sql("ALTER TABLE tax_profiles DROP CONSTRAINT tax_profiles_tax_id_form")],
        noticed_by=f"{_WRONG}[half a tax id]",
    ),
    Guard(
        name="tax: who is not taxed is told why",
        protects="An invoice without tax would not say what the law wants it to say.",
        taken=[Sql("ALTER TABLE tax_profiles DROP CONSTRAINT tax_profiles_say_why_untaxed")],
        noticed_by=f"{_WRONG}[exempt, and nobody says why]",
    ),
    Guard(
        name="tax: reverse charge wants a number of the union",
        protects="We would owe the tax that an invoice says somebody else owes.",
        taken=[Sql("ALTER TABLE tax_profiles DROP CONSTRAINT tax_profiles_reverse_charge")],
        noticed_by=f"{_WRONG}[reverse charge without a number]",
    ),
    Guard(
        name="tax: a period is taxed by its last instant",
        protects="June would be taxed by the rates of July.",
        taken=[Replace("invoicing/settling.py", "at=invoice.period_end - LAST_INSTANT,", "at=invoice.period_end,")],
        noticed_by=f"{_TAX}::test_a_period_is_taxed_by_what_is_valid_in_its_last_instant",
    ),
    Guard(
        name="tax: lines and taxes make the total",
        protects="A customer would owe tax that stands nowhere, or not owe what does.",
        taken=[Sql("DROP TRIGGER tax_adds_up ON invoices")],
        noticed_by=f"{_SUMS}[no tax]",
    ),
    Guard(
        name="tax: the lines' shares make each tax",
        protects="Credit notes line by line would give back more tax than there was, or less.",
        taken=[
            without(
                "invoices_tax_adds_up",
                "HAVING coalesce(sum(l.taxable), 0) <> t.taxable OR coalesce(sum(l.amount), 0) <> t.amount",
                "HAVING false",
            )
        ],
        noticed_by=f"{_SUMS}[less on the lines]",
    ),
    Guard(
        name="tax: an invoice's tax is written once",
        protects="The tax of a final invoice could change after it was sent.",
        taken=[Sql("DROP TRIGGER tax_written_once ON invoices")],
        noticed_by=f"{_WRONG}[another tax]",
    ),
    Guard(
        name="tax: a final invoice takes no tax",
        protects="A tax could be added to an invoice that a customer has in hand.",
        taken=[Sql("DROP TRIGGER only_into_drafts ON invoice_taxes")],
        noticed_by=f"{_WRONG}[a tax added]",
    ),
    Guard(
        name="tax: no more is given back than was taken",
        protects="Credit notes would give back more tax than the invoice had.",
        taken=[Sql("DROP TRIGGER within_the_invoice ON credit_note_taxes")],
        noticed_by=f"{_TAX}::test_postgres_lets_no_credit_note_give_back_more_tax_than_there_is[more than is left]",
    ),
    Guard(
        name="tax: what notes gave back before counts",
        protects="Each partial credit note would give back the whole tax so far.",
        taken=[
            Replace("invoicing/tax/credits.py", "part = target - before.get(tax.id, Decimal(0))", "part = target"),
            Sql("DROP TRIGGER within_the_invoice ON credit_note_taxes"),
        ],
        noticed_by=f"{_TAX}::test_partial_credit_notes_together_give_back_exactly_the_tax",
    ),
    Guard(
        name="tax: an engine answers in whole minor units",
        protects="An invoice would owe a third of a cent.",
        taken=[
            Replace(
                "invoicing/tax/engine.py",
                "if any(amount % unit for amount in (tax.amount, *tax.shares.values())):",
                "if False:",
            )
        ],
        noticed_by=f"{_ENGINE}[a third of a cent]",
    ),
    Guard(
        name="tax: an engine's shares add up",
        protects="The lines would say another tax than the invoice.",
        taken=[
            Replace(
                "invoicing/tax/engine.py",
                "if sum(tax.shares.values(), Decimal(0)) != tax.amount:",
                "if False:",
            )
        ],
        noticed_by=f"{_ENGINE}[shares that do not add up]",
        # Postgres refuses it all the same, but says only that the sums differ.
        fails_with=("AssertionError", "Failed", "IntegrityError"),
    ),
    Guard(
        name="tax: an engine taxes the lines that are there",
        protects="A tax would be inside of a price that has none, or of a line of nobody's.",
        taken=[Replace("invoicing/tax/engine.py", "        if strange:", "        if False:")],
        noticed_by=f"{_ENGINE}[inside a price without tax]",
    ),
    Guard(
        name="tax: no more taxes than an invoice can carry",
        protects="An invoice would be final here that cannot stand at Stripe.",
        taken=[Replace("invoicing/tax/engine.py", "if len(applied) > MAX_RATES:", "if False:")],
        noticed_by=f"{_ENGINES}::test_more_taxes_than_an_invoice_can_carry_are_refused_before_it_is_final",
    ),
    Guard(
        name="tax: an order's taxes are in its amount due",
        protects="Stripe would collect another amount than the invoice says.",
        taken=[Replace("stripe_gateway/bodies.py", "    if total != due:", "    if False:")],
        noticed_by="tests/gateway/test_taxes.py::test_an_order_whose_tax_is_not_in_its_amount_due_is_refused",
    ),
    Guard(
        name="tax: a customer sees its own taxes alone",
        protects="Customers would read where others are taxed.",
        taken=[Sql("ALTER TABLE tax_profiles DISABLE ROW LEVEL SECURITY")],
        noticed_by="tests/panel/test_walls.py::test_every_table_and_view_shows_one_customer_and_nobody_else",
    ),
)
