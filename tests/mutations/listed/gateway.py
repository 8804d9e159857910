"""The gateway's guards: everything is asked of Stripe once, and only what Stripe says is believed, once."""

from tests.mutations.guard import Guard, Replace, Sql

_GATEWAY = "tests/gateway"
_FENCING = f"{_GATEWAY}/test_fencing.py"
_RECOVERY = f"{_GATEWAY}/test_recovery.py"
_TABLE = f"{_GATEWAY}/test_recovery_table.py"
_WEBHOOKS = f"{_GATEWAY}/test_webhooks.py"
_FORGED = f"{_GATEWAY}/test_forgery.py::test_what_stripe_did_not_send_is_refused_and_stored_nowhere"
_ALONE = f"{_GATEWAY}/test_guards.py"
_PARKED = f"{_WEBHOOKS}::test_cash_that_does_not_fit_our_record_is_parked_and_posts_nothing"
_ENDED = f"{_GATEWAY}/test_operation_recovery.py::test_an_ended_operation_is_kept_as_it_ended"
_KEPT = f"{_GATEWAY}/test_sync.py::test_the_database_itself_refuses_to_forget"
_BREAKER = f"{_GATEWAY}/test_breaker.py"

_WORK = (
    Guard(
        name="gateway: every write names its fence",
        protects="A process that slept through its lease would store an answer of the past.",
        taken=[Replace("stripe_gateway/leases.py", ", table.fence == row.fence)", ")")],
        noticed_by=f"{_FENCING}::test_a_webhook_that_is_faster_than_the_answer_wins_and_the_worker_stops",
    ),
    Guard(
        name="gateway: a claim raises the fence",
        protects="Two claims of one row would look the same.",
        taken=[
            Replace(
                "stripe_gateway/leases.py",
                "SET fence = s.fence + 1, attempts = s.attempts + 1,\n           unsure_at",
                "SET attempts = s.attempts + 1,\n           unsure_at",
            )
        ],
        noticed_by=f"{_FENCING}::test_work_that_a_dead_process_left_is_taken_up_and_remembered_as_unsure",
    ),
    Guard(
        name="gateway: a row in work is claimed by nobody else",
        protects="Two processes would send the same invoice at once.",
        taken=[
            Replace(
                "stripe_gateway/leases.py",
                '_FREE = "(s.lease_until IS NULL OR s.lease_until < clock_timestamp())"',
                '_FREE = "true"',
            )
        ],
        noticed_by=f"{_FENCING}::test_a_row_in_work_is_claimed_by_nobody_else",
    ),
    Guard(
        name="gateway: a dead process leaves doubt",
        protects="What a dead process may have sent would be sent anew as if nothing had happened.",
        taken=[
            Replace(
                "stripe_gateway/leases.py",
                "ELSE greatest(s.unsure_at, least(s.lease_until, :now)) END",
                "ELSE NULL END",
            )
        ],
        noticed_by=f"{_FENCING}::test_work_that_a_dead_process_left_is_taken_up_and_remembered_as_unsure",
    ),
    Guard(
        name="gateway: a done sync stays done",
        protects="An invoice that stands at Stripe could be sent a second time.",
        taken=[Sql("DROP TRIGGER only_forward ON stripe_syncs")],
        noticed_by=f"{_KEPT}[UPDATE stripe_syncs SET external_id = 'in_other']",  # noqa: S608 - a test's name
    ),
    Guard(
        name="gateway: a canceled sync stays canceled",
        protects="An invoice that was taken back could be sent after all.",
        taken=[
            Replace(
                "migrations/versions/0008_operations.py",
                "IF OLD.state = 'canceled' AND NEW.state <> 'canceled' THEN",
                "IF false THEN",
            )
        ],
        noticed_by=f"{_GATEWAY}/test_operation_recovery.py::test_a_canceled_sync_stays_canceled",
    ),
    Guard(
        name="gateway: an ended operation stays ended",
        protects="A refund that Stripe made could be asked for again.",
        taken=[Sql("DROP TRIGGER only_forward ON stripe_operations")],
        noticed_by=f"{_ENDED}[UPDATE stripe_operations SET intent = '{{}}']",  # noqa: S608 - a test's name
    ),
    Guard(
        name="gateway: an operation waits for its invoice",
        protects="Stripe would be asked about an invoice that it does not have yet, and its no would be final.",
        taken=[Replace("stripe_gateway/invoice_ends.py", '    if sync.state != "done":', "    if False:")],
        noticed_by=f"{_GATEWAY}/test_operations.py::test_what_is_asked_about_an_invoice_waits_until_it_stands_at_stripe",
    ),
    Guard(
        name="gateway: a run of reconciliation that was overtaken writes nothing",
        protects="Two runs would move each other's place, and leave pages out.",
        taken=[
            Replace("stripe_gateway/reconciliation/runs.py", ", StripeReconciliation.fence == place.run.fence)", ")")
        ],
        noticed_by=f"{_GATEWAY}/test_reconciliation_runs.py::test_whoever_was_overtaken_writes_no_place",
    ),
    Guard(
        name="gateway: a catch-up that was overtaken moves no cursor",
        protects="Events between two cursors would never be read.",
        taken=[Replace("stripe_gateway/catch_up.py", ", StripeCursor.fence == row.fence)", ")")],
        noticed_by=f"{_GATEWAY}/test_catch_up.py::test_a_run_that_was_overtaken_moves_no_cursor",
        # Postgres refuses half a window all the same, in words of its own.
        fails_with=("IntegrityError",),
    ),
    Guard(
        name="gateway: a cursor never goes back",
        protects="A window of events could be closed without having been read.",
        taken=[Sql("DROP TRIGGER only_forward ON stripe_cursors")],
        noticed_by=f"{_GATEWAY}/test_catch_up.py::test_a_cursor_never_goes_back_and_no_event_is_deleted_for_400_days",
    ),
)

