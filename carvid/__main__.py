"""`python -m carvid`."""

from carvid.cli import main

main()
