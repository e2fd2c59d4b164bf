"""Analyses and figures of trained models, and charts of studies."""
