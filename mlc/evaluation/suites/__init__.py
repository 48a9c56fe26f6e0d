"""Suites of prompts that others can run too: a YAML file each, from any source."""
