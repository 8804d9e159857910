"""Plans: what is offered for a fee, what it includes, and what a part of it costs."""