_SENT = (
    Guard(
        name="gateway: writes carry an idempotency key",
        protects="A request that is repeated after a lost answer would be executed twice.",
        taken=[Replace("stripe_gateway/client.py", 'return {"idempotency_key": key}', "return {}")],
        noticed_by=f"{_ALONE}::test_every_write_goes_out_under_the_key_that_was_frozen_for_it",
    ),
    Guard(
        name="gateway: an invoice's key names its generation",
        protects="A request that is new on purpose would only replay the old answer.",
        taken=[
            Replace(
                "stripe_gateway/bodies.py",
                'return f"inv:{invoice_id}:{step}:g{generation}"',
                'return f"inv:{invoice_id}:{step}:g1"',
            )
        ],
        noticed_by=f"{_RECOVERY}::test_a_draft_deleted_by_hand_is_made_again",
    ),
    Guard(
        name="gateway: an operation's key names its generation",
        protects="A refund that has to be asked for anew would only replay the old answer.",
        taken=[Replace("stripe_gateway/acts.py", ":{self.verb}:g{operation.generation}", ":{self.verb}:g1")],
        noticed_by=f"{_GATEWAY}/test_operation_recovery.py::test_a_stored_500_is_resolved_by_reading[500_before-refund]",
    ),
    Guard(
        name="gateway: a frozen body never changes",
        protects="The same key would go out with another body.",
        taken=[Sql("DROP TRIGGER append_only ON stripe_requests")],
        noticed_by=f"{_KEPT}[UPDATE stripe_requests SET body = '{{}}']",  # noqa: S608 - a test's name
    ),
    Guard(
        name="gateway: a key older than 23 hours is never sent",
        protects="Stripe has forgotten the key, and would make a second invoice.",
        taken=[
            Replace(
                "stripe_gateway/recovery.py",
                "KEY_TRUSTED_FOR = timedelta(hours=23)",
                "KEY_TRUSTED_FOR = timedelta(days=999)",
            )
        ],
        noticed_by=f"{_RECOVERY}::test_a_key_older_than_23_hours_is_never_sent_again",
    ),
    Guard(
        name="gateway: what is unknown is read before anything is sent",
        protects="What Stripe did without telling us would be asked for anew.",
        taken=[Replace("stripe_gateway/errands.py", 'return errand.state == "unknown" or not', "return not")],
        noticed_by=f"{_RECOVERY}::test_a_stored_500_that_did_its_work_is_found_by_reading",
    ),
    Guard(
        name="gateway: nothing new within an hour of doubt",
        protects="What was sent last may turn up beside what is sent anew.",
        taken=[
            Replace("stripe_gateway/recovery.py", "NEWS_MAY_TAKE = timedelta(hours=1)", "NEWS_MAY_TAKE = timedelta(0)")
        ],
        noticed_by=f"{_RECOVERY}::test_a_stored_500_that_did_nothing_is_resolved_by_reading",
    ),
    Guard(
        name="gateway: an operation that makes something waits the hour of doubt",
        protects="A refund may turn up beside the one that is asked for anew.",
        taken=[Replace("stripe_gateway/operating.py", "        if act.makes:", "        if False:")],
        noticed_by=f"{_GATEWAY}/test_operation_recovery.py::test_a_stored_500_is_resolved_by_reading[500_before-refund]",
    ),
    Guard(
        name="gateway: drafts without owner are deleted",
        protects="A draft that nobody knows could be finalized by hand beside ours.",
        taken=[
            Replace("stripe_gateway/sync.py", "            self._client.delete_draft(draft)\n", "            pass\n")
        ],
        noticed_by=f"{_ALONE}::test_a_second_draft_of_an_invoice_is_deleted",
    ),
    Guard(
        name="gateway: a draft is compared before it is finalized",
        protects="Stripe would collect something else than our invoice.",
        taken=[
            Replace(
                "stripe_gateway/sync.py",
                "        if problems:\n            # Nothing was charged",
                "        if False:\n            # Nothing was charged",
            )
        ],
        noticed_by=f"{_RECOVERY}::test_lines_that_differ_delete_the_draft_and_wait_for_a_person",
    ),
    Guard(
        name="gateway: a draft's total is ours",
        protects="A line that somebody else put on the draft would be collected.",
        taken=[Replace("stripe_gateway/recovery.py", 'if invoice["total"] != sync.amount_due_minor:', "if False:")],
        noticed_by=f"{_ALONE}::test_a_line_that_somebody_else_put_on_the_draft_is_never_collected",
    ),
    Guard(
        name="gateway: no balance at Stripe changes what is due",
        protects="A balance at Stripe would be used up beside the one in our books.",
        taken=[Replace("stripe_gateway/recovery.py", 'if invoice["starting_balance"] != 0:', "if False:")],
        noticed_by=f"{_RECOVERY}::test_lines_that_differ_delete_the_draft_and_wait_for_a_person",
    ),
    Guard(
        name="gateway: an object belongs to one invoice",
        protects="One Stripe invoice could stand for two of ours.",
        taken=[
            Replace(
                "stripe_gateway/outbox.py",
                "if owner is None or (owner.customer_id, owner.invoice_id) != (customer_id, invoice_id):",
                "if owner is None:",
            )
        ],
        noticed_by=f"{_ALONE}::test_an_object_of_another_invoice_confirms_nothing",
    ),
    Guard(
        name="gateway: only one customer is made",
        protects="Two invoices at once would make two customers of one, with a card each.",
        taken=[
            Replace(
                "stripe_gateway/leases.py",
                "WHERE s.customer_id = :customer_id AND {_DUE}\n RETURNING s.*\n",
                "WHERE s.customer_id = :customer_id\n RETURNING s.*\n",
            )
        ],
        noticed_by=f"{_ALONE}::test_a_customer_in_the_making_is_made_by_nobody_else",
    ),
    Guard(
        name="gateway: a customer whose answer was lost is looked for",
        protects="A second customer would be made, and the first one's card be forgotten.",
        taken=[
            Replace(
                "stripe_gateway/customers.py",
                '.get("ledger_customer_id") == wanted',
                '.get("ledger_customer_id") == "nobody"',
            )
        ],
        noticed_by=f"{_RECOVERY}::test_an_answer_lost_for_longer_than_keys_live[reset_after]",
    ),
    Guard(
        name="gateway: a customer keeps its id for life",
        protects="Invoices of one customer could go to another one's card.",
        taken=[Sql("DROP TRIGGER for_life ON stripe_customers")],
        noticed_by=f"{_KEPT}[UPDATE stripe_customers SET external_id = 'cus_other']",  # noqa: S608 - a test's name
    ),
)

