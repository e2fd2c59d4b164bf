"""Jobs that prepare and check data."""
