"""What the columns of people's tables mean: known shapes of public data sets, and what a person maps by name."""