_TOLD = (
    Guard(
        name="gateway: signatures are compared",
        protects="Anybody could say that an invoice is paid.",
        taken=[
            Replace(
                "stripe_gateway/webhooks.py",
                "if not any(hmac.compare_digest(one, other) for one in expected for other in candidates):",
                "if False:",
            )
        ],
        noticed_by=f"{_WEBHOOKS}::test_stripes_signature_is_accepted_and_nobody_elses",
    ),
    Guard(
        name="gateway: signatures grow old",
        protects="Whoever once saw a delivery could send it again for ever.",
        taken=[Replace("stripe_gateway/webhooks.py", "if abs(now.timestamp() - stamp) > TOLERANCE_S:", "if False:")],
        noticed_by=f"{_WEBHOOKS}::test_stripes_signature_is_accepted_and_nobody_elses",
    ),
    Guard(
        name="gateway: an empty secret is none",
        protects="An empty place in the list of secrets would let everybody in.",
        taken=[
            Replace("stripe_gateway/webhooks.py", " for secret in secrets if secret.strip()", " for secret in secrets")
        ],
        noticed_by=f"{_ALONE}::test_an_empty_secret_opens_nothing",
    ),
    Guard(
        name="gateway: a header has one time",
        protects="Which time was signed would be a matter of taste.",
        taken=[Replace("stripe_gateway/webhooks.py", "if len(stamps) == 1 else None", "if stamps else None")],
        noticed_by=f"{_FORGED}[header]",
    ),
    Guard(
        name="gateway: a webhook has its limit of size",
        protects="Anybody could fill the memory with bodies that have to be hashed.",
        taken=[Replace("stripe_gateway/webhooks.py", "if len(body) > MAX_BODY_BYTES:", "if False:")],
        noticed_by=f"{_WEBHOOKS}::test_what_is_no_snapshot_event_is_refused_by_name",
        fails_with=("BadEvent",),  # the body is hashed and read before it is refused
    ),
    Guard(
        name="gateway: a body reads one way only",
        protects="Two readers could take two amounts from one signed body.",
        taken=[Replace("stripe_gateway/webhooks.py", "    if len(found) != len(pairs):", "    if False:")],
        noticed_by=f"{_FORGED}[signed nonsense]",
    ),
    Guard(
        name="gateway: an event says our mode",
        protects="A payment with test money would pay a real invoice.",
        taken=[Replace("stripe_gateway/inbox.py", 'if event.get("livemode") is not client.livemode:', "if False:")],
        noticed_by=f"{_GATEWAY}/test_origin.py::test_an_event_of_another_mode_is_refused",
    ),
    Guard(
        name="gateway: an event is about our account",
        protects="What happens on another account would be booked as ours.",
        taken=[Replace("stripe_gateway/inbox.py", "        if foreign and (", "        if False and (")],
        noticed_by=f"{_GATEWAY}/test_origin.py::test_an_event_about_another_account_is_refused",
    ),
    Guard(
        name="gateway: a payment says our mode",
        protects="A payment that was read from a list could be test money.",
        taken=[Replace("stripe_gateway/cash.py", 'if bool(payment["livemode"]) is not livemode:', "if False:")],
        noticed_by=f"{_PARKED}[changes1-livemode]",
        fails_with=("ValueError",),  # it takes the one event that is parked, and there is none
    ),
    Guard(
        name="gateway: a payment is in the invoice's currency",
        protects="12 yen would pay 12 dollars.",
        taken=[Replace("stripe_gateway/cash.py", 'if payment["currency"].upper() != sync.currency:', "if False:")],
        noticed_by=f"{_PARKED}[changes0-EUR]",
        fails_with=("ValueError",),  # it takes the one event that is parked, and there is none
    ),
    Guard(
        name="gateway: only what is paid is a payment",
        protects="A payment that is still open would settle its invoice.",
        taken=[Replace("stripe_gateway/cash.py", 'if payment["status"] != "paid" or not', "if not")],
        noticed_by=f"{_PARKED}[changes4-no payment]",
        fails_with=("ValueError",),  # it takes the one event that is parked, and there is none
    ),
    Guard(
        name="gateway: an event confirms only what was asked for",
        protects="An invoice with another total would be taken for ours.",
        taken=[
            Replace(
                "stripe_gateway/outbox.py",
                'if problems or sync.external_id not in (None, invoice["id"]):',
                "if False:",
            )
        ],
        noticed_by=f"{_ALONE}::test_an_invoice_that_is_not_what_was_asked_for_confirms_nothing",
    ),
    Guard(
        name="gateway: an event is stored once (both)",
        protects="The same delivery would be handled as often as it comes.",
        taken=[
            Replace(
                "stripe_gateway/webhooks.py",
                'statement = statement.on_conflict_do_update(index_elements=["id"], set_=counted)',
                "del counted",
            ),
            Sql("ALTER TABLE stripe_events DROP CONSTRAINT stripe_events_pkey"),
        ],
        noticed_by=f"{_ALONE}::test_an_event_that_comes_again_is_one_row",
    ),
    Guard(
        name="gateway: an event has its effect once",
        protects="The same news under another event id would be booked again.",
        taken=[
            Replace(
                "stripe_gateway/cash.py",
                "        .returning(StripeEffect.key)\n    ).first()\n    return written is not None",
                "        .returning(StripeEffect.key)\n    ).first()\n    return written is not None or True",
            )
        ],
        noticed_by=f"{_ALONE}::test_the_same_news_has_its_effect_once",
    ),
    Guard(
        name="gateway: what Stripe said is kept as it came",
        protects="Whoever looks for the cause of an entry would find another text.",
        taken=[Sql("DROP TRIGGER as_it_came ON stripe_events")],
        noticed_by=f"{_ALONE}::test_what_stripe_said_is_kept_as_it_came",
    ),
)

