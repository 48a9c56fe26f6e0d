"""Studies: the trials behind docs/log.md, to be run by hand. They take hours and are no tests."""
