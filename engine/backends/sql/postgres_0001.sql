-- What facts amount to is computed in Python; here it is kept, with the counts of each batch in
-- the same transaction as its steps. Ids order by their code points, as everywhere else: "C".
-- PostgreSQL's text holds no NUL; it is stored as two characters U+0001, and U+0001 itself as
-- U+0001 U+0002, which keeps the order. The time -infinity stands for an unknown one.

-- One row: every writer takes it first, so that writers neither lose nor lock each other.
-- Whoever finds the version one above his last own has missed nothing.
CREATE TABLE bcs.ledger (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL
) WITH (fillfactor = 10);

INSERT INTO bcs.ledger (version) VALUES (0);

CREATE TABLE bcs.batches (
    batch_id text COLLATE "C" PRIMARY KEY,
    expected bigint,
    seen bigint NOT NULL,
    owner text NOT NULL,
    owner_at timestamptz NOT NULL,
    first_at timestamptz,
    last_at timestamptz,
    provisioned bigint NOT NULL,
    rejected bigint NOT NULL
) WITH (fillfactor = 50);

-- The version of the ledger at which a batch changed last, in anything.
CREATE TABLE bcs.versions (
    batch_id text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    changed_at timestamptz NOT NULL
);

CREATE INDEX versions_in_order ON bcs.versions (version);

CREATE TABLE bcs.essays (
    batch_id text COLLATE "C" NOT NULL,
    essay_id text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    file_name text NOT NULL,
    file_name_at timestamptz NOT NULL,
    PRIMARY KEY (batch_id, essay_id)
);

-- Results that name no batch look for the batches of their essay.
CREATE INDEX essays_by_id ON bcs.essays (essay_id);

-- outcome: 0 pending, 1 failed, 2 completed; detail: 0 listed, 1 a result of its own, 2 in full;
-- metadata: a JSON object as it came, which the type jsonb would change.
CREATE TABLE bcs.essay_steps (
    batch_id text COLLATE "C" NOT NULL,
    essay_id text COLLATE "C" NOT NULL,
    step text COLLATE "C" NOT NULL,
    outcome smallint NOT NULL,
    happened_at timestamptz NOT NULL,
    event_id text NOT NULL,
    detail smallint NOT NULL,
    metadata text NOT NULL,
    PRIMARY KEY (batch_id, essay_id, step)
);

CREATE TABLE bcs.counters (
    batch_id text COLLATE "C" NOT NULL,
    step text COLLATE "C" NOT NULL,
    completed bigint NOT NULL,
    failed bigint NOT NULL,
    PRIMARY KEY (batch_id, step)
) WITH (fillfactor = 50);

CREATE TABLE bcs.milestones (
    batch_id text COLLATE "C" NOT NULL,
    phase text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    run text COLLATE "C" NOT NULL,
    happened_at timestamptz,
    PRIMARY KEY (batch_id, phase, status, value, run)
);

CREATE TABLE bcs.uploads (
    batch_id text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    PRIMARY KEY (batch_id, status, value)
);

-- Results that name no batch: the merged one, and the span of the times of all of them.
CREATE TABLE bcs.homeless_steps (
    essay_id text COLLATE "C" NOT NULL,
    step text COLLATE "C" NOT NULL,
    outcome smallint NOT NULL,
    happened_at timestamptz NOT NULL,
    event_id text NOT NULL,
    detail smallint NOT NULL,
    metadata text NOT NULL,
    earliest_at timestamptz NOT NULL,
    first_at timestamptz,
    last_at timestamptz,
    PRIMARY KEY (essay_id, step)
);

-- place: the SHA-256 of source, position and payload; a source may be too long for an index.
CREATE TABLE bcs.dead_letters (
    arrival bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    place bytea NOT NULL UNIQUE,
    received_at timestamptz NOT NULL,
    source text NOT NULL,
    position text NOT NULL,
    reason text NOT NULL,
    message text NOT NULL,
    field text NOT NULL,
    payload bytea NOT NULL,
    sha256 text NOT NULL,
    size bigint NOT NULL
);

-- The table of the existing service: made as that would where it is absent, never altered.
DO $$
BEGIN
    IF to_regclass('public.phase_completions') IS NULL THEN
        CREATE TABLE public.phase_completions (
            id serial NOT NULL,
            batch_id varchar(255) NOT NULL,
            phase_name varchar(100) NOT NULL,
            completed boolean NOT NULL,
            completed_at timestamptz NOT NULL DEFAULT now(),
            phase_metadata jsonb,
            CONSTRAINT phase_completions_pkey PRIMARY KEY (id),
            CONSTRAINT uq_batch_phase UNIQUE (batch_id, phase_name)
        );
        CREATE INDEX idx_phase_completions_batch ON public.phase_completions (batch_id);
        CREATE INDEX idx_phase_completions_batch_completed
            ON public.phase_completions (batch_id, completed);
    END IF;
END $$;
