-- Share of the source's placeholders that the translation has, letter for letter; NULL where the source has none.
WITH found AS (
    SELECT row, translation, placeholders(source) AS wanted, placeholders(translation) AS got
    FROM texts
)
SELECT
    row,
    CASE
        WHEN translation IS NOT NULL THEN shared_members(wanted, got) / nullif(len(wanted), 0)
    END::DOUBLE AS signal_placeholders
FROM found
