"""Multilingual consistency for language-model alignment: losses, models, training, translation, quality, evaluation.

The library knows nothing of Prefect or MLflow and can be used alone; import what is needed from its parts,
such as ``from mlc.losses import consistency_loss``.
"""
