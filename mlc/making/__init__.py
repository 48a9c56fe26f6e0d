"""What makes the shipped files: nano translator, tiny model, corpora, calibration. Never runs in a pipeline."""
