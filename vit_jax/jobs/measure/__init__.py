"""Jobs that measure time and memory."""
