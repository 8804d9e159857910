"""The API's blueprint: every request carries a token, every refusal is a problem document, nothing is cached."""

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from app.accounts.tokens import TokenError
from app.api.problems import problem_response
from app.api.requests import ApiRefusal, authenticate
from app.panel.links import LinkError

bp = Blueprint("api", __name__, url_prefix="/api/v1")

OPEN_ENDPOINTS = frozenset({"api.openapi"})
"""What a program may read before it has a token."""


@bp.before_request
def require_token() -> None:
    """Nobody learns anything without a token, not even which ids exist."""
    if request.endpoint not in OPEN_ENDPOINTS:
        authenticate()


@bp.after_request
def never_cache(response: Response) -> Response:
    """Money is not to be shown from a cache."""
    response.headers["Cache-Control"] = "no-store"
    return response


@bp.errorhandler(ApiRefusal)
def refuse(error: ApiRefusal) -> ResponseReturnValue:
    """What the API itself refuses."""
    return problem_response(status=error.status, code=error.code, title=error.title, detail=str(error), error=error)


@bp.errorhandler(LinkError)
@bp.errorhandler(TokenError)
def refuse_link(error: LinkError | TokenError) -> ResponseReturnValue:
    """What the panel and the accounts refuse."""
    return problem_response(status=422, code=error.code, title="Not acceptable", detail=str(error), error=error)
