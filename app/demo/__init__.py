"""Demo data: about forty customers of a cloud platform that does not exist, with a month and more of usage."""
