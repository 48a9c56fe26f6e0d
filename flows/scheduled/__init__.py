"""What a schedule or a person starts in Prefect: the flows that are deployed, and their deployments."""
