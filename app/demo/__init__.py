"""Demo data: about forty customers of a cloud platform that does not exist, with plans, taxes and months of usage."""
