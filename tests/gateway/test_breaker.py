"""While Stripe is away nothing is sent but a probe at a time; when it is back everything goes on, and nothing twice."""

import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import structlog.testing
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from stripe_gateway import breaker
from stripe_gateway.breaker import Breaker, BreakerRules, Outage
from stripe_gateway.client import Client, ClientSettings
from stripe_gateway.errors import CallFailed, NoAnswer, ServerFailed, StripeAway
from stripe_gateway.line import subject_of
from stripe_gateway.sync_runs import sync_due
from tests.gateway.conftest import Town, at_once, client_for, now, settings_for

QUICK = BreakerRules(subjects=3, lasting_s=0.0, first_pause_s=0.05, longest_pause_s=0.2, known_for_s=0.0)
PATIENT = BreakerRules(subjects=3, lasting_s=0.0, first_pause_s=3600.0, longest_pause_s=3600.0, known_for_s=0.0)

ACTIVITY = text("""
    SELECT count(*) FILTER (WHERE state LIKE 'idle in transaction%'
                              AND state_change < clock_timestamp() - interval '500 ms'),
           count(*) FILTER (WHERE state = 'active')
      FROM pg_stat_activity WHERE datname = current_database()
""")


def guarded(town: Town, rules: BreakerRules = QUICK) -> Client:
    return Client(settings_for(town.sandbox), breaker=Breaker(town.engine, rules))


def current(engine: Engine) -> Outage | None:
    with engine.connect() as connection:
        return breaker.going_on(connection)


def history(engine: Engine) -> list[Outage]:
    with engine.connect() as connection:
        return breaker.outages(connection, limit=100)


def fail(watch: Breaker, *subjects: str) -> None:
    for subject in subjects:
        watch.failed(subject, NoAnswer("The connection was cut."))


def answer() -> None:
    """A probe that is answered."""


def no_answer() -> None:
    raise NoAnswer("The connection was cut.")


def rows(town: Town) -> list[tuple[str, int, datetime, datetime | None]]:
    with town.engine.connect() as connection:
        query = "SELECT state, attempts, next_attempt_at, unsure_at FROM stripe_syncs ORDER BY customer_id, invoice_id"
        return [tuple(row) for row in connection.execute(text(query))]


# The law


def test_failures_over_distinct_subjects_are_an_outage_since_the_first_of_them(engine: Engine) -> None:
    watch = Breaker(engine, PATIENT)
    begun = now()
    fail(watch, "inv:1", "inv:2")
    watch.check(no_answer)
    fail(watch, "inv:3")
    with pytest.raises(StripeAway) as away:
        watch.check(answer)
    outage = current(engine)
    assert outage is not None
    assert (outage.since, outage.failures) == (away.value.since, 3)
    assert begun - timedelta(seconds=1) <= outage.since
    assert f"{outage.since:%Y-%m-%d %H:%M:%S} UTC" in str(away.value)


def test_one_customers_failures_are_no_outage_however_many(engine: Engine) -> None:
    watch = Breaker(engine, QUICK)
    fail(watch, *["inv:1"] * 50)
    watch.check(no_answer)
    assert current(engine) is None


def test_a_success_in_between_begins_the_count_anew(engine: Engine) -> None:
    """Also one of another process, which has not failed itself."""
    watch, other = Breaker(engine, QUICK), Breaker(engine, QUICK)
    for number in range(10):
        fail(watch, f"inv:{number}")
        if number % 2:
            other.check(no_answer)
            other.succeeded()
    assert current(engine) is None


def test_failures_of_a_moment_are_no_outage_and_old_ones_do_not_count(engine: Engine) -> None:
    brief = Breaker(engine, BreakerRules(subjects=3, lasting_s=3600.0))
    fail(brief, "inv:1", "inv:2", "inv:3", "inv:4")
    assert current(engine) is None
    forgetful = Breaker(engine, BreakerRules(subjects=3, lasting_s=0.0, window_s=0.0))
    fail(forgetful, "inv:5", "inv:6", "inv:7")
    assert current(engine) is None


