"""The command line: each command parses, calls one public function, and prints."""

from carvid.cli.app import app, main

__all__ = ["app", "main"]
