"""Jobs that run others and compare what they reach."""
