"""Model sources, loading, prompt encoding and prompt representations."""
