"""The stages from which flows begin, made once per test process."""

from collections.abc import Iterator

import pytest

from tests.faults.stages import Stages
from tests.processes.services import Databases, TestServers

AT_ONCE = 2
"""Points that a test strikes at the same time."""
FIRST_REDIS = 32
"""Redis databases below are the xdist workers' own."""


@pytest.fixture(scope="session")
def stages(
    servers: TestServers, databases: Databases, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Iterator[Stages]:
    worker = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    numbers = [FIRST_REDIS + AT_ONCE * worker + slot for slot in range(AT_ONCE)]
    urls = [f"{servers.redis_url.rstrip('/')}/{number}" for number in numbers]
    made = Stages(servers, databases, urls, tmp_path_factory.mktemp("stages"))
    yield made
    made.close()
