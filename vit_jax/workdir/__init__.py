"""The work directory of a run: what is written there and read back."""
