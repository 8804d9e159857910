"""What went over the wire, written down for whoever wants to hold it against Stripe's own schema.

A run of ten thousand invoices says the same few hundred things again and again. So only what differs in more than its
identifiers, numbers and dates is written: a wrong word, a missing field or another type always is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from pathlib import Path

from .messages import Answer, Request

EXCHANGES_VARIABLE = "SANDBOX_EXCHANGES"
"""Names the folder for every sandbox that a test starts, also for one that is a child of a command under test."""

# Identifiers such as cus_Ab1..., numbers, what is left of a token in an address, and of a UUID. What has no digit, such
# as a value of an enumeration, stays; so do the sign and the point of a number. Several plain patterns one after the
# other take a quarter of the time of one that does it all.
_VOLATILE = [
    re.compile(pattern)
    for pattern in (rb"_[A-Za-z]*[0-9][0-9A-Za-z]*", rb"[0-9][0-9A-Za-z]*", rb"/[A-Za-z]*0", rb'[-":=][a-f]*0')
]


class Recorder:
    """Appends to one file of its own in a folder: a JSON object a line, of a request with its answer or of an event.

    One write a line, so a killed process leaves whole lines. Any thread may call it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # The process's number alone comes again; the file of a former process is continued then, which is no harm.
        self._file = (folder / f"{os.getpid()}.jsonl").open("ab", buffering=0)
        self._seen: set[bytes] = set()
        self._lock = threading.Lock()

    def exchange(self, request: Request, answer: Answer) -> None:
        """Write one request and its whole answer, whatever the network is made to do to it afterwards."""
        told = (request.method, request.path, request.query, str(answer.status))
        if not self._is_new("\n".join(told).encode() + b"\n" + request.body + b"\n" + answer.body):
            return
        self._write(
            {
                "method": request.method,
                "path": request.path,
                "query": request.query,
                "form": request.body.decode("utf-8", "replace"),
                "status": answer.status,
                "answer": answer.body.decode(),
            }
        )

    def event(self, body: bytes) -> None:
        """Write the body of a webhook as it is sent."""
        if self._is_new(body):
            self._write({"event": body.decode()})

    def _is_new(self, text: bytes) -> bool:
        for pattern in _VOLATILE:
            text = pattern.sub(b"0", text)
        mark = hashlib.blake2b(text, digest_size=16).digest()
        with self._lock:
            if mark in self._seen:
                return False
            self._seen.add(mark)
            return True

    def _write(self, line: dict[str, str | int]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
