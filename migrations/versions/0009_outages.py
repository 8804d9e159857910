"""Since when Stripe is away, and how far its events were read.

Why: all processes must know at once that Stripe is away, and one at a time may ask whether it is back. Redis may be
lost at the same moment, so it is remembered here; outages that are over are kept, for whoever asks later what happened.
Stripe's events can be lost on their way to us, so its list of them is read as well: how far, and where each event came
from, stands here too. Chargebacks come up to 13 months later, so no event is deleted within 400 days.
Locks: reads and writes of stripe_events wait while a check and an index are made on it: seconds for a million events,
and Stripe delivers again what it could not deliver meanwhile. All tables are new.
Undo: drops the tables: the history of outages is lost, everybody believes that Stripe is there until calls fail, and
the next catch-up reads all events that Stripe still lists.
"""

from migrations.sql import run

revision = "0009"
down_revision = "0008"

OUTAGES = """
CREATE TABLE stripe_outages (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    since         timestamptz NOT NULL,
    until         timestamptz,
    last_code     text NOT NULL,
    last_error    text NOT NULL,
    failures      integer NOT NULL CHECK (failures > 0),
    probes        integer NOT NULL DEFAULT 0 CHECK (probes >= 0),
    pause_s       numeric NOT NULL CHECK (pause_s > 0),
    next_probe_at timestamptz NOT NULL,
    CONSTRAINT stripe_outages_end_after_they_begin CHECK (until >= since)
);
COMMENT ON TABLE stripe_outages IS
    'When Stripe did not answer, by this server''s clock. While one has no end, nothing is sent but probes.';
COMMENT ON COLUMN stripe_outages.pause_s IS 'Seconds between the last probe and the next; it doubles with each.';
CREATE UNIQUE INDEX stripe_outages_one_at_a_time ON stripe_outages ((true)) WHERE until IS NULL;

CREATE TABLE stripe_failures (
    subject  text PRIMARY KEY,
    first_at timestamptz NOT NULL,
    last_at  timestamptz NOT NULL,
    code     text NOT NULL,
    error    text NOT NULL,
    CHECK (last_at >= first_at)
);
COMMENT ON TABLE stripe_failures IS
    'What failed in a row, over distinct subjects, and may be the beginning of an outage; the next success empties it.';

CREATE FUNCTION stripe_outages_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id <> OLD.id OR NEW.since <> OLD.since OR NEW.failures < OLD.failures OR NEW.probes < OLD.probes THEN
        RAISE EXCEPTION 'outage % refused: when it began stands, and its counts only rise', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF OLD.until IS NOT NULL AND NEW IS DISTINCT FROM OLD THEN
        RAISE EXCEPTION 'outage % refused: it is over and stays as it was', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_forward BEFORE UPDATE ON stripe_outages
    FOR EACH ROW EXECUTE FUNCTION stripe_outages_changed();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON stripe_outages
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_refuse_change();

-- How many were done today, and in the last minutes, for whoever asks how long it will take.
CREATE INDEX stripe_syncs_done ON stripe_syncs (done_at) WHERE state = 'done';

GRANT SELECT, INSERT, UPDATE ON stripe_outages TO billing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON stripe_failures TO billing_app;
"""

# How far Stripe's list of events was read, where each event came from, and how long events are kept.
CURSORS = """
CREATE TABLE stripe_cursors (
    name            text PRIMARY KEY,
    types           text[] NOT NULL DEFAULT '{}',
    read_to         timestamptz,
    checked_at      timestamptz,
    window_types    text[],
    window_from     timestamptz,
    window_newest   timestamptz,
    window_began_at timestamptz,
    page_after      text,
    fence           bigint NOT NULL DEFAULT 0 CHECK (fence >= 0),
    CONSTRAINT stripe_cursors_read_and_checked CHECK (read_to IS NULL OR checked_at IS NOT NULL),
    CONSTRAINT stripe_cursors_window_is_whole CHECK ((window_began_at IS NULL) = (window_types IS NULL)
        AND (window_began_at IS NOT NULL
             OR (window_from IS NULL AND window_newest IS NULL AND page_after IS NULL)))
);
COMMENT ON TABLE stripe_cursors IS
    'How far the list of events at Stripe was read, for each group of event types. read_to, window_from and '
    'window_newest are Stripe''s times, checked_at and window_began_at ours.';

CREATE FUNCTION stripe_cursors_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.name <> OLD.name OR NEW.fence < OLD.fence OR NEW.read_to < OLD.read_to OR NEW.checked_at < OLD.checked_at
       OR (NEW.read_to IS NULL AND OLD.read_to IS NOT NULL)
       OR (NEW.checked_at IS NULL AND OLD.checked_at IS NOT NULL) THEN
        RAISE EXCEPTION 'cursor % refused: what was read stays read', OLD.name
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_forward BEFORE UPDATE ON stripe_cursors
    FOR EACH ROW EXECUTE FUNCTION stripe_cursors_changed();
CREATE TRIGGER kept BEFORE TRUNCATE ON stripe_cursors
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_refuse_change();

ALTER TABLE stripe_events
    ADD COLUMN source text NOT NULL DEFAULT 'webhook' CHECK (source IN ('webhook', 'list')),
    ADD COLUMN api_version text,
    DROP CONSTRAINT stripe_events_deliveries_check,
    ADD CONSTRAINT stripe_events_deliveries_check CHECK (deliveries > 0 OR (deliveries = 0 AND source = 'list'));
CREATE INDEX stripe_events_by_type ON stripe_events (state, type);

CREATE FUNCTION stripe_events_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state IN ('pending', 'parked') OR OLD.received_at > clock_timestamp() - interval '400 days' THEN
        RAISE EXCEPTION 'event % refused: events are kept for 400 days, and until they are handled', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER kept_400_days BEFORE DELETE ON stripe_events
    FOR EACH ROW EXECUTE FUNCTION stripe_events_kept();

GRANT SELECT, INSERT ON stripe_cursors TO billing_app;
GRANT UPDATE ON stripe_cursors TO billing_app;
"""

# What downgrade drops, in the order in which it can be dropped.
UNDO_CURSORS = """
DROP TRIGGER kept_400_days ON stripe_events;
DROP FUNCTION stripe_events_kept();
DROP INDEX stripe_events_by_type;
UPDATE stripe_events SET deliveries = 1 WHERE deliveries = 0;
ALTER TABLE stripe_events
    DROP COLUMN source,
    DROP COLUMN api_version,
    ADD CONSTRAINT stripe_events_deliveries_check CHECK (deliveries > 0);
DROP TABLE stripe_cursors;
DROP FUNCTION stripe_cursors_changed();
"""


def upgrade() -> None:
    for part in (OUTAGES, CURSORS):
        if part.strip():
            run(part)


def downgrade() -> None:
    if UNDO_CURSORS.strip():
        run(UNDO_CURSORS)
    run("""
        DROP INDEX stripe_syncs_done;
        DROP TABLE stripe_failures, stripe_outages;
        DROP FUNCTION stripe_outages_changed;
    """)
