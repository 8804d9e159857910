"""Usage: what was used, acceptable or not, from programs and files, and posted."""
