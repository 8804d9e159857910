"""How fast it is: `python -m tests.benchmarks`. Figures for people to read; nothing fails for being slow."""
