"""Reports: what the books say, summed up for people. Each reads only, and never adds up different currencies."""
