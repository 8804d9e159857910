"""Each guard is taken away once, in a copy, and a test has to turn red: a guard that nobody would miss is none."""