def test_every_process_knows_and_one_at_a_time_probes(engine: Engine) -> None:
    watches = [Breaker(engine, QUICK) for _ in range(8)]
    fail(watches[0], "inv:1", "inv:2", "inv:3")
    time.sleep(0.1)
    entered = threading.Semaphore(0)
    go_on = threading.Event()

    def probe() -> None:
        entered.release()
        go_on.wait(10)
        raise NoAnswer("still away")

    def ask(watch: Breaker) -> None:
        with pytest.raises(StripeAway):
            watch.check(probe)

    prober = threading.Thread(target=ask, args=(watches[0],))
    prober.start()
    assert entered.acquire(timeout=10)
    for watch in watches[1:]:
        ask(watch)
    go_on.set()
    prober.join()
    assert not entered.acquire(blocking=False), "nobody else probed meanwhile"
    outage = current(engine)
    assert outage is not None
    assert outage.probes == 1


def test_probes_are_ever_rarer_and_the_first_answer_ends_it(engine: Engine) -> None:
    rules = BreakerRules(subjects=1, lasting_s=0.0, first_pause_s=0.01, longest_pause_s=0.04, known_for_s=0.0)
    watch = Breaker(engine, rules)
    fail(watch, "inv:1")
    pauses = []
    for _ in range(4):
        time.sleep(0.06)
        with pytest.raises(StripeAway):
            watch.check(no_answer)
        with engine.connect() as connection:
            pauses.append(connection.scalar(text("SELECT pause_s::float8 FROM stripe_outages")))
    assert pauses == [0.02, 0.04, 0.04, 0.04]
    time.sleep(0.06)
    with structlog.testing.capture_logs() as log:
        watch.check(answer)
    assert current(engine) is None
    [outage] = history(engine)
    assert (outage.probes, outage.until is not None) == (5, True)
    [line] = [line for line in log if line["event"] == "Stripe is back"]
    assert line["lasted_s"] == pytest.approx((outage.until - outage.since).total_seconds(), abs=0.06)  # type: ignore[operator]  # it is over


def test_a_refusal_is_an_answer(engine: Engine) -> None:
    watch = Breaker(engine, QUICK)
    fail(watch, "inv:1", "inv:2", "inv:3")
    time.sleep(0.1)

    def refuse() -> None:
        raise CallFailed("This key may not.", status=403)

    watch.check(refuse)
    assert current(engine) is None


def test_a_relapse_goes_on_with_its_pauses(engine: Engine) -> None:
    """Probes pass but calls do not: each round must not begin at the shortest pause again."""
    watch = Breaker(engine, QUICK)
    pauses = []
    for round_ in range(4):
        fail(watch, *[f"inv:{round_}:{number}" for number in range(3)])
        with engine.connect() as connection:
            pauses.append(connection.scalar(text("SELECT pause_s::float8 FROM stripe_outages WHERE until IS NULL")))
        time.sleep(0.25)
        watch.check(answer)
    assert pauses == [0.05, 0.1, 0.2, 0.2]


def test_the_beginning_is_said_once_over_all_processes(engine: Engine) -> None:
    watches = [Breaker(engine, PATIENT) for _ in range(6)]
    with structlog.testing.capture_logs() as log:
        at_once(*[lambda n=n, watch=watch: fail(watch, f"inv:{n}") for n, watch in enumerate(watches)])
        fail(watches[0], "inv:7", "inv:8", "inv:9")
    assert len([line for line in log if line["event"].startswith("Stripe is away")]) == 1
    assert len(history(engine)) == 1


def test_a_prober_that_dies_is_followed_by_another(engine: Engine) -> None:
    rules = BreakerRules(subjects=1, lasting_s=0.0, first_pause_s=0.01, probe_limit_s=0.05, known_for_s=0.0)
    watch = Breaker(engine, rules)
    fail(watch, "inv:1")
    time.sleep(0.05)
    with pytest.raises(KeyboardInterrupt):
        watch.check(_die)
    time.sleep(0.1)
    watch.check(answer)
    assert current(engine) is None


def _die() -> None:
    raise KeyboardInterrupt


def test_outages_are_kept_as_they_were(engine: Engine, databases_owner: Engine) -> None:
    watch = Breaker(engine, QUICK)
    fail(watch, "inv:1", "inv:2", "inv:3")
    time.sleep(0.1)
    watch.check(answer)
    for statement in (
        "DELETE FROM stripe_outages",
        "TRUNCATE stripe_outages",
        "UPDATE stripe_outages SET since = since - interval '1 hour'",
        "UPDATE stripe_outages SET until = NULL",
    ):
        with pytest.raises(DBAPIError), databases_owner.begin() as connection:
            connection.execute(text(statement))


