"""In which language a row of a training set is asked."""

LANGUAGE = "prompt_language"
"""In a row, the NLLB code of the language of its prompt, where it is known."""
