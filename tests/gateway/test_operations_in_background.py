"""What staff begin is done by a worker at once, and by the clock if nobody hears the bell."""

from pathlib import Path

from app.composition import build
from app.config import Config
from app.doorbell import ring
from app.scheduler import sweep
from tests.gateway import movement as do
from tests.gateway.conftest import Town, now
from tests.gateway.test_background import AWAY, environment, process, wait_until


def test_a_worker_that_hears_the_bell_carries_out_what_a_person_began(
    town: Town, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    invoice = do.standing(town, "acme", "100")
    given = do.void(town, invoice)
    env = environment(town, database_url, redis_url, tmp_path)
    with process("worker", env):
        assert ring(Config.from_env(env), "operation", invoice.customer_id, given)
        wait_until(lambda: do.movement(town, invoice, given).state == "done")
    assert do.at_stripe(town, invoice)["status"] == "void"


def test_without_redis_the_sweep_carries_it_out_itself(town: Town, database_url: str, tmp_path: Path) -> None:
    invoice = do.standing(town, "acme", "100")
    given = do.void(town, invoice)
    billing = build(Config.from_env(environment(town, database_url, AWAY, tmp_path)))
    assert sweep(billing, now())["operations"] == 1
    assert sweep(billing, now()) == {}
    billing.dispose()
    assert do.movement(town, invoice, given).state == "done"
