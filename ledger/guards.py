"""The guards that Postgres keeps over the books, and a query that names what is no longer as the migrations left it.

An owner can put a guard aside, as it can drop the tables; that it was forgotten there, or left out of a restore, is
noticed. What was changed meanwhile is for the other checks and for the seals to name.
"""

from collections.abc import Mapping

TRIGGERS = {
    "ledger_accounts": ("append_only",),
    "ledger_books": ("append_only", "counted", "for_life", "opened"),
    "ledger_documents": ("append_only", "names_what_exists"),
    "ledger_entries": ("append_only", "entries_posted"),
    "ledger_periods": ("append_only", "closes_once", "counts_closings", "keeps_its_charges", "opens_open"),
    "ledger_root_heads": ("append_only", "follow_root"),
    "ledger_roots": ("append_only", "make_root"),
    "ledger_seals": ("append_only", "seal_entries"),
    "ledger_totals": ("append_only", "follow_entries"),
}
"""Every trigger on the ledger's tables: one that is missing is a hole, one more could change what is written."""

CONSTRAINTS = {
    "ledger_books": ("ledger_books_pkey",),
    "ledger_documents": ("ledger_documents_pkey",),
    "ledger_entries": (
        "ledger_entries_carry_is_from_carried", "ledger_entries_charge_has_period", "ledger_entries_pkey",
        "ledger_entries_two_accounts", "ledger_entries_zero_needs_quantity",
    ),
    "ledger_periods": ("ledger_periods_do_not_overlap", "ledger_periods_pkey"),
    "ledger_totals": ("ledger_totals_key",),
}  # fmt: skip

VALUES = (
    ("ledger_books", "currency", "ledger_currency"),
    ("ledger_books", "holder", "ledger_holder"),
    ("ledger_books", "last_seq", "ledger_count"),
    ("ledger_books", "closings", "ledger_count"),
    ("ledger_entries", "amount", "ledger_entries_amount"),
    ("ledger_entries", "quantity", "ledger_entries_quantity"),
    ("ledger_entries", "effective_at", "ledger_entries_times"),
    ("ledger_entries", "item", "ledger_entries_names"),
    ("ledger_entries", "actor", "ledger_entries_names"),
    ("ledger_entries", "labels", "ledger_entries_labels"),
    ("ledger_entries", "labels", "ledger_entries_dimensions"),
    ("ledger_entries", "kind", "ledger_entries_kind"),
    ("ledger_entries", "reason", "ledger_entries_reason"),
    ("ledger_entries", "digest", "ledger_entries_digest"),
    ("ledger_totals", "amount", "ledger_sum"),
    ("ledger_totals", "quantity", "ledger_sum"),
    ("ledger_totals", "entries", "ledger_tally"),
)
"""Columns with the constraint that their type, a domain, puts on each value."""

UNIQUE_INDEXES = {"ledger_entries": ("ledger_entries_reversed_once",)}

READ_ONLY = ("ledger_accounts", "ledger_root_heads", "ledger_totals")
"""What only triggers write: the application has no right to insert there."""

WRITTEN_BY_TRIGGERS = {
    "ledger_books": ("customer_id", "holder", "currency", "last_seq", "last_recorded_at", "closings", "opened_at"),
    "ledger_periods": ("customer_id", "start_at", "time_zone", "opened_at"),
}
"""Columns that the application may not update in tables where it may update others."""

POLICIES = ("of_everyone", "of_one_customer")


def _rows(names: Mapping[str, tuple[str, ...]]) -> str:
    return ", ".join(f"('{table}', '{name}')" for table, found in names.items() for name in found)


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)


