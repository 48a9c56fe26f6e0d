"""Engines: what answers prompts. One file each."""
