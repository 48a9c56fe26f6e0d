-- Macros that several signals share.

-- Spaces, control and invisible characters of any script.
CREATE TEMP MACRO invisible_pattern() AS '[\s\p{Z}\p{C}]*';

-- URL, e-mail address, markup tag, {name} or {{name}}, ${name}, %(name)s, %s.
CREATE TEMP MACRO placeholder_pattern() AS
    '(?i:https?://|www\.)[A-Za-z0-9\-._~:/?#@!$&*+,;=%]*[A-Za-z0-9\-_~/#@$&*+=%]'
    || '|[A-Za-z0-9._%+\-]+@[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)*\.[A-Za-z]{2,}'
    || '|</?[A-Za-z][A-Za-z0-9]*(?:\s[^<>]{0,80})?/?>'
    || '|\$?\{\{?\s?[A-Za-z0-9_][A-Za-z0-9_.]*\s?\}?\}'
    || '|%\([A-Za-z0-9_]+\)[sdif]|%[sd]\b';

-- A cheap look first: most texts have none of the characters that a placeholder needs.
CREATE TEMP MACRO may_have_placeholders(content) AS
    contains(content, '@') OR contains(content, '<') OR contains(content, '{') OR contains(content, '%')
    OR contains(content, '://') OR regexp_matches(content, '(?i)www\.');

CREATE TEMP MACRO placeholders(content) AS
    CASE
        WHEN content IS NULL THEN NULL
        WHEN may_have_placeholders(content) THEN regexp_extract_all(content, placeholder_pattern())[:200]
        ELSE []::VARCHAR[]
    END;

CREATE TEMP MACRO without_placeholders(content) AS
    CASE
        WHEN may_have_placeholders(content) THEN regexp_replace(content, placeholder_pattern(), ' ', 'g')
        ELSE content
    END;

-- One space between words, none at either end; nothing that cannot be seen. Most texts are so already.
CREATE TEMP MACRO tidy(content) AS
    CASE
        WHEN regexp_matches(content, '^ | $| [\s\p{Z}\p{C}]|[\t-\r\p{C}]|[^\P{Z} ]')
            THEN trim(regexp_replace(content, '[\s\p{Z}\p{C}]+', ' ', 'g'))
        ELSE content
    END;

-- Letters of a known script only: \p{Common} and \p{Inherited} letters (the long-vowel mark of Japanese, the
-- Arabic tatweel) belong to no script.
CREATE TEMP MACRO letters(content) AS
    -- Spaces first, by a cheaper way: then there is little left to match.
    regexp_replace(replace(content, ' ', ''), '[\PL\p{Common}\p{Inherited}]+', '', 'g');

-- Letters and digits only, without case and accents.
CREATE TEMP MACRO bare(content) AS
    regexp_replace(replace(strip_accents(lower(content)), ' ', ''), '[^\pL\pN]+', '', 'g');

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
