"""The guards of plans and early bills: one plan at a time, each fee and each period once."""

from tests.mutations.guard import UNLOCKED_BOOKS, Guard, Replace, Sql, without

_PLANS = "tests/invoicing/test_plans.py"
_GUARDS = "tests/invoicing/test_plan_guards.py"
_EARLY = "tests/invoicing/test_early_bills.py"
_ATTACKED = f"{_PLANS}::test_postgres_refuses_what_would_change_what_was_agreed"
_OWNERS = f"{_GUARDS}::test_not_even_the_owner_changes_what_was_agreed_and_charged"
_FORGOTTEN = f"{_GUARDS}::test_not_even_the_owner_forgets_a_plan"
_CUT = f"{_EARLY}::test_postgres_refuses_a_cut_that_would_lose_a_charge_or_make_a_gap"
_BILLED = "tests/invoicing/test_credit_guards.py::test_not_even_the_owner_changes_what_was_given_bought_or_billed_early"
_CHANGE = f"{_PLANS}::test_no_plan_changes_in_a_closed_period_or_before_the_last_change"
_SUBSCRIPTIONS = "invoicing/subscriptions.py"
_BILLS = "invoicing/early_bills.py"
_NEVER_CHANGED = "plan_phases_changed"
_OWN = f"{UNLOCKED_BOOKS} WHERE customer_id = :id"
_FIRST = "UPDATE {} SET actor = actor"

