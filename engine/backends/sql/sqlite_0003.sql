-- Essays and kept results are found by a number of four bytes that is made of the essay's id,
-- `id_number(id)`: ids are random, so that every chunk touches all pages of whatever is sorted
-- by them, and an index over the ids themselves has four times as many. Few ids share a number.

DROP INDEX essays_by_id;

ALTER TABLE essays ADD COLUMN id_number INTEGER NOT NULL DEFAULT 0;

UPDATE essays SET id_number = id_number(essay_id);

CREATE INDEX essays_by_number ON essays (id_number);

ALTER TABLE homeless_steps RENAME TO unnumbered_homeless_steps;

CREATE TABLE homeless_steps (
    homeless_key INTEGER PRIMARY KEY,
    id_number INTEGER NOT NULL,
    essay_id TEXT NOT NULL,
    step_key INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    detail INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    earliest_us INTEGER NOT NULL,
    first_us INTEGER,
    last_us INTEGER
) STRICT;

INSERT INTO homeless_steps SELECT NULL, id_number(essay_id), * FROM unnumbered_homeless_steps;

DROP TABLE unnumbered_homeless_steps;

CREATE INDEX homeless_steps_by_number ON homeless_steps (id_number);
