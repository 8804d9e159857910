"""The ledger's guards: nothing is posted twice, lost, changed, or put where it does not belong."""

from tests.mutations.guard import Guard, Replace, Sql

_SCHEMA = "migrations/versions/0001_ledger.py"
_GUARDS = "tests/integration/ledger/guards"
_CHANGED = f"{_GUARDS}/test_changes.py::test_what_is_written_is_never_changed_or_removed"
_ASIDE = f"{_GUARDS}/test_changes.py::test_the_application_cannot_put_the_guards_aside"
_FORGED = f"{_GUARDS}/test_forged_entries.py::test_a_forged_entry_is_refused"
_POSTING = "tests/integration/ledger/test_posting.py"
_RACES = "tests/integration/ledger/test_closing_races.py"
_NUMBERED = "AND p.low = b.last_seq + 1 AND p.high = b.last_seq + p.n"
_PRESENT = """
           AND p.latest BETWEEN greatest(now(), b.last_recorded_at)
                            AND greatest(now(), b.last_recorded_at, clock_timestamp())"""

GUARDS = (
    Guard(
        name="ledger: entries are append-only",
        protects="Whoever owns the tables could change what was posted.",
        taken=[Sql("DROP TRIGGER append_only ON ledger_entries")],
        noticed_by=f"{_CHANGED}[owner-edit an amount]",
    ),
    Guard(
        name="ledger: totals follow the entries",
        protects="A running total, and with it the next invoice, could say something else than its entries.",
        taken=[Sql("DROP TRIGGER follow_entries ON ledger_totals")],
        noticed_by=f"{_CHANGED}[owner-edit a total]",
    ),
    Guard(
        name="ledger: the application may not write totals",
        protects="Code that went wrong, or was broken into, could write what customers owe.",
        taken=[Sql("GRANT UPDATE ON ledger_totals TO billing_app")],
        noticed_by=f"{_ASIDE}[write totals from a trigger of its own-app]",
    ),
    Guard(
        name="ledger: nobody borrows the posting's rights",
        protects="The application could hang the trigger that runs as the owner on a table of its own.",
        taken=[Sql("GRANT EXECUTE ON FUNCTION ledger_entries_posted TO billing_app")],
        noticed_by=f"{_ASIDE}[hang the posting on its own table-app]",
    ),
    Guard(
        name="ledger: guards ask our tables",
        protects="A temporary table of the attacker's could tell the guards which accounts and periods there are.",
        taken=[Sql("ALTER FUNCTION ledger_entries_posted() SET search_path = pg_temp, pg_catalog, public")],
        noticed_by=f"{_GUARDS}/test_changes.py::test_temporary_tables_do_not_take_the_place_of_ours[app]",
        # The attacker's totals have no key, and so the posting falls over instead of adding to them.
        fails_with=("UndefinedObject",),
    ),
    Guard(
        name="ledger: an id is posted once",
        protects="The same event could be charged twice.",
        taken=[Sql("ALTER TABLE ledger_entries DROP CONSTRAINT ledger_entries_pkey CASCADE")],
        noticed_by=f"{_FORGED}[app-the same id again]",
    ),
    Guard(
        name="ledger: the code compares digests",
        protects="Another amount under a known id would be taken for a replay, and be lost without a word.",
        taken=[Replace("ledger/posting.py", "elif bytes(before) != entry.digest:", "elif False:")],
        noticed_by=f"{_POSTING}::test_the_same_id_with_other_content_is_a_conflict_and_nothing_is_written",
    ),
    Guard(
        name="ledger: posting in Postgres compares digests",
        protects="The fast way of posting would take a contradiction for a replay.",
        taken=[Replace(_SCHEMA, "count(*) FILTER (WHERE known <> digest OR (known", "count(*) FILTER (WHERE (known")],
        noticed_by=f"{_POSTING}::test_other_content_that_is_sent_alone_is_a_conflict",
    ),
    Guard(
        name="ledger: a batch does not contradict itself",
        protects="Of two contents under one id in one batch, one would win by chance.",
        taken=[Replace("ledger/posting.py", "            known[key] = entry.digest\n")],
        noticed_by=f"{_POSTING}::test_a_batch_that_contradicts_itself_is_a_conflict",
        # The primary key refuses it all the same, in words of its own.
        fails_with=("IntegrityError",),
    ),
    Guard(
        name="ledger: seq has no gap",
        protects="An entry could be missing, and nobody could tell.",
        taken=[Replace(_SCHEMA, _NUMBERED)],
        noticed_by=f"{_FORGED}[app-a gap]",
    ),
    Guard(
        name="ledger: a seq is given once (both)",
        protects="Two entries could claim the same place in the books.",
        taken=[
            Replace(_SCHEMA, _NUMBERED),
            Sql("ALTER TABLE ledger_entries DROP CONSTRAINT ledger_entries_customer_id_seq_key"),
        ],
        noticed_by=f"{_FORGED}[app-a number again]",
    ),
    Guard(
        name="ledger: recorded_at is the present",
        protects="An entry could be slipped into a past that was reported already.",
        taken=[Replace(_SCHEMA, _PRESENT)],
        noticed_by=f"{_FORGED}[app-recorded in the past]",
    ),
    Guard(
        name="ledger: one reversal per entry",
        protects="A mistake could be taken back twice.",
        taken=[Sql("DROP INDEX ledger_entries_reversed_once")],
        noticed_by=f"{_FORGED}[owner-a reversal twice]",
    ),
    Guard(
        name="ledger: a reversal mirrors its entry",
        protects="Under the name of a reversal any amount could be posted.",
        taken=[Replace(_SCHEMA, "OR o.amount <> p.amount OR o.seq", "OR o.seq")],
        noticed_by=f"{_FORGED}[app-a reversal of another amount]",
    ),
    Guard(
        name="ledger: a closed period takes no charge",
        protects="A charge would join a period whose invoice is written already, and be billed never.",
        taken=[Replace(_SCHEMA, "billed.state IS DISTINCT FROM 'open'", "billed.state IS NULL")],
        noticed_by=f"{_FORGED}[app-into a closed period]",
    ),
    Guard(
        name="ledger: usage is billed by its own period",
        protects="A charge could be put off to a later invoice while its own period is open.",
        taken=[Replace(_SCHEMA, "OR (used.start_at < billed.start_at AND EXISTS (", "OR (false AND EXISTS (")],
        noticed_by=f"{_FORGED}[app-late usage past an open period]",
    ),
    Guard(
        name="ledger: a closing names the last entry",
        protects="A posting that was under way could end up behind the draft that should hold it.",
        taken=[Sql("DROP TRIGGER counts_closings ON ledger_periods")],
        noticed_by=f"{_RACES}::test_a_closing_that_took_no_lock_is_refused_if_a_posting_came_first",
    ),
    Guard(
        name="ledger: a period closes once (both)",
        protects="A closed period could be changed after its invoice was written.",
        taken=[
            Sql("DROP TRIGGER closes_once ON ledger_periods"),
            Sql("DROP TRIGGER counts_closings ON ledger_periods"),
        ],
        noticed_by=f"{_CHANGED}[owner-close a period twice]",
    ),
    Guard(
        name="ledger: posting locks the books",
        protects="Of two postings at once one would be refused, for a number that the other one took.",
        taken=[Replace(_SCHEMA, "ORDER BY k.customer_id FOR NO KEY UPDATE) b", "ORDER BY k.customer_id) b")],
        noticed_by=f"{_POSTING}::test_of_two_postings_at_once_the_second_waits_and_follows",
    ),
    Guard(
        name="ledger: whoever closes locks the books",
        protects="A closing would not wait for a posting in flight.",
        taken=[Replace("ledger/books.py", "\n    .with_for_update(key_share=True)")],
        noticed_by=f"{_RACES}::test_a_closing_waits_for_a_posting_in_flight_and_ends_with_it",
    ),
    Guard(
        name="ledger: periods do not overlap",
        protects="A moment could belong to two invoices.",
        taken=[Sql("ALTER TABLE ledger_periods DROP CONSTRAINT ledger_periods_do_not_overlap")],
        noticed_by=f"{_CHANGED}[owner-a period over another]",
    ),
    Guard(
        name="ledger: amounts are numbers and not negative",
        protects="NaN or a negative amount would make every sum over it worthless.",
        taken=[Sql("ALTER DOMAIN ledger_amount DROP CONSTRAINT ledger_entries_amount")],
        noticed_by=f"{_FORGED}[app-NaN]",
    ),
    Guard(
        name="ledger: an entry has two accounts",
        protects="An amount could leave an account and enter the same one.",
        taken=[Sql("ALTER TABLE ledger_entries DROP CONSTRAINT ledger_entries_two_accounts")],
        noticed_by=f"{_FORGED}[app-equal accounts]",
    ),
    Guard(
        name="ledger: books keep their currency for life",
        protects="Every amount of a customer would mean something else.",
        taken=[Sql("DROP TRIGGER for_life ON ledger_books")],
        noticed_by=f"{_CHANGED}[owner-change the currency]",
    ),
    Guard(
        name="ledger: seals are never changed",
        protects="Whoever rewrites an entry could rewrite the seal that tells of it.",
        taken=[Sql("DROP TRIGGER append_only ON ledger_seals")],
        noticed_by="tests/integration/ledger/test_seals.py::test_neither_the_application_nor_the_owner_can_change_or_forge_a_seal[owner]",
    ),
)
