"""`python -m belljar`: the command line."""

from belljar.cli.main import main

main()
