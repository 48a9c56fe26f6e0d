"""Do source and translation mean the same?"""

from mlc.quality.signals.signal import Column, Cosine, Direction, Scope, Signal, Threshold

MEANING = Signal(
    name="meaning",
    priority=190,
    columns=(
        Column(
            "signal_similarity",
            Direction.HIGHER_IS_BETTER,
            "Cosine of the mean encoder states of the translator for source and translation.",
            -1,
            1,
        ),
        Column(
            "signal_embedding",
            Direction.HIGHER_IS_BETTER,
            "Cosine of the embeddings of source and translation by the named sentence-embedding model.",
            -1,
            1,
        ),
    ),
    source="Schwenk and Douze (2017) and Artetxe and Schwenk (2019): encoder states of a translator as a language-"
    "independent sentence embedding. Mean pooled, as in Sentence-BERT (Reimers and Gurevych, 2019); here with the "
    "translator that is there anyway, or any embedding model by name.",
    scope=Scope.MODEL,
    condition="signal_similarity < limits.similarity OR signal_embedding < limits.embedding_similarity",
    thresholds=(
        Threshold(
            "similarity",
            Cosine | None,
            None,
            "Dropped below: cosine of the translator's own states of source and translation, -1 to 1. Unset is off.",
        ),
        Threshold(
            "embedding_similarity",
            Cosine | None,
            None,
            "Dropped below: cosine of the sentence embeddings of source and translation, -1 to 1. Unset is off.",
        ),
    ),
)
