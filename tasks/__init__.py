"""One stage a file: fingerprint, load, call the library, write, return a reference.

The only home of caching, Prefect artifacts and MLflow.
"""
