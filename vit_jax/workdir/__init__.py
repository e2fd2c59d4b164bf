"""What a run writes to its folder, and what is read back from it."""
