"""The guards of the price book: what was agreed stays, and what changes it is seen by two."""

from tests.mutations.guard import Guard, Replace, Sql, without

_GUARDS = "tests/prices/test_guards.py"
_KEPT = f"{_GUARDS}::test_nothing_of_the_book_is_changed_or_removed"
_WRONG = f"{_GUARDS}::test_a_wrong_price_is_refused"
_VERSIONS = f"{_GUARDS}::test_versions_follow_one_another_without_gap_or_overlap"
_SECOND = f"{_GUARDS}::test_what_changes_prices_needs_a_published_change_by_a_second_person"
_PERCENT = f"{_GUARDS}::test_a_discount_is_above_0_and_at_most_100_percent"
_CHANGES = "tests/prices/test_changes.py"
_RATED = "tests/prices/test_rated_guards.py"
_ENDINGS = "tests/prices/test_endings.py"
_TARIFF = "tests/prices/test_tariff.py"
_EDITED = "UPDATE {} SET {} = {}"
_PUBLISHED = "prices_published"

GUARDS = (
    Guard(
        name="prices: a published price never changes",
        protects="What was rated would have another price than the one that it was rated at.",
        taken=[Sql("DROP TRIGGER append_only ON prices")],
        noticed_by=f"{_KEPT}[prices-DELETE FROM {{}}]",  # noqa: S608 - a test's name
    ),
    Guard(
        name="prices: tiers never change",
        protects="A price would be another one although its row is the same.",
        taken=[Sql("DROP TRIGGER append_only ON price_tiers")],
        noticed_by=f"{_KEPT}[price_tiers-{_EDITED}]",
    ),
    Guard(
        name="prices: a published price takes no more tiers",
        protects="A price could be made another one by a tier that comes after it.",
        taken=[Sql("DROP TRIGGER before_their_price ON price_tiers")],
        noticed_by=f"{_GUARDS}::test_a_published_price_takes_no_more_tiers",
    ),
    Guard(
        name="prices: discounts never change",
        protects="What was taken off an invoice would follow from nothing.",
        taken=[Sql("DROP TRIGGER append_only ON discounts")],
        noticed_by=f"{_KEPT}[discounts-{_EDITED}]",
    ),
    Guard(
        name="prices: which list was agreed never changes",
        protects="A customer would be rated by a list that nobody agreed on.",
        taken=[Sql("DROP TRIGGER append_only ON customer_price_lists")],
        noticed_by=f"{_KEPT}[customer_price_lists-{_EDITED}]",
    ),
    Guard(
        name="prices: a region stays in its zone",
        protects="Late usage would be rated by another zone's price than the rest of its period.",
        taken=[Sql("DROP TRIGGER append_only ON region_zones")],
        noticed_by=f"{_KEPT}[region_zones-{_EDITED}]",
    ),
    Guard(
        name="prices: a name is a region or a zone",
        protects="A price of a zone would be taken for one of a region of the same name.",
        taken=[Sql("DROP TRIGGER one_or_the_other ON region_zones")],
        noticed_by=f"{_GUARDS}::test_a_name_is_a_region_or_a_zone",
    ),
    Guard(
        name="prices: a draft is published as it was compared",
        protects="What a second person agreed to could be changed before it holds.",
        taken=[Sql("DROP TRIGGER only_forward ON price_changes")],
        noticed_by=f"{_KEPT}[price_changes-{_EDITED}]",
    ),
    Guard(
        name="prices: a change starts as a draft",
        protects="A change could be born published, past the second person.",
        taken=[Sql("DROP TRIGGER starts_as_draft ON price_changes")],
        noticed_by=_SECOND,
    ),
    Guard(
        name="prices: no gap and no overlap after the version before",
        protects="Two prices would hold at once, or none.",
        taken=[
            without(
                _PUBLISHED,
                "IF neighbour.valid_until IS NOT NULL AND neighbour.valid_until <> NEW.valid_from",
                "IF false",
            )
        ],
        noticed_by=_VERSIONS,
    ),
    Guard(
        name="prices: no gap and no overlap before the version after",
        protects="Two prices would hold at once, or none.",
        taken=[without(_PUBLISHED, "NEW.valid_until <> neighbour.valid_from", "false")],
        noticed_by=_VERSIONS,
    ),
    Guard(
        name="prices: two who publish at once see each other",
        protects="Neither would see the other's version, and both would hold at once.",
        taken=[without(_PUBLISHED, "PERFORM pg_advisory_xact_lock(7074692024);")],
        noticed_by=f"{_GUARDS}::test_of_two_first_prices_published_at_once_one_is_refused",
    ),
    Guard(
        name="prices: whoever rates holds the book",
        protects="Usage would be rated by a price that was replaced a moment before.",
        taken=[without("price_book", "PERFORM pg_advisory_xact_lock_shared(7074692024);")],
        noticed_by=f"{_CHANGES}::test_who_rates_keeps_others_from_publishing_until_the_entries_are_in",
    ),
    Guard(
        name="prices: a second person publishes what changes them (both)",
        protects="One person alone could change what everybody pays.",
        taken=[
            Replace("invoicing/prices/changes.py", "if change.created_by == actor:", "if False:"),
            Sql("ALTER TABLE price_changes DROP CONSTRAINT price_changes_second_person"),
        ],
        noticed_by=(f"{_CHANGES}::test_first_prices_are_published_at_once_and_what_changes_them_by_a_second_person"),
    ),
    Guard(
        name="prices: a second person publishes what changes them (Postgres)",
        protects="Code that forgets to compare the two would let an author publish.",
        taken=[Sql("ALTER TABLE price_changes DROP CONSTRAINT price_changes_second_person")],
        noticed_by=_SECOND,
    ),
    Guard(
        name="prices: no new version without a published change",
        protects="A row that is written past the drafts would change what everybody pays.",
        taken=[without(_PUBLISHED, "AND p.created_at <> NEW.created_at", "AND false")],
        noticed_by=_SECOND,
    ),
    Guard(
        name="prices: what was withdrawn is not published",
        protects="A change that somebody put away would hold all the same.",
        taken=[
            Replace("invoicing/prices/changes.py", 'if change.state != "drafted":', "if False:"),
            Sql("DROP TRIGGER only_forward ON price_changes"),
        ],
        noticed_by=f"{_CHANGES}::test_a_draft_is_written_once_and_can_be_drafted_anew_after_it_was_withdrawn",
    ),
    Guard(
        name="prices: none begins where usage is rated already (both)",
        protects="Of a period's usage one part would have one price, and the rest another, by when it arrived.",
        taken=[
            Replace("invoicing/prices/publishing.py", "            if rated is not None:", "            if False:"),
            Sql("DROP TRIGGER rates_nothing_again ON prices"),
        ],
        noticed_by=f"{_CHANGES}::test_a_price_never_begins_where_usage_was_rated_by_the_one_it_replaces",
    ),
    Guard(
        name="prices: none begins where usage is rated already (Postgres)",
        protects="Code that forgets to look would let two prices rate one period's usage.",
        taken=[Sql("DROP TRIGGER rates_nothing_again ON prices")],
        noticed_by=f"{_RATED}::test_a_price_that_would_have_rated_what_is_rated_is_refused[another public price]",
    ),
    Guard(
        name="prices: no agreement begins where usage is rated already (both)",
        protects="A discount would hold for some of a period's usage, by when it arrived.",
        taken=[
            Replace("invoicing/prices/agreements.py", "    if rated is not None:", "    if False:"),
            Sql("DROP TRIGGER rates_nothing_again ON discounts"),
        ],
        noticed_by=f"{_CHANGES}::test_a_discount_that_cannot_be_is_refused_with_its_cure[rated]",
    ),
    Guard(
        name="prices: no agreement begins where usage is rated already (Postgres)",
        protects="Code that forgets to look would give a discount on some of a period's usage.",
        taken=[Sql("DROP TRIGGER rates_nothing_again ON discounts")],
        noticed_by=f"{_RATED}::test_a_list_and_a_discount_begin_after_what_is_rated",
    ),
    Guard(
        name="prices: no region joins a zone where usage is rated already",
        protects="What a region used would have a zone's price for a part of its period.",
        taken=[Sql("DROP TRIGGER rates_nothing_again ON region_zones")],
        noticed_by=f"{_RATED}::test_a_region_joins_no_zone_whose_prices_would_have_rated_its_usage",
    ),
    Guard(
        name="prices: an end comes after what was rated",
        protects="A discount would be gone from usage that it was given on.",
        taken=[Sql("DROP TRIGGER after_what_was_rated ON discount_ends")],
        noticed_by=(
            f"{_ENDINGS}::test_postgres_ends_a_discount_only_after_what_it_was_given_on_and_within_its_time_and_once"
        ),
    ),
    Guard(
        name="prices: only a customer's own price ends",
        protects="One customer's agreement would end what everybody pays.",
        taken=[Sql("DROP TRIGGER after_what_was_rated ON price_ends")],
        noticed_by=f"{_ENDINGS}::test_postgres_ends_only_prices_of_the_customers_own",
    ),
    Guard(
        name="prices: an end is for good",
        protects="What has ended would hold again, and rate what was rated without it.",
        taken=[Sql("DROP TRIGGER append_only ON discount_ends")],
        noticed_by=f"{_ENDINGS}::test_not_even_the_owner_takes_an_end_back[DELETE FROM {{}}]",  # noqa: S608 - a name
    ),
    Guard(
        name="prices: no discount above 100 percent (both)",
        protects="A customer would be paid for using something.",
        taken=[
            Replace(
                "invoicing/prices/agreements.py",
                "wrong = number_problem(percent, limit=ABOVE_HUNDRED, decimals=PERCENT_DECIMALS)\n"
                "    if percent.is_finite() and not 0 < percent <= HUNDRED:",
                "wrong = None\n    if False:",
            ),
            Sql("ALTER TABLE discounts DROP CONSTRAINT discounts_percent_check"),
        ],
        noticed_by=f"{_CHANGES}::test_a_discount_that_cannot_be_is_refused_with_its_cure[above 100]",
    ),
    Guard(
        name="prices: no discount above 100 percent (Postgres)",
        protects="Code that forgets the limit would pay a customer for using something.",
        taken=[Sql("ALTER TABLE discounts DROP CONSTRAINT discounts_percent_check")],
        noticed_by=f"{_PERCENT}[100.01]",
    ),
    Guard(
        name="prices: one discount at a time (both)",
        protects="Which of two discounts a customer gets would be left to chance.",
        taken=[
            Replace(
                "invoicing/prices/agreements.py",
                "        _refuse_overlap(session, customer_id, item, valid_from, valid_until)\n",
            ),
            Sql("DROP TRIGGER one_at_a_time ON discounts"),
        ],
        noticed_by=f"{_CHANGES}::test_a_list_and_a_discount_are_agreed_with_one_customer",
    ),
    Guard(
        name="prices: one discount at a time (Postgres)",
        protects="Code that forgets to look would give two.",
        taken=[Sql("DROP TRIGGER one_at_a_time ON discounts")],
        noticed_by=f"{_PERCENT}[0]",
    ),
    Guard(
        name="prices: two who give a discount at once see each other",
        protects="Neither would see the other's, and both would hold at once.",
        taken=[without("discounts_given", "PERFORM pg_advisory_xact_lock(7074692024);")],
        noticed_by=f"{_GUARDS}::test_of_two_discounts_given_at_once_one_is_refused",
    ),
    Guard(
        name="prices: an own price is in the customer's currency",
        protects="A customer would be rated in one currency and billed in another.",
        taken=[without(_PUBLISHED, "IF NEW.customer_id IS NOT NULL AND NOT EXISTS", "IF false AND NOT EXISTS")],
        noticed_by=f"{_GUARDS}::test_a_customers_own_price_is_in_the_customers_currency",
    ),
    Guard(
        name="prices: an allowance does not depend on itself",
        protects="Rating one event would never end, or end anywhere.",
        taken=[without(_PUBLISHED, "IF NEW.included_item IS NOT NULL AND EXISTS", "IF false AND EXISTS")],
        noticed_by=f"{_GUARDS}::test_an_allowance_in_a_circle_over_two_items_is_refused",
    ),
    Guard(
        name="prices: tiers start at 0 and rise",
        protects="Some quantities would have two prices, or none.",
        taken=[
            without(
                _PUBLISHED,
                "IF tier.position <> expected_position OR tier.first <= last_first\n"
                "           OR (last_first IS NULL AND tier.first <> 0) THEN",
                "IF false THEN",
            )
        ],
        noticed_by=f"{_WRONG}[tiers that do not rise]",
    ),
    Guard(
        name="prices: exactly the tiered models have tiers",
        protects="A price in tiers without any would cost nothing.",
        taken=[without(_PUBLISHED, "(NEW.model IN ('graduated', 'volume')) <> (last_first IS NOT NULL)", "false")],
        noticed_by=f"{_WRONG}[no tiers where they are needed]",
    ),
    Guard(
        name="prices: no price below zero",
        protects="A customer would be paid for using something.",
        taken=[Sql("ALTER TABLE prices DROP CONSTRAINT prices_unit_amount_check")],
        noticed_by=f"{_WRONG}[an amount below zero]",
    ),
    Guard(
        name="prices: a minimum is below its maximum",
        protects="A period would cost at least more than it costs at most.",
        taken=[Sql("ALTER TABLE prices DROP CONSTRAINT prices_minimum_below_maximum")],
        noticed_by=f"{_WRONG}[a minimum above the maximum]",
    ),
    Guard(
        name="prices: an own price names its customer",
        protects="A price of one customer would be everybody's, or the other way round.",
        taken=[Sql("ALTER TABLE prices DROP CONSTRAINT prices_own_names_its_customer")],
        noticed_by=f"{_WRONG}[an own price of nobody]",
    ),
    Guard(
        name="prices: what counts a period changes between periods",
        protects="A period's tiers would be counted by two prices, in whatever order usage arrives.",
        taken=[
            Replace(
                "invoicing/prices/book.py",
                "if current is not None and current.flat and first.flat:",
                "if current is not None:",
            )
        ],
        noticed_by=f"{_TARIFF}::test_a_flat_price_changes_at_any_instant_and_an_aggregating_one_between_periods",
    ),
    Guard(
        name="prices: a discount leaves the quick path",
        protects="Usage would be posted without its discount.",
        taken=[
            Replace(
                "invoicing/prices/book.py",
                "if any(discount.item in (None, item) for discount in self._discounts.get(customer_id, ())):",
                "if False:",
            )
        ],
        noticed_by=f"{_CHANGES}::test_a_list_and_a_discount_are_agreed_with_one_customer",
    ),
    Guard(
        name="prices: a customer reads its own agreements alone",
        protects="Customers would read what others agreed to pay.",
        taken=[Sql("ALTER TABLE prices DISABLE ROW LEVEL SECURITY")],
        noticed_by="tests/panel/test_walls.py::test_what_was_agreed_with_others_is_nobodys_business",
    ),
)
