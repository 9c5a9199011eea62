"""The command line: ``bbopt``."""
