"""What every stage uses: caching, the run, models, artifacts, settings, the registry. Never part of a key."""
