"""The ledger: double-entry books in Postgres, the source of truth for money."""

import decimal

# Python's decimals round every sum to 28 digits unless told otherwise, silently; an amount may have 15 digits before
# the point and 30 behind it. This holds for every thread that starts later, and for the one that imports us first.
PRECISION = 100
decimal.DefaultContext.prec = PRECISION
decimal.getcontext().prec = PRECISION
