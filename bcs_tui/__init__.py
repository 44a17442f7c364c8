"""A terminal dashboard and a command line on top of the engine."""

__version__ = "0.1.0"
