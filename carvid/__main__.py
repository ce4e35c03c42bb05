"""`python -m carvid`."""

from carvid.cli.commands import main

main()
