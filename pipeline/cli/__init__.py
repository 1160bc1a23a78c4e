"""The command line: one command a file, all of them thin over functions that tests and notebooks call too."""
