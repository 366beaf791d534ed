"""The verbs of the command line, one a file: arguments in, library calls, text out."""