GUARDS = (
    Guard(
        name="plans: a version never changes (Postgres)",
        protects="Everybody who has a plan would pay another fee than the one they took.",
        taken=[Sql("DROP TRIGGER append_only ON plan_versions")],
        noticed_by=f"{_OWNERS}[another fee]",
    ),
    Guard(
        name="plans: a version never changes (code)",
        protects="A file with another fee would be taken for a repetition, and be lost.",
        taken=[
            Replace(
                "invoicing/plans/catalogue.py",
                "elif (known.fee, known.timing, known.included_usage, known.trial_days) != (",
                "elif () > (",
            )
        ],
        noticed_by=f"{_PLANS}::test_a_version_never_changes_and_a_file_can_be_loaded_again",
    ),
    Guard(
        name="plans: one at a time",
        protects="A customer would pay the fees of two plans.",
        taken=[Sql("ALTER TABLE plan_phases DROP CONSTRAINT plan_phases_one_at_a_time")],
        noticed_by=f"{_ATTACKED}[two plans at once]",
    ),
    Guard(
        name="plans: a plan is in the customer's currency",
        protects="A fee in euros would be billed in dollars.",
        taken=[without(_NEVER_CHANGED, "AND v.currency = b.currency", "")],
        noticed_by=f"{_GUARDS}::test_no_plan_in_another_currency_than_the_customers",
    ),
    Guard(
        name="plans: what a customer had never changes",
        protects="What was charged would belong to another plan or time.",
        taken=[without(_NEVER_CHANGED, "IF TG_OP = 'UPDATE' AND", "IF TG_OP = 'UPDATE' AND false AND")],
        noticed_by=f"{_OWNERS}[another start]",
    ),
    Guard(
        name="plans: a fee is charged once",
        protects="What was charged already would be due again.",
        taken=[without(_NEVER_CHANGED, "OR NEW.term_end < OLD.term_end", "")],
        noticed_by=f"{_OWNERS}[charged before]",
    ),
    Guard(
        name="plans: what was charged stays charged",
        protects="A phase that forgets its term would be charged from its beginning again.",
        taken=[without(_NEVER_CHANGED, "OR (OLD.term_end IS NOT NULL AND NEW.term_end IS NULL)", "")],
        noticed_by=f"{_OWNERS}[never charged]",
    ),
    Guard(
        name="plans: what was withdrawn stays withdrawn",
        protects="A plan that a customer put away would charge after all.",
        taken=[without(_NEVER_CHANGED, "OR (OLD.withdrawn_at IS NOT NULL)", "")],
        noticed_by=f"{_GUARDS}::test_what_was_withdrawn_does_not_come_back",
    ),
    Guard(
        name="plans: no more is earned than was charged",
        protects="Income would be shown that nobody paid for.",
        taken=[Sql("ALTER TABLE plan_phases DROP CONSTRAINT plan_phases_deferred_check")],
        noticed_by=f"{_OWNERS}[more earned than charged]",
    ),
    Guard(
        name="plans: what a customer had is kept",
        protects="Fees would stand in the books of plans that nobody knows.",
        taken=[Sql("DROP TRIGGER kept ON plan_phases")],
        noticed_by=f"{_FORGOTTEN}[DELETE FROM {{}}-plan_phases]",  # noqa: S608 - a test's name
    ),
    Guard(
        name="plans: no fee after the end",
        protects="A customer who left would be charged every month.",
        taken=[
            Replace(
                "invoicing/plans/fees.py",
                "if self.phase.ends_at is not None and self.phase.ends_at <= start:",
                "if False:",
            )
        ],
        noticed_by=f"{_GUARDS}::test_who_left_and_takes_another_plan_later_owes_nothing_of_the_first",
    ),
    Guard(
        name="plans: a trial is given once",
        protects="A customer who leaves and comes back would never pay.",
        taken=[Replace(_SUBSCRIPTIONS, "timedelta(0) if had else timedelta(", "timedelta(")],
        noticed_by=f"{_PLANS}::test_a_trial_costs_nothing_and_is_given_once",
    ),
    Guard(
        name="plans: the same plan again changes nothing",
        protects="A second click would end the plan and begin it anew: with a second trial, or another fee.",
        taken=[Replace(_SUBSCRIPTIONS, "if current is not None and current.plan_version_id == terms.id:", "if False:")],
        noticed_by=f"{_GUARDS}::test_the_same_plan_again_is_charged_once",
    ),
    Guard(
        name="plans: whoever changes a plan holds the books",
        protects="Two who take a plan at once would not see each other.",
        taken=[
            Replace(
                _SUBSCRIPTIONS,
                "self.books = lock_books(session, [customer_id])[customer_id]\n"
                "        renew(session, customer_ids=[customer_id], now=now, actor=actor)\n",
                f"self.books = LockedBooks(*session.execute(text({_OWN!r}), {{'id': customer_id}}).one())\n",
            )
        ],
        noticed_by=f"{_GUARDS}::test_of_two_who_take_a_plan_at_once_the_second_finds_it_taken",
    ),
    Guard(
        name="plans: no change in a closed period",
        protects="A fee would be charged for a period whose invoice is made.",
        taken=[Replace(_SUBSCRIPTIONS, "if closed is not None or self.now not in self.month:", "if False:")],
        noticed_by=_CHANGE,
    ),
    Guard(
        name="plans: no change before the last one",
        protects="A plan would begin in the time of the one that followed it.",
        taken=[Replace(_SUBSCRIPTIONS, "if later or (charged", "if (charged")],
        noticed_by=_CHANGE,
        # Postgres refuses two plans at once all the same, but nobody is told what to do.
        fails_with=("AssertionError", "Failed", "IntegrityError"),
    ),
    Guard(
        name="plans: no change before what was charged",
        protects="More would be given back than was charged.",
        taken=[Replace(_SUBSCRIPTIONS, "if later or (charged is not None and self.at < charged):", "if later:")],
        noticed_by=f"{_GUARDS}::test_a_plan_does_not_change_before_the_time_that_was_charged",
        # Postgres keeps what is deferred from falling below zero, but nobody is told what to do.
        fails_with=("AssertionError", "Failed", "IntegrityError"),
    ),
    Guard(
        name="plans: a customer sees its own plan alone",
        protects="Customers would read what others pay.",
        taken=[Sql("ALTER TABLE plan_phases DISABLE ROW LEVEL SECURITY")],
        noticed_by="tests/panel/test_walls.py::test_every_table_and_view_shows_one_customer_and_nobody_else",
    ),
    Guard(
        name="early bills: a period is cut once, as it closes",
        protects="A period could end elsewhere than its calendar says, and leave a gap.",
        taken=[Sql("DROP TRIGGER closes_once ON ledger_periods")],
        noticed_by=f"{_CUT}[longer]",
    ),
    Guard(
        name="early bills: a cut keeps every charge",
        protects="A charge would lie after the end of its period, and be on no invoice.",
        taken=[Sql("DROP TRIGGER keeps_its_charges ON ledger_periods")],
        noticed_by=f"{_CUT}[before a charge]",
    ),
    Guard(
        name="early bills: what was billed early never changes",
        protects="The remainder of a period would count its tiers from elsewhere.",
        taken=[Sql("DROP TRIGGER append_only ON early_bills")],
        noticed_by=f"{_BILLED}[{_FIRST}-early_bills]",
    ),
    Guard(
        name="early bills: a threshold never changes",
        protects="Nobody would know why a customer was billed.",
        taken=[Sql("DROP TRIGGER append_only ON spending_thresholds")],
        noticed_by=f"{_BILLED}[{_FIRST}-spending_thresholds]",
    ),
    Guard(
        name="early bills: a second click gets the first bill",
        protects="A customer would get a bill for each click.",
        taken=[Replace(_BILLS, "if period_start is not None and period_start != current:", "if False:")],
        noticed_by=f"{_EARLY}::test_a_double_click_makes_one_bill",
    ),
    Guard(
        name="early bills: whoever bills holds the books",
        protects="Two who bill at once would each cut a period.",
        taken=[
            Replace(
                _BILLS,
                "    lock_books(session, [customer_id])\n    current = session.scalar(",
                "    current = session.scalar(",
            )
        ],
        noticed_by=f"{_EARLY}::test_who_asks_while_it_is_being_billed_gets_that_bill",
    ),
    Guard(
        name="early bills: nothing is no bill",
        protects="A bill of nothing, or of less, would end the period.",
        taken=[
            Replace(
                _BILLS,
                "if current is None or unbilled_total(session, customer_id=customer_id, period_start=current) <= 0:",
                "if current is None:",
            )
        ],
        noticed_by=f"{_EARLY}::test_nothing_used_and_what_was_taken_back_are_no_bill",
        # The period is cut all the same, and no draft follows.
        fails_with=("AssertionError", "Failed", "CannotBillNow"),
    ),
    Guard(
        name="early bills: the remainder keeps its rating start",
        protects="A month that is cut twice would give its allowances again.",
        taken=[Replace(_BILLS, "rating_start=rating_start,", "rating_start=closed.start,")],
        noticed_by=f"{_EARLY}::test_a_month_cut_twice_counts_its_allowances_from_the_month_s_start",
    ),
    Guard(
        name="early bills: a threshold is reached, or nobody is billed",
        protects="Customers would be billed for every cent.",
        taken=[Replace(_BILLS, "WHERE u.total >= t.amount", "WHERE u.total > 0")],
        noticed_by=f"{_EARLY}::test_who_reaches_the_threshold_is_billed_and_nobody_else",
    ),
)
