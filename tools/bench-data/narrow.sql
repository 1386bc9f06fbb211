-- Ten million narrow rows: two integers and a time.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL max_parallel_workers_per_gather = 0;
SELECT setseed(0.25);
DROP TABLE IF EXISTS narrow;
CREATE TABLE narrow (
    id         bigint      NOT NULL,
    account_id bigint      NOT NULL,
    created_at timestamptz NOT NULL
);
INSERT INTO narrow
SELECT g, 1 + floor(random() * 100000)::bigint,
       TIMESTAMPTZ '2024-01-01 00:00:00+00' + g * INTERVAL '3 seconds' + floor(random() * 1000) * INTERVAL '1 millisecond'
FROM generate_series(1, 10000000) AS g;
ALTER TABLE narrow ADD PRIMARY KEY (id);
COMMIT;
VACUUM (ANALYZE) narrow;
