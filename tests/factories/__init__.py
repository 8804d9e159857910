"""Factories: valid objects in one call, each detail open to change."""
