-- Results that name no batch, in the order of their arrival: sorted by ids that are random,
-- almost every result had a page of the large table to itself, which had to be written whole.

ALTER TABLE homeless_steps RENAME TO sorted_homeless_steps;

CREATE TABLE homeless_steps (
    essay_id TEXT NOT NULL,
    step_key INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    detail INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    earliest_us INTEGER NOT NULL,
    first_us INTEGER,
    last_us INTEGER,
    UNIQUE (essay_id, step_key)
) STRICT;

INSERT INTO homeless_steps SELECT * FROM sorted_homeless_steps;

DROP TABLE sorted_homeless_steps;
