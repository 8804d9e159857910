"""The only room that speaks to Stripe: sync, webhooks, reconciliation."""
