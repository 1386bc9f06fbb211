-- A million wide rows, as a content system keeps them: bodies of 1 to 2 kB, tags, a JSON document, a UUID, a hash.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL max_parallel_workers_per_gather = 0;
SELECT setseed(0.5);
DROP TABLE IF EXISTS content_items;
CREATE TABLE content_items (
    id           bigint         NOT NULL,
    external_id  uuid           NOT NULL,
    title        text           NOT NULL,
    body         text           NOT NULL,
    tags         text[]         NOT NULL,
    metadata     jsonb          NOT NULL,
    price        numeric(12,2),
    rating       numeric(3,2),
    views        integer        NOT NULL,
    published    boolean        NOT NULL,
    content_hash bytea          NOT NULL,
    created_at   timestamptz    NOT NULL,
    updated_at   timestamp
);

INSERT INTO content_items
SELECT g, md5('item ' || g)::uuid,
       initcap(convert_from(substring(pool FROM a1 FOR 20 + a2 % 60), 'UTF8')),
       convert_from(
           substring(pool FROM a1 FOR l1) || substring(pool FROM a2 FOR l2) || substring(pool FROM a3 FOR l1) ||
           substring(pool FROM a4 FOR l2) || substring(pool FROM a5 FOR l1) || substring(pool FROM a6 FOR l2) ||
           substring(pool FROM a7 FOR l1) || substring(pool FROM a8 FOR l2) || substring(pool FROM a9 FOR l1) ||
           substring(pool FROM a10 FOR l2), 'UTF8') || CASE WHEN g % 7 = 0 THEN ' – “naïve” 字 🦀' ELSE '' END,
       CASE g % 5 WHEN 0 THEN '{}'::text[]
                  WHEN 1 THEN ARRAY['tag-' || a1 % 50]
                  WHEN 2 THEN ARRAY['tag-' || a1 % 50, 'tag-' || a2 % 500]
                  ELSE ARRAY['tag-' || a1 % 50, 'tag-' || a2 % 500, 'lang-' || a3 % 20] END,
       jsonb_build_object('author', 'author-' || a4 % 5000, 'words', (l1 + l2) * 5 / 6, 'score', a5 % 1000 / 10.0,
                          'flags', jsonb_build_array(a6 % 2 = 0, a7 % 3 = 0), 'source', 'feed-' || a8 % 40),
       CASE WHEN a9 % 10 > 0 THEN a9 % 1000000 / 100.0 END,
       CASE WHEN a10 % 4 > 0 THEN a10 % 501 / 100.0 END,
       a3 % 100000, a4 % 3 > 0,
       decode(md5('a' || g) || md5('b' || g), 'hex'),
       TIMESTAMPTZ '2020-01-01 00:00:00+00' + g * INTERVAL '150 seconds' + a5 * INTERVAL '1 microsecond',
       CASE WHEN a6 % 5 > 0 THEN TIMESTAMP '2024-01-01' + a6 * INTERVAL '13 seconds' END
FROM (
    SELECT g, pool, 100 + floor(random() * 100)::int AS l1, 100 + floor(random() * 100)::int AS l2,
           1 + floor(random() * 60000000)::int AS a1, 1 + floor(random() * 60000000)::int AS a2,
           1 + floor(random() * 60000000)::int AS a3, 1 + floor(random() * 60000000)::int AS a4,
           1 + floor(random() * 60000000)::int AS a5, 1 + floor(random() * 60000000)::int AS a6,
           1 + floor(random() * 60000000)::int AS a7, 1 + floor(random() * 60000000)::int AS a8,
           1 + floor(random() * 60000000)::int AS a9, 1 + floor(random() * 60000000)::int AS a10
    -- The pool is far larger than the window of a compressor, so that pieces cut out of it twice look like new text.
    FROM (SELECT convert_to(string_agg(word, ' '), 'UTF8') AS pool
          FROM (SELECT left(md5('w' || n), 2 + n % 9) AS word
                FROM (SELECT floor(random() * 4000)::int AS n FROM generate_series(1, 10000000) OFFSET 0) AS picked) AS drawn
          OFFSET 0) AS p,
         generate_series(1, 1000000) AS g
    OFFSET 0
) AS drawn;

ALTER TABLE content_items ADD PRIMARY KEY (id);
COMMIT;
VACUUM (ANALYZE) content_items;
