"""The verbs of the command line: each module adds its parser and runs it."""
