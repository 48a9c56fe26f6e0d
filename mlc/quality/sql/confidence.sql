-- What the translator thought of its own output; NULL where it did not say.
SELECT row, CASE WHEN translation IS NOT NULL AND isfinite(logprob) THEN logprob END::DOUBLE AS signal_logprob
FROM texts
