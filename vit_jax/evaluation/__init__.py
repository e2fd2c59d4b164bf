"""Numbers from logits, features and labels."""
