"""Metrics from logits, features and labels, and measurements of speed."""
