"""Prices: what a quantity costs, for whom, where and when; how new ones are drafted, compared and published."""
