"""`python -m bnzoo` is the command line."""

from bnzoo.cli import main

main()
