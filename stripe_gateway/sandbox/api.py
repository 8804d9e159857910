"""One API request from its bytes to its answer: keys, limits, faults, validation, idempotency, execution."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from .endpoints import Endpoint, find_endpoint
from .errors import ApiError, Json, invalid, server_error, unauthorized
from .faults import CUTS, Fault, Faults
from .forms import decode_form
from .idempotency import Keys, Result, digest_of
from .ids import new_id
from .limits import Limits, ObjectLocks
from .messages import Answer, Request
from .params import read_params
from .recorder import Recorder
from .request_log import log_request
from .views import expand, view
from .world import API_VERSION, Call, Origin, World


@dataclass
class Trace:
    """What is known about the request so far, for its log line and its headers."""

    request_id: str
    version: str
    endpoint: str | None = None
    params: Json = field(default_factory=dict)
    key: str | None = None
    replayed: bool = False
    fault: Fault | None = None
    logged: bool = False


class Api:
    """The API of one account."""

    def __init__(self, world: World, keys: Keys, *, api_key: str, recorder: Recorder | None = None) -> None:
        self.world = world
        self.faults = Faults()
        self.limits = Limits()
        self.locks = ObjectLocks()
        self._keys = keys
        self._api_key = api_key
        self._recorder = recorder

    def answer(self, request: Request) -> Answer:
        """Serve one request; every outcome, refusals too, is an answer and a line in the request log."""
        trace = Trace(new_id("req"), request.headers.get("stripe-version", API_VERSION))
        try:
            answer = self._serve(request, trace)
        except ApiError as error:
            answer = Answer(error.status, _dump(error.body), dict(error.headers))
        if not trace.logged:
            with self.world.store.transaction():
                self._log(request, trace, answer.status, answer.body)
        if self._recorder is not None:
            self._recorder.exchange(request, answer)
        answer.headers["Request-Id"] = trace.request_id
        answer.headers["Stripe-Version"] = trace.version
        if trace.key:
            answer.headers["Idempotency-Key"] = trace.key
        if trace.fault is not None:
            _mistreat(answer, trace.fault)
        return answer

    def _serve(self, request: Request, trace: Trace) -> Answer:
        # Stripe's search is behind by up to an hour and missing in some countries, so nobody may build on it: it is
        # not here either, and must not be taken for the object of that id. https://docs.stripe.com/search
        found = None if request.path.endswith("/search") else find_endpoint(request.method, request.path)
        if found is None:
            raise ApiError(
                404,
                f"Unrecognized request URL ({request.method}: {request.path}). Please see https://stripe.com/docs",
                stored=False,
            )
        endpoint, ids = found
        trace.endpoint = endpoint.name
        # GET and DELETE are repeatable by their nature: a key on them is not even looked at.
        trace.key = (request.headers.get("idempotency-key") or None) if request.method == "POST" else None
        self._authenticate(request.headers.get("authorization", ""))
        trace.params = _raw_params(request)
        fault = trace.fault = self.faults.strike(endpoint.name, request.method, request.path)
        refusal = fault.refusal() if fault is not None else None
        if refusal is not None:
            raise refusal
        if fault is not None and fault.kind in ("reset_before", "fin_before"):
            return Answer(0, b"")
        with self.limits.admitted(endpoint.name, self.world.settings):
            if trace.key is None:
                return self._run(request, trace, endpoint, ids)
            return self._run_once(request, trace, endpoint, ids, trace.key)

    def _authenticate(self, header: str) -> None:
        scheme, _, rest = header.partition(" ")
        given = rest.strip()
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[0]
            except (binascii.Error, UnicodeDecodeError):
                given = ""
        if not given:
            raise unauthorized(
                "You did not provide an API key. You need to provide your API key in the Authorization header, using "
                "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
            )
        if not hmac.compare_digest(given.encode(), self._api_key.encode()):
            shown = f"{given[:8]}{'*' * 8}{given[-4:]}" if len(given) > 12 else "*" * len(given)
            raise unauthorized(f"Invalid API Key provided: {shown}")

    def _run_once(self, request: Request, trace: Trace, endpoint: Endpoint, ids: tuple[str, ...], key: str) -> Answer:
        # The address with its ids is part of what must be the same: "finalize in_1" is not "finalize in_2".
        digest = digest_of(trace.params)
        address = f"{request.method} {request.path}"
        with self.world.store.lock:
            stored = self._keys.begin(key, endpoint=address, digest=digest)
        if stored is not None:
            trace.replayed = True
            return Answer(
                stored.status,
                stored.body,
                {"Idempotent-Replayed": "true", "Original-Request": stored.request_id},
            )
        try:
            return self._run(request, trace, endpoint, ids, address=address, digest=digest)
        finally:
            with self.world.store.lock:
                self._keys.end(key)

    def _run(
        self,
        request: Request,
        trace: Trace,
        endpoint: Endpoint,
        ids: tuple[str, ...],
        *,
        address: str = "",
        digest: str = "",
    ) -> Answer:
        """Validate, execute and keep the result, all in one transaction with the request's log line."""
        params = read_params(endpoint.params, trace.params)
        paths = params.pop("expand", None) or []
        fault, settings = trace.fault, self.world.settings
        locked = _written(request, ids, params) if settings.limits_enabled and settings.object_locks else ()
        call = Call(self.world, ids, params, paths)
        with ExitStack() as stack:
            stack.enter_context(self.locks.held(locked, wait_s=settings.lock_wait_s))
            if settings.latency_s:
                time.sleep(settings.latency_s)
            if fault is not None and fault.kind == "delay_before":
                fault.pause()
            stack.enter_context(self.world.store.transaction())
            stack.enter_context(self.world.acting_for(Origin(trace.request_id, trace.key)))
            status, body, keep, headers = self._execute(call, endpoint, fault)
            answer = Answer(status, body, headers)
            if trace.key is not None and keep:
                result = Result(status, body, trace.request_id)
                self._keys.keep(trace.key, endpoint=address, digest=digest, result=result)
            self._log(request, trace, status, body)
            trace.logged = True
        return answer

    def _execute(self, call: Call, endpoint: Endpoint, fault: Fault | None) -> tuple[int, bytes, bool, dict[str, str]]:
        """Do the work inside the caller's transaction, undoing what a refusal must not leave behind.

        Returns the status, the body, whether the idempotency layer keeps them, and further headers.
        """
        if fault is not None and fault.kind == "500_before":
            return _broken(fault)
        store = self.world.store
        store.execute("SAVEPOINT work")
        try:
            shown = view(self.world, endpoint.serve(call))
            body = _dump(expand(self.world, shown, call.expand))
            status, keep, headers = 200, True, {}
        except ApiError as error:
            if not error.keeps_work:
                store.execute("ROLLBACK TO work")
            status, body, keep, headers = error.status, _dump(error.body), error.stored, dict(error.headers)
        store.execute("RELEASE work")
        if fault is not None and fault.kind == "500_after":
            return _broken(fault)
        return status, body, keep, headers

    def _log(self, request: Request, trace: Trace, status: int, body: bytes) -> None:
        code = None
        if status >= 400:
            error = json.loads(body)["error"]
            code = error.get("code") or error["type"]
        log_request(
            self.world,
            request_id=trace.request_id,
            method=request.method,
            path=request.path,
            endpoint=trace.endpoint,
            params=trace.params,
            key=trace.key,
            status=status,
            replayed=trace.replayed,
            fault=trace.fault.kind if trace.fault else None,
            error_code=code,
        )


