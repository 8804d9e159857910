"""Rings the bell for work that stands in Postgres already. Nothing is lost if nobody hears it: a sweep finds the rows.

Ring after the commit: whoever hears the bell must find the row.
"""

import time
from functools import cache
from typing import Any

import redis
import structlog
from rq import Queue
from rq.exceptions import DuplicateJobError

from app.config import Config

QUEUE = "billing"
REDIS_TIMEOUT_S = 0.5  # a person may be waiting for the page behind this call
SILENT_S = 5.0  # after Redis failed, how long the bell is not even tried
JOB_TIMEOUT_S = 300
FAILED_KEPT_S = 24 * 3600

JOBS = {
    "event": "app.jobs.handle_event",
    "sync": "app.jobs.sync_invoice",
    "sync_now": "app.jobs.sync_invoice_now",
    "operation": "app.jobs.carry_out",
}
"""What can be rung for, and the job that answers. Ids: an event's; a customer's and an invoice's; a customer's and that
of a movement, refund or credit note."""

WAITED_FOR = frozenset({"sync_now", "operation"})
"""A person waits for these: they go before everything that is queued."""

_LOG = structlog.get_logger(__name__)


class Doorbell:
    """The bell of one Redis. Threads may share it."""

    def __init__(self, redis_url: str) -> None:
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
        )
        # Pickle is rq's default, and runs whatever stands in Redis.
        self._queue = Queue(QUEUE, connection=self._redis, serializer="json")
        self._silent_until = 0.0

    def ring(self, kind: str, *ids: str) -> bool:
        """Queue the job for these ids, unless it is queued already; False if Redis is away. Never raises for that."""
        if time.monotonic() < self._silent_until:
            return False
        try:
            self._queue.enqueue_call(
                JOBS[kind],
                args=ids,
                job_id="-".join((kind, *ids)),
                unique=True,
                timeout=JOB_TIMEOUT_S,
                at_front=kind in WAITED_FOR,
                result_ttl=0,
                failure_ttl=FAILED_KEPT_S,
            )
        except DuplicateJobError:
            return True
        except redis.RedisError as error:
            self._silent_until = time.monotonic() + SILENT_S
            _LOG.warning("the bell is silent, the sweep will find the work", error=str(error))
            return False
        return True


@cache
def doorbell(redis_url: str) -> Doorbell:
    """This process's bell for a Redis."""
    return Doorbell(redis_url)


def ring(config: Config, kind: str, *ids: Any) -> bool:
    """Ring for one piece of work, such as `ring(config, "sync", customer_id, invoice_id)`. Never raises for Redis."""
    return doorbell(config.redis_url).ring(kind, *(str(one) for one in ids))
