"""The version of carvid; whoever needs it imports this file, not the package."""

__version__ = "0.1.0"