def _broken(fault: Fault) -> tuple[int, bytes, bool, dict[str, str]]:
    error = server_error(should_retry=fault.should_retry)
    return 500, _dump(error.body), fault.stored, error.headers


# Parameters that name the object which a request changes although its address does not.
_CHANGED_BY_NAME = ("invoice", "charge", "payment_intent")


def _written(request: Request, ids: tuple[str, ...], params: Json) -> tuple[str, ...]:
    """The objects that nobody else may write meanwhile: a credit note changes its invoice, a refund its charge."""
    if request.method not in ("POST", "DELETE"):
        return ()
    named = (params.get(name) for name in _CHANGED_BY_NAME)
    return (*ids[:1], *(value for value in named if isinstance(value, str)))


def _raw_params(request: Request) -> Json:
    params = decode_form(request.query)
    if request.method == "POST" and request.body:
        kind = request.headers.get("content-type", "application/x-www-form-urlencoded")
        if not kind.startswith("application/x-www-form-urlencoded"):
            raise invalid(f"Invalid request: content type {kind} is not application/x-www-form-urlencoded.")
        try:
            params.update(decode_form(request.body.decode()))
        except UnicodeDecodeError as error:
            raise invalid("Invalid request: the form is not UTF-8.") from error
    return params


def _mistreat(answer: Answer, fault: Fault) -> None:
    """What happens to the answer on its way back."""
    if fault.kind in CUTS:
        answer.cut = CUTS[fault.kind]
    elif fault.kind == "delay_after":
        fault.pause()


def _dump(body: Json) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
