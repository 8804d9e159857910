"""Takes a picture of every page of a running demo, so that people look at what they built."""
