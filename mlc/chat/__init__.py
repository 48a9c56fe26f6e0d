"""Asking servers that speak OpenAI's chat protocol. Light to import."""
