"""The blueprint that sign-in, account and users pages hang on."""

from flask import Blueprint, Flask, Response

from app.signin import sessions
from app.signin.limits import limiter
from support_ui.site import refuse_unstorable

bp = Blueprint("signin", __name__, url_prefix="/support", template_folder="templates")
bp.before_request(refuse_unstorable)


def init_app(app: Flask) -> None:
    """Make sessions and limits known to the app. The limits' storage is its RATELIMIT_STORAGE_URI."""
    sessions.init_app(app)
    limiter.init_app(app)


@bp.after_request
def keep_private(response: Response) -> Response:
    """Nothing here belongs into a cache."""
    response.headers["Cache-Control"] = "no-store"
    return response