IN_PLACE = f"""
    WITH ours AS (
        SELECT oid, relname::text AS relname, relrowsecurity FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
    ), books AS (
        SELECT * FROM ours WHERE relname IN ({_list(tuple(TRIGGERS))})
    ), role AS (
        SELECT oid, rolname FROM pg_roles WHERE rolname IN ('billing_app', 'billing_panel')
        UNION ALL SELECT 0::oid, 'everybody'  -- what is granted to 0 is granted to all
    )
    SELECT x.relname AS on_table, 'trigger ' || x.name AS guard, 'is missing' AS problem
      FROM (VALUES {_rows(TRIGGERS)}) AS x (relname, name)
     WHERE NOT EXISTS (SELECT FROM books JOIN pg_trigger t ON t.tgrelid = books.oid
                        WHERE books.relname = x.relname AND t.tgname = x.name)
    UNION ALL
    SELECT o.relname, 'trigger ' || t.tgname, 'is switched off'
      FROM ours o JOIN pg_trigger t ON t.tgrelid = o.oid WHERE t.tgenabled NOT IN ('O', 'A')
    UNION ALL
    SELECT b.relname, 'trigger ' || t.tgname, 'is none of ours'
      FROM books b JOIN pg_trigger t ON t.tgrelid = b.oid
     WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND (b.relname, t.tgname) NOT IN (VALUES {_rows(TRIGGERS)})
    UNION ALL
    SELECT x.relname, 'constraint ' || x.name, 'is missing, or old rows were not held against it'
      FROM (VALUES {_rows(CONSTRAINTS)}) AS x (relname, name)
     WHERE NOT EXISTS (SELECT FROM books JOIN pg_constraint c ON c.conrelid = books.oid
                        WHERE books.relname = x.relname AND c.conname = x.name AND c.convalidated)
    UNION ALL
    SELECT x.relname, 'constraint ' || x.name, 'is missing on ' || x.attname || ', or old rows were not held against it'
      FROM (VALUES {", ".join(map(str, VALUES))}) AS x (relname, attname, name)
     WHERE NOT EXISTS (SELECT FROM books
                         JOIN pg_attribute a ON a.attrelid = books.oid
                         JOIN pg_constraint c ON c.contypid = a.atttypid
                        WHERE books.relname = x.relname AND a.attname = x.attname AND c.conname = x.name
                          AND c.convalidated)
    UNION ALL
    SELECT x.relname, 'index ' || x.name, 'is missing or not unique'
      FROM (VALUES {_rows(UNIQUE_INDEXES)}) AS x (relname, name)
     WHERE NOT EXISTS (SELECT FROM books
                         JOIN pg_index i ON i.indrelid = books.oid
                         JOIN pg_class c ON c.oid = i.indexrelid
                        WHERE books.relname = x.relname AND c.relname = x.name AND i.indisunique AND i.indisvalid)
    UNION ALL
    SELECT o.relname, 'rule ' || r.rulename, 'rewrites statements'
      FROM ours o JOIN pg_rewrite r ON r.ev_class = o.oid
    UNION ALL
    -- Rows of a child appear in its parent, past the parent's triggers and keys.
    SELECT o.relname, 'table ' || i.inhrelid::regclass, 'inherits from it'
      FROM ours o JOIN pg_inherits i ON i.inhparent = o.oid JOIN pg_class child ON child.oid = i.inhrelid
     WHERE NOT child.relispartition
    UNION ALL
    SELECT o.relname, 'row-level security', 'is switched off'
      FROM ours o WHERE NOT o.relrowsecurity AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = o.oid)
    UNION ALL
    SELECT o.relname, 'policy ' || p.polname, 'is none of ours'
      FROM ours o JOIN pg_policy p ON p.polrelid = o.oid WHERE p.polname NOT IN ({_list(POLICIES)})
    UNION ALL
    SELECT b.relname, 'rights of ' || r.rolname, 'include ' || a.privilege_type
      FROM books b
      JOIN pg_class c ON c.oid = b.oid
     CROSS JOIN LATERAL aclexplode(c.relacl) a
      JOIN role r ON r.oid = a.grantee
     WHERE a.privilege_type NOT IN ('SELECT', 'INSERT')
        OR (a.privilege_type = 'INSERT' AND (r.rolname <> 'billing_app' OR b.relname IN ({_list(READ_ONLY)})))
        OR r.rolname = 'everybody'
    UNION ALL
    SELECT b.relname, 'rights of ' || r.rolname, 'include ' || a.privilege_type || ' of ' || t.attname
      FROM books b
      JOIN pg_attribute t ON t.attrelid = b.oid AND t.attacl IS NOT NULL
     CROSS JOIN LATERAL aclexplode(t.attacl) a
      JOIN role r ON r.oid = a.grantee
     WHERE a.privilege_type = 'UPDATE'
       AND (r.rolname <> 'billing_app' OR (b.relname, t.attname) IN (VALUES {_rows(WRITTEN_BY_TRIGGERS)})
            OR b.relname NOT IN ({_list(tuple(WRITTEN_BY_TRIGGERS))}))
    UNION ALL
    -- Whoever may execute a trigger's function may hang it on a table of their own.
    SELECT NULL, 'function ' || f.proname, 'runs with its owner''s rights for everybody'
      FROM pg_proc f
     WHERE f.pronamespace = 'public'::regnamespace AND f.prosecdef
       AND has_function_privilege('public', f.oid, 'EXECUTE')
"""  # noqa: S608 - names of our own