_AWAY = (
    Guard(
        name="gateway: the breaker is asked before each call",
        protects="While Stripe is away everybody would go on knocking, and wait for each time-out.",
        taken=[Replace("stripe_gateway/client.py", "self._breaker.check(self._probe)", "return")],
        noticed_by=f"{_BREAKER}::test_while_stripe_is_away_everything_stays_due_and_nobody_hammers",
    ),
    Guard(
        name="gateway: one at a time looks whether Stripe is back",
        protects="All processes would knock at the same moment.",
        taken=[
            Replace(
                "stripe_gateway/breaker.py",
                "WHERE until IS NULL AND next_probe_at <= clock_timestamp()",
                "WHERE until IS NULL",
            )
        ],
        noticed_by=f"{_ALONE}::test_whoever_knew_that_it_is_time_to_look_finds_that_another_one_looks",
    ),
    Guard(
        name="gateway: one customer's failures are no outage",
        protects="One customer's trouble would keep everybody's invoices waiting.",
        taken=[Replace("stripe_gateway/breaker.py", "WHERE f.failures >= :subjects AND", "WHERE :subjects > 0 AND")],
        noticed_by=f"{_BREAKER}::test_one_customers_failures_are_no_outage_however_many",
        fails_with=("StripeAway",),
    ),
    Guard(
        name="gateway: every call waits for its turn",
        protects="Stripe would refuse us, and with us the payments of people who wait.",
        taken=[
            Replace(
                "stripe_gateway/client.py", "waited_s = self._pacer.wait(operation, lane=self._lane)", "waited_s = 0.0"
            )
        ],
        noticed_by=f"{_ALONE}::test_every_call_waits_for_its_turn",
    ),
    Guard(
        name="gateway: a 429 slows the others down",
        protects="Each process would have to be refused by itself.",
        taken=[Replace("stripe_gateway/pacing.py", "    s.rate = math.max(s.limit * {FLOOR}, s.rate * {CUT})\n")],
        noticed_by=f"{_GATEWAY}/test_pacing.py::test_a_429_in_one_process_slows_the_others",
    ),
    Guard(
        name="gateway: an error of the key stops the run",
        protects="Every invoice would be parked for what is wrong with the key.",
        taken=[
            Replace(
                "stripe_gateway/errands.py",
                "                if isinstance(failure, StripeClosed):\n                    raise\n",
            )
        ],
        noticed_by=f"{_GATEWAY}/test_sync.py::test_a_wrong_key_stops_the_run_and_nothing_is_lost",
    ),
)

GUARDS = (*_WORK, *_SENT, *_TOLD, *_AWAY)
