"""A random story of customers, invoices and Stripe, told to the product and to a model that knows nothing of it."""
