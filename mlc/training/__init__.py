"""Alignment: batches, the consistency term, the trainer."""
