"""Sign-in, complete: importing a module of views adds its routes to the blueprint."""

from app.signin import entrance, users
from app.signin.blueprint import bp, init_app

__all__ = ["bp", "entrance", "init_app", "users"]
