"""What runs left in a workspace, read for people: rows, figures, comparisons; nothing is changed."""
