"""Judges that are models trained to judge safety. One file each; they are listed in `mlc.catalogue`."""
