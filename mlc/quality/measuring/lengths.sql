-- Variance of ln(characters of the translation / of the source) that comes from the length of the source alone: one word
-- more or less. In human translations of news (even rows of NTREX-128, eight languages) the deviation within classes of
-- length is that of spread ** 2 + 1.6 / characters, for 20 characters as for 200.
CREATE TEMP MACRO noise(characters) AS 1.6 / greatest(characters, 1);

-- What is left of a deviation without it: that of the languages and their translators.
CREATE TEMP MACRO own_spread(deviation, noise_in_it) AS
    CASE WHEN deviation > 0 THEN sqrt(greatest(deviation ** 2 - noise_in_it, 0.08 ** 2)) ELSE 0 END;
