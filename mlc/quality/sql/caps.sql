-- Share of the letters that stand in words of capitals alone, beyond the source's share. Scripts without case have
-- such words only where Latin letters are mixed in.
CREATE TEMP MACRO caps_share(content, letter_count) AS
    CASE
        WHEN letter_count = 0 OR content IS NULL THEN NULL
        WHEN NOT regexp_matches(content, '\p{Lu}{2}') THEN 0.0
        ELSE least(
            length(array_to_string(regexp_extract_all(content, '(?:^|\PL)(\p{Lu}{2,})(?:\p{Lu}*)', 1), '')) / letter_count,
            1.0
        )
    END;

WITH shares AS (
    SELECT
        row,
        caps_share(plain_source, source_letters) AS before,
        caps_share(plain_translation, translation_letters) AS after
    FROM texts
)
SELECT row, CASE WHEN after IS NOT NULL THEN greatest(after - coalesce(before, 0), 0) END::DOUBLE AS signal_caps
FROM shares
