"""The English losses that carry the consistency term, as a configuration names them: one file each.

Each is a trainer of TRL with :class:`~mlc.training.mixin.ConsistencyMixin` before it, and what it needs. They are
listed in `mlc.catalogue`. The trainers themselves, and more of them, are in `mlc.training`.
"""
