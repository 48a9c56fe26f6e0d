"""The MLflow registry: where it is, versions, aliases, and our own record of promotions."""