@pytest.mark.parametrize(
    ("url", "headers", "body", "subject"),
    [
        ("https://api/v1/invoices", {"Idempotency-Key": "inv:77:create:g1"}, "customer=cus_1", "inv:77"),
        ("https://api/v1/invoices/in_1/finalize", {"idempotency-key": "inv:77:finalize:g2"}, "", "inv:77"),
        ("https://api/v1/invoices?customer=cus_1&limit=100", {}, None, "cus_1"),
        ("https://api/v1/invoices/in_1", {}, None, "/v1/invoices/in_1"),
        ("https://api/v1/billing_portal/sessions", {"Idempotency-Key": "a-random-one"}, "customer=cus_1", "cus_1"),
    ],
    ids=["create", "finalize", "list", "retrieve", "portal"],
)
def test_several_requests_for_one_thing_have_one_subject(
    url: str, headers: dict[str, str], body: str | None, subject: str
) -> None:
    assert subject_of(url, headers, body) == subject


# With a sandbox


def test_one_customers_500_keeps_nobody_else_waiting(town: Town) -> None:
    town.invoice("broken")
    town.sandbox.fault("invoices.create", "500_before")
    client = guarded(town)
    for minutes in range(0, 300, 20):
        sync_due(town.engine, client, now=now() + timedelta(minutes=minutes), patience_s=0)
    assert not history(town.engine)


def test_while_stripe_is_away_everything_stays_due_and_nobody_hammers(town: Town) -> None:
    """Forty invoices, a sandbox that is gone: a handful of calls find out, the rest is as if nothing had been tried."""
    town.invoices(40)
    client = guarded(town, PATIENT)
    town.sandbox.kill9()
    sync_due(town.engine, client, now=now(), patience_s=0, threads=4)
    outage = current(town.engine)
    assert outage is not None
    tried = [row for row in rows(town) if row[1] > 0]
    assert len(tried) <= PATIENT.subjects + 4, "those that found out, and those under way at that moment"
    before = rows(town)
    for minutes in range(5):
        sync_due(town.engine, client, now=now() + timedelta(minutes=minutes), patience_s=0)
        with pytest.raises(StripeAway):
            client.for_people().retrieve_customer("cus_1")
    assert rows(town) == before
    assert {row[0] for row in before} <= {"due", "waiting"}
    assert current(town.engine) == outage, "nothing was sent, so nothing failed"


def test_when_it_is_back_everything_goes_on_by_itself(town: Town) -> None:
    town.invoices(12)
    client = guarded(town)
    town.sandbox.kill9()
    sync_due(town.engine, client, now=now(), patience_s=0)
    assert current(town.engine) is not None
    with town.engine.begin() as connection:
        connection.execute(text("UPDATE stripe_syncs SET next_attempt_at = created_at WHERE state = 'waiting'"))
    back = threading.Timer(0.5, town.sandbox.restart)
    back.start()
    summary = sync_due(town.engine, client, now=now() + timedelta(minutes=20), patience_s=60)
    back.join()
    assert summary.synced == 12
    assert current(town.engine) is None
    town.assert_each_stands_once()


def test_three_days_away_with_forgotten_keys_end_with_one_invoice_each(town: Town) -> None:
    """Requests were frozen and sent before the cut; every second one was executed, and no answer came. Stripe comes
    back without the keys; an hour later nothing is open, and nothing stands twice."""
    town.invoices(16)
    begin = now()
    unguarded = client_for(town)
    for kind in ("reset_before", "reset_after"):
        town.sandbox.fault("invoices.create", kind, count=8)
        sync_due(town.engine, unguarded, now=begin, patience_s=0, threads=1, limit=8)
    assert len(town.drafts()) == 8, "half of them were executed"
    assert {row[0] for row in rows(town)} == {"waiting"}

    client = guarded(town, QUICK)
    town.sandbox.clear_faults()
    town.sandbox.fault("*", "reset_before", count=None)
    town.sandbox.clear_requests()
    for hour in range(1, 72):
        sync_due(town.engine, client, now=begin + timedelta(hours=hour), patience_s=0, threads=2)
    outage = current(town.engine)
    assert outage is not None
    sent = len(town.sandbox.requests())
    assert sent <= QUICK.subjects + 4 + outage.probes + 12, "but for those that found out, only probes were sent"

    town.sandbox.advance(72 * 3600)
    town.sandbox.clear_faults()
    town.sandbox.clear_requests()
    time.sleep(0.25)
    back = begin + timedelta(hours=72)
    for minutes in (0, 20, 40, 59):
        sync_due(town.engine, client, now=back + timedelta(minutes=minutes), patience_s=2)
    assert {row[0] for row in rows(town)} == {"done"}
    town.assert_each_stands_once()
    assert not town.drafts()
    assert town.sandbox.counts()["invoices.create"] == 8, "what had been executed was found, not sent again"


