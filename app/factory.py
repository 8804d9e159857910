"""The web application: every room's pages behind one factory."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from flask import Flask, Response, g
from flask_wtf.csrf import CSRFProtect
from sqlalchemy.orm import Session
from werkzeug.middleware.proxy_fix import ProxyFix

from app import errors
from app.api.views import bp as api
from app.composition import Billing, build
from app.config import Config
from app.doorbell import ring
from app.health import bp as health
from app.hooks import bp as hooks
from app.panel.views import bp as panel
from app.signin.views import bp as signin
from app.signin.views import init_app as init_signin
from support_ui.blueprint import bp as support

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

MAX_BODY = 2 * 1024 * 1024  # bytes; the largest usage batch and the largest webhook are well below

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def behind_proxy(app: Flask, config: Config) -> "WSGIApplication":
    """The application as a web server calls it.

    With a public address of https it stands behind the one proxy that ends TLS, whose word for who asks and by which
    scheme counts. Without one anybody could give it, and it counts for nothing.
    """
    return ProxyFix(app, x_for=1, x_proto=1, x_host=1) if config.public_url.startswith("https://") else app


def create_app(config: Config, *, billing: Billing | None = None) -> Flask:
    """The WSGI application. `billing` is built from `config` unless the caller has one to share."""
    app = Flask("app", static_folder=None)
    joined = billing or build(config)
    app.extensions["billing"] = joined
    app.config.update(
        SECRET_KEY=config.secret_key,
        MAX_CONTENT_LENGTH=MAX_BODY,
        SESSION_COOKIE_NAME="billing_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=config.public_url.startswith("https://"),
        PERMANENT_SESSION_LIFETIME=timedelta(hours=12),
        WTF_CSRF_TIME_LIMIT=None,  # a draft may lie open all day; the token lives as long as its session
        RATELIMIT_STORAGE_URI=config.redis_url,
        RATELIMIT_IN_MEMORY_FALLBACK_ENABLED=True,  # losing Redis must not lock the staff out
        RATELIMIT_KEY_PREFIX="billing",
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    csrf = CSRFProtect(app)
    for blueprint in (api, hooks, health):
        csrf.exempt(blueprint)
    init_signin(app)
    _bind_requests(app, joined)
    errors.register(app)
    for blueprint in (support, signin, panel, api, hooks, health):
        app.register_blueprint(blueprint)
    return app


def _bind_requests(app: Flask, billing: Billing) -> None:
    """Give each request one session and one clock reading; commit what succeeded, roll back what did not."""

    @app.before_request
    def open_request() -> None:
        g.session = Session(billing.engine, expire_on_commit=False)
        g.now = datetime.now(UTC)
        g.provider = billing.providers
        g.gateway = billing.provider
        g.settings = billing.settings
        g.config = billing.config
        g.billing = billing
        g.bells = []
        g.ring = lambda *bell: g.bells.append(bell)  # rung after the commit: whoever hears it must find the row

    @app.after_request
    def commit_request(response: Response) -> Response:
        session: Session | None = g.get("session")
        if session is not None:
            if response.status_code < 400:
                session.commit()
                for kind, *ids in g.bells:
                    ring(billing.config, kind, *ids)
            else:
                session.rollback()
        return _secured(response)

    @app.teardown_request
    def close_request(_: BaseException | None) -> None:
        session: Session | None = g.pop("session", None)
        if session is not None:
            session.close()


def _secured(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("X-Frame-Options", "DENY")
    headers.setdefault("Referrer-Policy", "same-origin")
    headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    if not headers.get("Cache-Control"):
        headers["Cache-Control"] = "no-store"  # money is never shown from a cache
    return response
