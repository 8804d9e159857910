"""Real processes for tests: servers, our own commands, and how to stop them all."""
