"""Analyses of trained models, and figures of them and of studies."""
