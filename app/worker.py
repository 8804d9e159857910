"""The worker: an rq worker on the one queue, which comes back whenever Redis does."""

import logging
import signal
import threading
from types import FrameType

import redis
import structlog
from rq import Queue, SimpleWorker

from app import jobs
from app.config import Config
from app.doorbell import QUEUE

_LOG = structlog.get_logger(__name__)

WORKER_TTL_S = 30  # a killed worker is forgotten after this, not after rq's seven minutes
MAINTENANCE_S = 5
JOB_MONITORING_S = 2
BACK_OFF_S = (0.5, 1.0, 2.0, 5.0)


def main(config: Config) -> None:
    """Work until SIGTERM or SIGINT; a job under way is finished first."""
    logging.getLogger("rq").setLevel(logging.WARNING)
    jobs.billing()  # a wrong setting is said now, not at the first job
    stopped = threading.Event()
    failures = 0
    while not stopped.is_set():
        try:
            _work(config, stopped)
            failures = 0
        except redis.RedisError as error:
            _LOG.warning("the worker waits for Redis", error=str(error))
        if not stopped.is_set():
            stopped.wait(BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)])
            failures += 1
    jobs.billing().dispose()


def _work(config: Config, stopped: threading.Event) -> None:
    """Run one rq worker until it is asked to stop, or gives up because Redis is away."""
    with redis.Redis.from_url(config.redis_url) as connection:
        worker = _Worker(
            [Queue(QUEUE, connection=connection, serializer="json")],
            connection=connection,
            serializer="json",
            worker_ttl=WORKER_TTL_S,
            maintenance_interval=MAINTENANCE_S,
            job_monitoring_interval=JOB_MONITORING_S,
            log_job_description=False,
        )
        worker.stopped = stopped
        worker.work(logging_level="WARNING")


class _Worker(SimpleWorker):
    """Runs jobs in its own process: connections are kept between jobs, and a kill ends the job with the worker.

    rq's forking worker would leave a killed worker's job running on its own.
    """

    stopped: threading.Event

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        self.stopped.set()
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]  # rq leaves it untyped

    def _install_signal_handlers(self) -> None:
        signal.signal(signal.SIGINT, self.request_stop)
        signal.signal(signal.SIGTERM, self.request_stop)
