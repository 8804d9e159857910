"""Explaining: why an amount is what it is, down to the entries, in words."""
