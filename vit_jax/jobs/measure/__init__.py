"""Jobs that measure or predict time and memory."""
