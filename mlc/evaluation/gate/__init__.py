"""The gate that a candidate must pass before it becomes champion: conditions, their figures, the decision."""