def test_slow_answers_hold_no_connection_and_no_transaction(town: Town) -> None:
    """Stripe takes seconds to answer, then longer than we wait: the database does not notice."""
    town.invoices(24)
    town.sandbox.fault("*", "delay_before", delay_s=1.5, count=None)
    client = Client(settings_for(town.sandbox, read_timeout_s=1.0), breaker=Breaker(town.engine, PATIENT))
    seen: list[tuple[int, int]] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            with town.engine.connect() as connection:
                idle, active = connection.execute(ACTIVITY).one()
            seen.append((idle, active))

    watcher = threading.Thread(target=watch)
    watcher.start()
    sync_due(town.engine, client, now=now(), patience_s=0, threads=16)
    stop.set()
    watcher.join()
    assert len(seen) > 10
    # A stalled machine may interrupt a short transaction of ours; one that is held during calls is seen nearly always.
    assert sorted(idle for idle, _ in seen)[len(seen) * 4 // 5] == 0
    assert sorted(active for _, active in seen)[len(seen) // 2] <= 3
    assert current(town.engine) is not None, "calls that take too long are an outage as well"


@pytest.fixture
def deaf() -> Iterator[str]:
    """An address where connections are taken and never answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_person_is_told_at_once_instead_of_waiting_for_a_time_out(engine: Engine, deaf: str) -> None:
    settings = ClientSettings(api_key="sk_test_sandbox_deaf", api_base=deaf, read_timeout_s=0.2)
    client = Client(settings, breaker=Breaker(engine, PATIENT)).for_people()
    for number in range(PATIENT.subjects):
        with pytest.raises((NoAnswer, ServerFailed)):
            client.create_invoice({"customer": f"cus_{number}"}, key=f"inv:{number}:create:g1")
    sent = client.traffic.calls
    with pytest.raises(StripeAway, match="Nothing was sent"):
        client.create_portal_session("cus_1", return_url="http://127.0.0.1/")
    assert client.traffic.calls == sent == PATIENT.subjects


def test_an_invoices_row_says_nothing_of_an_attempt_that_was_none(town: Town) -> None:
    """The outage is found out between claim and call."""
    invoice = town.invoice()
    watch = Breaker(town.engine, PATIENT)
    fail(watch, "inv:1", "inv:2", "inv:3")
    before = town.row(invoice)
    assert town.gateway.sync_one(customer_id=invoice.customer_id, invoice_id=invoice.id, now=now()) == "due"
    after = town.row(invoice)
    assert (after.state, after.attempts, after.unsure_at, after.last_error) == ("due", 0, None, None)
    assert (after.next_attempt_at, after.lease_until) == (before.next_attempt_at, None)
    with Session(town.engine) as session:
        assert not list(town.gateway.problems(session, limit=10))


class Meanwhile:
    """The breaker's own lock; while somebody waits for it, another thread's failure makes all forget what they saw."""

    def __init__(self, watch: Breaker) -> None:
        self._watch = watch
        self._lock = watch._lock

    def __enter__(self) -> None:
        self._lock.acquire()
        self._watch._forget()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_whoever_waits_to_look_while_others_forget_still_gets_an_answer(engine: Engine) -> None:
    watch = Breaker(engine, BreakerRules(known_for_s=0.0))
    watch._lock = Meanwhile(watch)  # type: ignore[assignment]
    looks = threading.Thread(target=lambda: [watch.until_probe_s() for _ in range(3)], daemon=True)
    looks.start()
    looks.join(60)
    assert not looks.is_alive(), "it waits for the lock that it holds itself"
