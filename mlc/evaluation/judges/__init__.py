"""Judges: what kind of answer a text is. One file each; they are listed in `mlc.catalogue`."""
