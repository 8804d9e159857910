"""The guards of pages and doors: who gets in, what they see, and what they may do."""

from tests.mutations.guard import Guard, Replace, Sql

_SIGN_IN = "tests/support_ui/test_sign_in.py"
_WALLS = "tests/panel/test_walls.py"
_WITHOUT_SESSION = (
    "tests/invoicing/test_movement_guards.py::test_a_customer_sees_only_their_own_credit_notes_and_refunds"
)
_LINKS = "tests/panel/test_links.py"
_EXEMPT = "for blueprint in (api, hooks, health):\n        csrf"

GUARDS = (
    Guard(
        name="pages: support pages want a session",
        protects="Anybody could read every customer's books.",
        taken=[
            Replace(
                "support_ui/site.py",
                'return None if request.endpoint == "support.static" else _pass_signed_in()',
                "return None",
            )
        ],
        noticed_by=f"{_SIGN_IN}::test_a_stranger_is_led_to_the_sign_in_page_and_back_again",
    ),
    Guard(
        name="pages: roles bound what staff may do",
        protects="Whoever may read could finalize and refund.",
        taken=[Replace("support_ui/access.py", "            if not may(role):", "            if False:")],
        noticed_by=f"{_SIGN_IN}::test_a_viewer_reads_everything_and_changes_nothing",
    ),
    Guard(
        name="pages: staff's forms carry a token",
        protects="A page elsewhere could make a signed-in agent refund money.",
        taken=[Replace("app/factory.py", _EXEMPT, "for blueprint in (api, hooks, health, support):\n        csrf")],
        noticed_by=f"{_SIGN_IN}::test_a_form_without_its_token_is_refused",
    ),
    Guard(
        name="pages: the panel's forms carry a token",
        protects="A page elsewhere could open somebody's link in another one's browser.",
        taken=[Replace("app/factory.py", _EXEMPT, "for blueprint in (api, hooks, health, panel):\n        csrf")],
        noticed_by="tests/panel/test_access.py::test_a_link_without_its_forms_token_opens_nothing",
    ),
    Guard(
        name="pages: too many wrong passwords lock",
        protects="A password could be guessed by trying.",
        taken=[
            Replace(
                "app/signin/entrance.py",
                "@limiter.limit(TRIES, key_func=by_address_and_email, deduct_when=is_failure)\n",
            )
        ],
        noticed_by=f"{_SIGN_IN}::test_too_many_wrong_passwords_lock_one_address_for_one_user_only",
    ),
    Guard(
        name="pages: signing in begins a new session",
        protects="A session that somebody prepared in a browser would become its user's.",
        taken=[
            Replace(
                "app/signin/sessions.py",
                "    cookie.clear()\n    cookie.permanent = True",
                "    cookie.permanent = True",
            )
        ],
        noticed_by=f"{_SIGN_IN}::test_signing_in_forgets_the_session_that_was_there",
    ),
    Guard(
        name="pages: a new password ends other sessions",
        protects="Whoever stole a cookie would stay signed in.",
        taken=[Replace("app/accounts/staff.py", " and user.session_epoch == epoch else None", " else None")],
        noticed_by=f"{_SIGN_IN}::test_a_cookie_of_an_earlier_epoch_opens_nothing",
    ),
    Guard(
        name="pages: who was shut out stays out",
        protects="A former colleague could sign in.",
        taken=[Replace("app/accounts/staff.py", "if user is None or not user.active:", "if user is None:")],
        noticed_by=f"{_SIGN_IN}::test_a_user_who_was_shut_out_cannot_come_back",
    ),
    Guard(
        name="pages: signing in leads to no other site",
        protects="A link could lead from our sign-in page to a copy of it.",
        taken=[Replace("app/signin/sessions.py", ' and "//" not in target', "")],
        noticed_by=f"{_SIGN_IN}::test_signing_in_never_leads_to_another_site[/support//evil.test]",
    ),
    Guard(
        name="api: everything wants a token",
        protects="Anybody could post usage and read balances.",
        taken=[Replace("app/api/blueprint.py", "    if request.endpoint not in OPEN_ENDPOINTS:", "    if False:")],
        noticed_by="tests/api/test_api.py::test_without_a_valid_token_nothing_is_said",
    ),
    Guard(
        name="api: a revoked token opens nothing",
        protects="A token that leaked would be good for ever.",
        taken=[Replace("app/accounts/tokens.py", ", ApiToken.revoked_at.is_(None))", ")")],
        noticed_by="tests/api/test_api.py::test_a_revoked_token_opens_nothing_any_more",
    ),
    Guard(
        name="panel: a link opens once",
        protects="An address in a log or history would open the customer's billing again.",
        taken=[
            Replace("app/panel/links.py", "PanelLink.used_at.is_(None), PanelLink.expires_at", "PanelLink.expires_at")
        ],
        noticed_by=f"{_LINKS}::test_a_link_is_claimed_once",
    ),
    Guard(
        name="panel: a link expires",
        protects="A link that was never used would stay good for ever.",
        taken=[Replace("app/panel/links.py", ", PanelLink.expires_at > now)", ")")],
        noticed_by=f"{_LINKS}::test_a_link_expires_exactly_at_its_time",
    ),
    Guard(
        name="panel: a session ends (code)",
        protects="A browser that was left open would show the customer's billing for ever.",
        taken=[Replace("app/panel/links.py", ", PanelLink.used_at > now - SESSION_TTL)", ")")],
        noticed_by="tests/panel/test_access.py::test_a_session_ends_an_hour_after_it_began",
    ),
    Guard(
        name="panel: a session ends (Postgres)",
        protects="Code that forgets the hour would go on showing the rows.",
        taken=[Replace("migrations/versions/0006_roles.py", "\n       AND session_until > clock_timestamp()")],
        noticed_by=f"{_WALLS}::test_a_session_that_is_over_shows_nothing_more",
    ),
    Guard(
        name="panel: a cookie of ours is signed by us",
        protects="Whoever guesses at keys would not have to know our secret.",
        taken=[
            Replace(
                "app/panel/sessions.py",
                'URLSafeSerializer(secret_key, salt=_SALT).loads(request.cookies.get(COOKIE, ""))',
                'URLSafeSerializer(secret_key, salt=_SALT).loads_unsafe(request.cookies.get(COOKIE, ""))[1]',
            )
        ],
        noticed_by="tests/panel/test_access.py::test_a_cookie_that_we_did_not_sign_is_no_session",
    ),
    Guard(
        name="panel: Postgres shows one customer's rows",
        protects="One wrong query would show a customer everybody's invoices.",
        taken=[Sql("ALTER POLICY of_one_customer ON invoices USING (true)")],
        noticed_by=f"{_WALLS}::test_a_session_that_is_over_shows_nothing_more",
    ),
    Guard(
        name="panel: row-level security is on",
        protects="A policy that is not asked guards nothing.",
        taken=[Sql("ALTER TABLE refunds DISABLE ROW LEVEL SECURITY")],
        noticed_by=_WITHOUT_SESSION,
    ),
    Guard(
        name="panel: views read with the asker's rights",
        protects="A view would show everybody's rows with its owner's rights.",
        taken=[Sql("ALTER VIEW ledger_unbilled RESET (security_invoker)")],
        noticed_by=f"{_WALLS}::test_every_view_reads_with_the_rights_of_whoever_asks",
    ),
    Guard(
        name="panel: the role writes nothing",
        protects="The pages on the open internet could write a payment.",
        taken=[Sql("GRANT INSERT ON payments TO billing_panel")],
        noticed_by=f"{_WALLS}::test_the_panel_writes_to_no_table_at_all",
    ),
    Guard(
        name="panel: what is the staff's stays the staff's",
        protects="Customers could read what staff write about them.",
        taken=[Sql("GRANT SELECT ON tasks TO billing_panel")],
        noticed_by=_WITHOUT_SESSION,
    ),
    Guard(
        name="panel: a connection in the pool remembers nobody",
        protects="The next visitor would see what the last one was shown.",
        taken=[
            Replace(
                "app/panel/sessions.py",
                "set_config('billing.panel_session', :key, true)",
                "set_config('billing.panel_session', :key, false)",
            )
        ],
        noticed_by=f"{_WALLS}::test_a_connection_that_goes_back_to_the_pool_remembers_nobody",
    ),
)
