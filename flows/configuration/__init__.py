"""The configuration of a pipeline: typed, from YAML, with plain errors."""
