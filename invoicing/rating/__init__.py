"""Rating: what an event costs where that depends on what else was used in its period."""
