"""The guards of rating: each unit counted once, in its own period, by one at a time."""

from tests.mutations.guard import UNLOCKED_BOOKS, Guard, Replace, Sql, without

_GUARDS = "tests/rating/test_counter_guards.py"
_RATING = "tests/rating/test_rating.py"
_ENTRIES = f"{_GUARDS}::test_a_counter_changes_only_with_entries"
_BEGAN = f"{_GUARDS}::test_a_counter_counts_what_it_began_with_even_beside_entries"
_POSTING = "invoicing/rating/posting.py"
_SAME = f"{_RATING}::test_the_same_batch_again_counts_nothing_twice"
_OLD = f"{_RATING}::test_a_session_that_sees_an_old_moment_fails_instead_of_counting_from_there"

GUARDS = (
    Guard(
        name="rating: a price's counter only moves with entries",
        protects="A customer would begin again in the first tier, or be pushed into the last.",
        taken=[Sql("DROP TRIGGER follows_entries_on ON rating_counters")],
        noticed_by=f"{_ENTRIES}[UPDATE rating_counters SET amount = 0]",  # noqa: S608 - a test's name
    ),
    Guard(
        name="rating: a price's counter begins with entries",
        protects="What nobody used would be counted, and push what is used into the last tier.",
        taken=[Sql("DROP TRIGGER follows_entries ON rating_counters")],
        noticed_by=f"{_GUARDS}::test_a_counter_that_begins_has_entries[a price's]",
    ),
    Guard(
        name="rating: an item's counter only moves with entries",
        protects="An allowance would grow or shrink without any use.",
        taken=[Sql("DROP TRIGGER follows_entries_on ON rated_quantities")],
        noticed_by=f"{_ENTRIES}[UPDATE rated_quantities SET quantity = 0]",  # noqa: S608 - a test's name
    ),
    Guard(
        name="rating: an item's counter begins with entries",
        protects="An allowance would be given for what nobody used.",
        taken=[Sql("DROP TRIGGER follows_entries ON rated_quantities")],
        noticed_by=f"{_GUARDS}::test_a_counter_that_begins_has_entries[an item's]",
    ),
    Guard(
        name="rating: a plan's counter only moves with entries",
        protects="A plan would give back usage again that it gave back already.",
        taken=[Sql("DROP TRIGGER follows_entries_on ON usage_charges")],
        noticed_by=f"{_ENTRIES}[UPDATE usage_charges SET amount = 100]",  # noqa: S608 - a test's name
    ),
    Guard(
        name="rating: a plan's counter begins with nothing given back",
        protects="A plan would count as used up what it never gave.",
        taken=[Sql("DROP TRIGGER follows_entries ON usage_charges")],
        noticed_by=f"{_GUARDS}::test_a_counter_that_begins_has_entries[a plan's]",
    ),
    Guard(
        name="rating: a price's counter stays in its period",
        protects="What was used in one period would count in another.",
        taken=[Sql("DROP TRIGGER stays ON rating_counters")],
        noticed_by=f"{_BEGAN}[a price's]",
    ),
    Guard(
        name="rating: an item's counter stays the item's",
        protects="The use of one item would earn the allowance of another.",
        taken=[Sql("DROP TRIGGER stays ON rated_quantities")],
        noticed_by=f"{_BEGAN}[an item's]",
    ),
    Guard(
        name="rating: a plan's counter stays in its period",
        protects="What a plan includes in one month would be given in another.",
        taken=[Sql("DROP TRIGGER stays ON usage_charges")],
        noticed_by=f"{_BEGAN}[a plan's]",
    ),
    Guard(
        name="rating: counters are kept",
        protects="Tiers and allowances would be counted anew in the middle of a period.",
        taken=[Sql("DROP TRIGGER kept ON rating_counters")],
        noticed_by=f"{_ENTRIES}[DELETE FROM rating_counters]",  # noqa: S608 - a test's name
    ),
    Guard(
        name="rating: what a plan gave back is kept",
        protects="What a plan includes would be given twice.",
        taken=[Sql("DROP TRIGGER kept ON usage_charges")],
        noticed_by=f"{_ENTRIES}[DELETE FROM usage_charges]",  # noqa: S608 - a test's name
    ),
    Guard(
        name="rating: a plan gives back what it includes and no more",
        protects="The credit of a plan would be something else than its usage and its terms say.",
        taken=[Sql("ALTER TABLE usage_charges DROP CONSTRAINT usage_charges_credit_follows_usage")],
        noticed_by=f"{_ENTRIES}[UPDATE usage_charges SET included = 3]",  # noqa: S608 - a test's name
    ),
    Guard(
        name="rating: who counts holds the books",
        protects="Two batches at once would both begin in the same tier.",
        taken=[
            Replace(
                _POSTING,
                "books = lock_books(session, {event.customer_id for event in events})",
                "from ledger.books import LockedBooks\n"
                f"    unlocked = session.connection().exec_driver_sql({UNLOCKED_BOOKS!r})\n"
                "    books = {row[0]: LockedBooks(*row) for row in unlocked}",
            )
        ],
        noticed_by=f"{_GUARDS}::test_who_posts_meanwhile_goes_on_from_where_the_other_was",
    ),
    Guard(
        name="rating: who counts nothing holds the books",
        protects="Usage that arrives while a plan begins would not be given back.",
        taken=[without("rating_lock", "ORDER BY b.customer_id FOR NO KEY UPDATE", "ORDER BY b.customer_id")],
        noticed_by=f"{_GUARDS}::test_what_is_used_while_a_plan_begins_is_counted",
    ),
    Guard(
        name="rating: flat usage of a plan's customer is counted",
        protects="What a plan includes would not be given back of what has one price per unit.",
        taken=[
            without(
                "rating_lock",
                "RETURN EXISTS (SELECT FROM public.usage_charges c WHERE c.customer_id = ANY (customers));",
                "RETURN false;",
            )
        ],
        noticed_by=f"{_RATING}::test_a_plan_gives_usage_back_until_what_it_includes_is_used_up",
    ),
    Guard(
        name="rating: an old view of the counters fails",
        protects="A transaction that sees an old moment would count from there.",
        taken=[
            Replace(
                _POSTING, "        session.connection().exec_driver_sql(_TOUCH, (customer_id,))\n", "        pass\n"
            )
        ],
        noticed_by=_OLD,
    ),
    Guard(
        name="rating: known events are sifted out",
        protects="The same usage, sent again, would push the next into a higher tier.",
        taken=[Replace(_POSTING, "_sift(events, _known_digests(session, events))", "_sift(events, {})")],
        noticed_by=_SAME,
        # The ledger knows the ids, and what they would cost now is not what they cost.
        fails_with=("AssertionError", "Failed", "EntryConflict"),
    ),
    Guard(
        name="rating: an event twice in a batch counts once",
        protects="The same usage, twice in one batch, would be charged twice.",
        taken=[Replace(_POSTING, "            known[key] = event.digest\n")],
        noticed_by=_SAME,
        fails_with=("AssertionError", "Failed", "EntryConflict"),
    ),
    Guard(
        name="rating: another amount under a known id is refused",
        protects="What was changed at the source would be taken for a repetition, and be lost.",
        taken=[Replace(_POSTING, "elif before != event.digest:", "elif False:")],
        noticed_by=f"{_RATING}::test_every_bad_row_is_named_and_nothing_is_written_or_counted",
    ),
    Guard(
        name="rating: what a plan gave back is given once",
        protects="Each charge would be given back from the first unit on, over and over.",
        taken=[
            Replace(
                "invoicing/rating/counters.py",
                "difference = EXACT.subtract(due, self.credited)",
                "difference = due",
            )
        ],
        noticed_by=f"{_RATING}::test_a_plan_gives_usage_back_until_what_it_includes_is_used_up",
    ),
    Guard(
        name="rating: of two who change a plan one looks again",
        protects="What somebody else changed a moment before would be changed back unseen.",
        taken=[
            Replace(
                _POSTING,
                "if scope not in counters.begun and included_before != charges.included != included_after:",
                "if False:",
            )
        ],
        noticed_by=f"{_GUARDS}::test_of_two_who_change_what_a_plan_includes_one_looks_again",
    ),
    Guard(
        name="rating: what is left after a cut counts on",
        protects="Billing early would give tiers and allowances a second time.",
        taken=[
            Sql(
                "CREATE OR REPLACE FUNCTION rating_start(customer uuid, period_start timestamptz) RETURNS timestamptz "
                "LANGUAGE sql STABLE AS 'SELECT $2'"
            )
        ],
        noticed_by=f"{_RATING}::test_what_is_left_after_an_early_bill_goes_on_in_the_same_tiers",
    ),
)
