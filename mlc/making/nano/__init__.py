"""The nano translator: a toy checkpoint of the NLLB architecture for the quickstart's domain, and its training.

No package carries NLLB weights, and tests and first steps must work without a hub. So the project trains a few
million parameters on the compositions of its own grammar. The checkpoint loads through the same code as
``facebook/nllb-200-distilled-600M``, truly translates the grammar's sentences, and fails visibly on anything else.
"""
