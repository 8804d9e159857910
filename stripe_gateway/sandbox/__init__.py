"""A stand-in for Stripe: a separate process on the loopback interface that the unmodified Stripe SDK talks to.

Nothing in here imports another room or the Stripe SDK, and production code does not import it: the two meet over HTTP
only, exactly where production meets Stripe.
"""
