-- Times are microseconds since 1970 in UTC. Ids become small integer keys once, so that the
-- rows of the one large table, steps, stay short. What facts amount to is computed in Python.

PRAGMA application_id = 1111708500; -- 0x42435354, "BCST"

CREATE TABLE batches (
    batch_key INTEGER PRIMARY KEY,
    batch_id TEXT NOT NULL UNIQUE,
    expected INTEGER,
    seen INTEGER NOT NULL,
    owner TEXT NOT NULL,
    owner_us INTEGER NOT NULL,
    first_us INTEGER,
    last_us INTEGER,
    provisioned INTEGER NOT NULL,
    rejected INTEGER NOT NULL
) STRICT;

CREATE TABLE essays (
    essay_key INTEGER PRIMARY KEY,
    batch_key INTEGER NOT NULL,
    essay_id TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    file_name TEXT NOT NULL,
    file_name_us INTEGER NOT NULL,
    UNIQUE (batch_key, essay_id)
) STRICT;

-- Results that name no batch look for the batches of their essay.
CREATE INDEX essays_by_id ON essays (essay_id);

CREATE TABLE step_names (
    step_key INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE steps (
    essay_key INTEGER NOT NULL,
    step_key INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    detail INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    PRIMARY KEY (essay_key, step_key)
) STRICT, WITHOUT ROWID;

-- The counts of each step over a batch, kept in the same transaction as the steps.
CREATE TABLE counters (
    batch_key INTEGER NOT NULL,
    step_key INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    PRIMARY KEY (batch_key, step_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE milestones (
    batch_key INTEGER NOT NULL,
    phase TEXT NOT NULL,
    status TEXT NOT NULL,
    value TEXT NOT NULL,
    run TEXT NOT NULL,
    time_us INTEGER,
    PRIMARY KEY (batch_key, phase, status, value, run)
) STRICT, WITHOUT ROWID;

CREATE TABLE uploads (
    batch_key INTEGER NOT NULL,
    status TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (batch_key, status, value)
) STRICT, WITHOUT ROWID;

-- Results that name no batch: the merged one, and the span of the times of all of them.
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
    PRIMARY KEY (essay_id, step_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letters (
    arrival INTEGER PRIMARY KEY,
    received_us INTEGER NOT NULL,
    source TEXT NOT NULL,
    position TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    field TEXT NOT NULL,
    payload BLOB NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    UNIQUE (source, position, sha256)
) STRICT;
