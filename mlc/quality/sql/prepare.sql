-- What every signal reads: table `texts`, one row a pair, and a few shared macros.
-- A blank translation is NULL from here on, so that every other signal of such a row is NULL (not applicable).

-- URL, e-mail address, markup tag, {name} or {{name}}, ${name}, %(name)s, %s.
CREATE TEMP MACRO placeholder_pattern() AS
    '(?i:https?://|www\.)[A-Za-z0-9\-._~:/?#@!$&*+,;=%]*[A-Za-z0-9\-_~/#@$&*+=%]'
    || '|[A-Za-z0-9._%+\-]+@[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)*\.[A-Za-z]{2,}'
    || '|</?[A-Za-z][A-Za-z0-9]*(?:\s[^<>]{0,80})?/?>'
    || '|\$?\{\{?\s?[A-Za-z0-9_][A-Za-z0-9_.]*\s?\}?\}'
    || '|%\([A-Za-z0-9_]+\)[sdif]|%[sd]\b';

CREATE TEMP MACRO placeholders(content) AS regexp_extract_all(content, placeholder_pattern());

-- Letters of a known script only: \p{Common} and \p{Inherited} letters (the long-vowel mark of Japanese, the
-- Arabic tatweel) belong to no script.
CREATE TEMP MACRO letters(content) AS
    regexp_replace(regexp_replace(content, '\PL', '', 'g'), '[\p{Common}\p{Inherited}]', '', 'g');

-- How many members of the multiset `wanted` are found in the multiset `found`.
CREATE TEMP MACRO shared_members(wanted, found) AS
    coalesce(
        list_sum(
            list_transform(
                list_distinct(wanted),
                lambda member: least(
                    len(list_filter(wanted, lambda other: other = member)),
                    len(list_filter(found, lambda other: other = member))
                )
            )
        ),
        0
    );

CREATE TEMP TABLE texts AS
WITH
trimmed AS (
    SELECT
        pairs.row,
        nfc_normalize(pairs.source) AS source,
        -- Spaces, control and invisible characters of any script.
        CASE
            WHEN regexp_full_match(pairs.translation, '[\s\p{Z}\p{C}]*') THEN NULL
            ELSE nfc_normalize(pairs.translation)
        END AS translation,
        pairs.source_language,
        pairs.target_language,
        pairs.finished,
        pairs.logprob,
        source_table.script AS source_script,
        target_table.script AS target_script
    FROM pairs
    JOIN languages AS source_table ON source_table.code = pairs.source_language
    JOIN languages AS target_table ON target_table.code = pairs.target_language
),
plain AS (
    SELECT
        *,
        regexp_replace(source, placeholder_pattern(), ' ', 'g') AS plain_source,
        regexp_replace(translation, placeholder_pattern(), ' ', 'g') AS plain_translation
    FROM trimmed
)
SELECT
    *,
    letters(plain_source) AS source_letters,
    letters(plain_translation) AS translation_letters
FROM plain;
