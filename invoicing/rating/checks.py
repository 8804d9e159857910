"""Checks of rating: counters, and what plans gave back, recomputed from the ledger's totals. Empty means it holds."""

_USAGE = """
    SELECT customer_id, rating_start(customer_id, usage_period_start) AS rating_start, item, price_id, amount, quantity
      FROM ledger_unbilled WHERE document_id IS NULL AND contra_account = 'income:usage'
"""

# Prices that count a whole period, as `PriceTerms.flat` says it in code.
_COUNTING = """
    SELECT id FROM prices
     WHERE model <> 'per_unit' OR included <> 0 OR included_item IS NOT NULL OR minimum IS NOT NULL
        OR maximum IS NOT NULL
"""

# ruff: noqa: S608 - the queries are put together from constants of this file only
CHECKS: dict[str, str] = {
    "rating counters equal the totals that they count": f"""
        SELECT coalesce(c.customer_id, t.customer_id) AS customer_id,
               coalesce(c.rating_start, t.rating_start) AS rating_start, coalesce(c.price_id, t.price_id) AS price_id,
               coalesce(c.item, t.item) AS item, c.quantity AS counted, t.quantity, c.amount AS counted_amount, t.amount
          FROM rating_counters c
          FULL JOIN (SELECT customer_id, rating_start, price_id, item, sum(quantity) AS quantity, sum(amount) AS amount
                       FROM ({_USAGE}) u WHERE price_id IN ({_COUNTING})
                      GROUP BY customer_id, rating_start, price_id, item) t
            ON t.customer_id = c.customer_id AND t.rating_start = c.rating_start AND t.price_id = c.price_id
           AND t.item = c.item
         WHERE coalesce(c.quantity, 0) <> coalesce(t.quantity, 0) OR coalesce(c.amount, 0) <> coalesce(t.amount, 0)""",
    "quantities on which allowances depend equal the totals": f"""
        SELECT c.customer_id, c.rating_start, c.item, c.quantity AS counted, coalesce(t.quantity, 0) AS quantity
          FROM rated_quantities c
          LEFT JOIN (SELECT customer_id, rating_start, item, sum(quantity) AS quantity
                       FROM ({_USAGE}) u GROUP BY customer_id, rating_start, item) t
         USING (customer_id, rating_start, item)
         WHERE c.quantity <> coalesce(t.quantity, 0)""",
    "usage charges that are counted equal the totals": f"""
        SELECT c.customer_id, c.rating_start, c.amount AS counted, coalesce(t.amount, 0) AS amount
          FROM usage_charges c
          LEFT JOIN (SELECT customer_id, rating_start, sum(amount) AS amount
                       FROM ({_USAGE}) u GROUP BY customer_id, rating_start) t USING (customer_id, rating_start)
         WHERE c.amount <> coalesce(t.amount, 0)""",
    "plans gave back what they include, and not more than was used": """
        SELECT coalesce(c.customer_id, t.customer_id) AS customer_id,
               coalesce(c.rating_start, t.rating_start) AS rating_start, c.included, c.amount AS charges, c.credited,
               t.given_back
          FROM usage_charges c
          FULL JOIN (SELECT customer_id, rating_start(customer_id, usage_period_start) AS rating_start,
                            -sum(amount) AS given_back
                       FROM ledger_unbilled
                      WHERE document_id IS NULL AND contra_account = 'income:plans' AND item ~ '^plan[:].+[:]included$'
                      GROUP BY 1, 2) t
            ON t.customer_id = c.customer_id AND t.rating_start = c.rating_start
         WHERE coalesce(t.given_back, 0) <> coalesce(least(c.included, greatest(c.amount, 0)), 0)""",
}
