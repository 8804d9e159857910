"""Tax: what is due on an invoice by place and time, and what a credit note gives back of it."""
