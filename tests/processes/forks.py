"""Processes that start at once: forked from a server that has imported the product already, and holds nothing else.

One server for everything, since the first process that it forks decides what it has imported.
"""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["tests.processes.sandbox", "tests.processes.warm", "tests.faults.driver", "tests.gateway.test_kill_during_sync"]
)
