"""The command line. Its modules import nothing heavy at the top, so that help is there at once."""
