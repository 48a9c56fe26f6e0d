"""What the pipeline does at each place of its picture; only `flows.align_flow` knows the order of things."""
