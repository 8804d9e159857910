"""Random months of many customers, with everything that can happen to an invoice and to a process: 0 cents differ.

`STORY_SEED` tells one story, `STORY_SEEDS` so many (from seed 0), of `STORY_CUSTOMERS` and `STORY_DAYS`. A failing seed
is told again exactly; what it prints begins with the seed and the trace's digest.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.database import create_engine
from app.embedded.state import SANDBOX_KEY_PREFIX
from tests.processes.sandbox import SandboxProcess
from tests.processes.services import Databases
from tests.sandbox.receiver import Receiver
from tests.story.stage import Mortality, Stage
from tests.story.teller import Plan, Teller


class Theatre:
    """Tells stories, each on a database and a sandbox of its own."""

    def __init__(self, databases: Databases, folder: Path, redis_url: str) -> None:
        self._databases, self._folder, self._redis_url = databases, folder, redis_url

    def tell(self, plan: Plan) -> Teller:
        name = self._databases.clone()
        engine = create_engine(self._databases.url(name))
        folder = self._folder / f"{plan.seed}-{len(list(self._folder.iterdir()))}"
        folder.mkdir()
        sandbox, receiver = SandboxProcess(folder, api_key=f"{SANDBOX_KEY_PREFIX}story"), Receiver()
        try:
            sandbox.start(webhook_url=receiver.url, collection_delay_s=60, settlement_delay_s=60)
            with Mortality().installed() as mortality:
                teller = Teller(Stage(engine, sandbox, receiver, mortality, redis_url=self._redis_url), plan)
                teller.tell()
            return teller
        finally:
            sandbox.kill9()
            receiver.close()
            engine.dispose()
            self._databases.drop(name)


@pytest.fixture
def theatre(databases: Databases, tmp_path: Path, redis_url: str) -> Iterator[Theatre]:
    yield Theatre(databases, tmp_path, redis_url)


def test_one(theatre: Theatre) -> None:
    import time
    lo, n = int(os.environ.get("STORY_SEED", "0")), int(os.environ.get("STORY_SEEDS", "1"))
    kinds: Counter[str] = Counter()
    compared = deferred = 0
    for seed in range(lo, lo + n):
        began = time.monotonic()
        try:
         teller = theatre.tell(Plan(seed, int(os.environ.get("STORY_CUSTOMERS", "6")), int(os.environ.get("STORY_DAYS", "70"))))
        except Exception as e:
         print("FAILED", seed, str(e)[:int(os.environ.get("CUT","300"))], repr(e)[:200], flush=True); continue
        kinds += teller.kinds
        compared += teller.judge.compared
        deferred += teller.judge.deferred
        print([round(x) for x in os.times()], f"{time.monotonic()-began:.1f}s", seed, teller.digest, len(teller.trace), teller.judge.compared, teller.judge.deferred, round(time.monotonic() - began, 1), flush=True)
    print(sorted(kinds.items()), compared, deferred)
