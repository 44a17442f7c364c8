"""Backends: one module for each way to keep facts."""
