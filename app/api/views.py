"""The HTTP API under /api/v1, as the factory registers it: the blueprint with every resource on it."""

from app.api import credit, customers, early_bills, movements, openapi, plans, tax_profiles, usage
from app.api.blueprint import bp

__all__ = ["bp", "credit", "customers", "early_bills", "movements", "openapi", "plans", "tax_profiles", "usage"]
