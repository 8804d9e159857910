"""Refusals as the API tells them: RFC 9457 problem details, each with a stable `code`."""

import json

from flask import Response
from werkzeug.exceptions import HTTPException

from invoicing.usage.intake import RowProblem
from ledger.entries import EntryProblem

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:fly-billing:problem:"


def problem_response(
    *, status: int, code: str, title: str, detail: str, error: BaseException | None = None
) -> Response:
    """The answer to a request that is refused or failed.

    `error` may name rows and fields (`problems`), which become the member `errors`, and may know headers that belong
    to its status, such as Allow or WWW-Authenticate.

    Source: https://www.rfc-editor.org/rfc/rfc9457
    """
    members: dict[str, object] = {
        "type": TYPE_PREFIX + code,
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }
    errors = _errors(error)
    if errors:
        members["errors"] = errors
    response = Response(json.dumps(members, ensure_ascii=False), status=status, content_type=CONTENT_TYPE)
    for name, value in _headers(error):
        response.headers[name] = value
    response.headers["Cache-Control"] = "no-store"
    return response


def _errors(error: BaseException | None) -> list[dict[str, object]]:
    """What each of our refusals that name their parts says about each: row (from 0), field, code, message."""
    found: list[dict[str, object]] = []
    for problem in getattr(error, "problems", ()):
        if isinstance(problem, RowProblem):
            found.append({"row": problem.row, "field": problem.field, "code": problem.code, "message": problem.message})
        elif isinstance(problem, EntryProblem):
            found.append(
                {"row": problem.index, "field": problem.field, "code": problem.code, "message": problem.message}
            )
        else:
            field, code, message = problem
            found.append({"field": field, "code": code, "message": message})
    return found


def _headers(error: BaseException | None) -> list[tuple[str, str]]:
    headers = getattr(error, "headers", None)
    if isinstance(headers, dict):
        return list(headers.items())
    if isinstance(error, HTTPException):
        return [(name, value) for name, value in error.get_headers() if name.lower() != "content-type"]
    return []
