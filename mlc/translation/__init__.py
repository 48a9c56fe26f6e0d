"""Machine translation of prompts: sentence splitting, the NLLB engine, and the quickstart's small grammar."""
