"""Jobs that use trained weights."""
