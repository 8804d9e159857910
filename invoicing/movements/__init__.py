"""Movements: what happens to an invoice after it is final, and what the provider and the banks do with the money."""
