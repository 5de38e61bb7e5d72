"""The command line: `main` holds the group and its table of commands; each command is a module of its own."""
