"""What the API accepts: who may call, and how bodies and queries are read."""

from collections.abc import Mapping, Sequence
from typing import Any

from flask import g, request
from marshmallow import Schema, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from app.accounts.tokens import WrongToken, recognise
from invoicing.coded_fields import Coded, coded_errors
from invoicing.exact_json import MalformedJson, load_json

MAX_BODY = 2 * 1024 * 1024  # bytes


class ApiRefusal(Exception):
    """The API refuses the request as such. `status` is the HTTP status, `headers` what belongs to it."""

    code = "bad_request"
    status = 400
    title = "Bad request"

    def __init__(self, detail: str | None = None, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail or self.__doc__)
        self.headers = headers or {}


class BodyMalformed(ApiRefusal):
    """The body is no JSON that we can read."""

    code = "malformed_json"
    title = "Malformed JSON"


class BodyTooLarge(ApiRefusal):
    """The body is larger than 2 MiB. Send several smaller batches."""

    code = "body_too_large"
    status = 413
    title = "Body too large"


class BatchTooLarge(ApiRefusal):
    """More events than one request takes. Send several smaller batches."""

    code = "batch_too_large"
    status = 413
    title = "Batch too large"


class NotJson(ApiRefusal):
    """Send JSON in UTF-8, uncompressed, with the header Content-Type: application/json."""

    code = "unsupported_media_type"
    status = 415
    title = "Unsupported media type"


class Unauthorized(ApiRefusal):
    """Send a valid token in the header Authorization: Bearer TOKEN."""

    code = "wrong_token"
    status = 401
    title = "Unauthorized"


class FieldsRefused(ApiRefusal):
    """Some fields are not acceptable; `problems` names each: field, code, sentence."""

    code = "fields_refused"
    status = 422
    title = "Some fields are not acceptable"

    def __init__(self, problems: list[tuple[str, str, str]]) -> None:
        self.problems = problems
        said = "; ".join(f"{field}: {message.removesuffix('.')}" for field, _, message in problems)
        super().__init__(f"{said}.")


def authenticate() -> None:
    """Refuse a request without a valid token; whose it is becomes `g.actor`.

    Raises:
        Unauthorized: always with the challenge that RFC 6750 asks for.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized(headers={"WWW-Authenticate": 'Bearer realm="billing"'})
    try:
        known = recognise(g.session, token=token.strip())
    except WrongToken as refusal:
        challenge = 'Bearer realm="billing", error="invalid_token"'
        raise Unauthorized(str(refusal), headers={"WWW-Authenticate": challenge}) from None
    g.actor = f"api:{known.name}"


def read_json() -> Any:
    """The request's body, its numbers exact.

    Raises:
        NotJson, BodyTooLarge, BodyMalformed: as they say.
    """
    if request.mimetype != "application/json" or request.headers.get("Content-Encoding", "identity") != "identity":
        raise NotJson
    # Of a body in chunks, whose length nobody announced, reading may end silently at the limit: ask for one byte more.
    request.max_content_length = MAX_BODY + 1
    try:
        body = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise BodyTooLarge from None
    if len(body) > MAX_BODY:
        raise BodyTooLarge
    try:
        return load_json(body)
    except MalformedJson as error:
        raise BodyMalformed(str(error)) from None


def read_body(schema: Schema) -> Mapping[str, Any]:
    """The request's body as `schema` reads it.

    Raises:
        FieldsRefused: it has other fields, or wrong ones; all are named.
    """
    return load_fields(schema, read_json())


def load_fields(schema: Schema, data: Any) -> Mapping[str, Any]:
    """`data` as `schema` reads it.

    Raises:
        FieldsRefused: some fields are not acceptable; all are named.
    """
    try:
        loaded: Mapping[str, Any] = schema.load(data)
    except ValidationError as error:
        raise FieldsRefused(
            [
                (".".join(str(key) for key in path) or "body", message.code, _sentence(message, path, schema))
                for path, message in coded_errors(error.messages)
            ]
        ) from None
    return loaded


def _sentence(message: Coded, path: Sequence[str | int], schema: Schema) -> str:
    """What is wrong with a field; one that is not known is told which are."""
    if message.code == "unknown_field" and len(path) == 1:
        return f"{message} Known are: {', '.join(sorted(schema.fields))}."
    return str(message)
