"""What a person sees and types: bars and tables, the Prefect server of a run, options."""
