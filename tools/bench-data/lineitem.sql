-- The table `lineitem` of TPC-H at scale factor 1, in shape and in the distribution of its values: 6,001,215 rows, the
-- sparse order keys and one to seven lines for each order, heap in key order. The texts come from a pool, as dbgen does.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL max_parallel_workers_per_gather = 0;
SELECT setseed(0.19920101);
DROP TABLE IF EXISTS lineitem;
CREATE TABLE lineitem (
    l_orderkey      bigint        NOT NULL,
    l_partkey       integer       NOT NULL,
    l_suppkey       integer       NOT NULL,
    l_linenumber    integer       NOT NULL,
    l_quantity      numeric(15,2) NOT NULL,
    l_extendedprice numeric(15,2) NOT NULL,
    l_discount      numeric(15,2) NOT NULL,
    l_tax           numeric(15,2) NOT NULL,
    l_returnflag    char(1)       NOT NULL,
    l_linestatus    char(1)       NOT NULL,
    l_shipdate      date          NOT NULL,
    l_commitdate    date          NOT NULL,
    l_receiptdate   date          NOT NULL,
    l_shipinstruct  char(25)      NOT NULL,
    l_shipmode      char(10)      NOT NULL,
    l_comment       varchar(44)   NOT NULL
);

CREATE TEMPORARY TABLE words ON COMMIT DROP AS
SELECT ordinality::int AS n, word FROM unnest(string_to_array(
    'foxes ideas theodolites pinto beans instructions dependencies excuses platelets asymptotes courts dolphins '
    'multipliers sauternes warthogs frets dinos attainments somas Tiresias patterns forges braids hockey players frays '
    'warhorses dugouts notornis epitaphs pearls tithes waters orbits gifts sheaves depths sentiments decoys realms '
    'pains grouches escapades furious sly careful blithe quick fluffy slow quiet ruthless thin close dogged daring '
    'brave stealthy permanent enticing idle busy regular final ironic even bold silent sleep wake are cajole haggle nag '
    'use boost affix detect integrate maintain nod was lose sublate solve thrash promise engage hinder print x-ray breach '
    'eat grow impress mold poach serve run dazzle snooze doze unwind kindle play hang believe doubt about above '
    'according to across after against along alongside of among around at atop before behind beneath beside besides '
    'between beyond by despite during except for from in place of inside instead of into near of on outside over past '
    'since through throughout to toward under until up upon without with within', ' ')) WITH ORDINALITY AS w(word, ordinality);

INSERT INTO lineitem
SELECT orderkey, partkey,
       1 + (partkey + supplier * (2500 + (partkey - 1) / 10000)) % 10000,
       line, quantity,
       quantity * (90000 + (partkey / 10) % 20001 + 100 * (partkey % 1000)) / 100.0,
       discount / 100.0, tax / 100.0,
       CASE WHEN receipt > DATE '1995-06-17' THEN 'N' WHEN coin < 0.5 THEN 'R' ELSE 'A' END,
       CASE WHEN ship > DATE '1995-06-17' THEN 'O' ELSE 'F' END,
       ship, committed, receipt,
       ('{DELIVER IN PERSON,COLLECT COD,NONE,TAKE BACK RETURN}'::text[])[instruct],
       ('{REG AIR,AIR,RAIL,SHIP,TRUCK,MAIL,FOB}'::text[])[mode],
       -- The pool is one byte to the character, so that cutting out of it costs the piece and not the pool.
       convert_from(substring(pool FROM at FOR size), 'UTF8')
FROM (
    SELECT o.orderkey, line, p.pool,
           1 + floor(random() * 200000)::int AS partkey,
           floor(random() * 4)::int          AS supplier,
           1 + floor(random() * 50)::int     AS quantity,
           floor(random() * 11)::int         AS discount,
           floor(random() * 9)::int          AS tax,
           random()                          AS coin,
           ship.day                          AS ship,
           o.day + 30 + floor(random() * 61)::int    AS committed,
           ship.day + 1 + floor(random() * 30)::int  AS receipt,
           1 + floor(random() * 4)::int      AS instruct,
           1 + floor(random() * 7)::int      AS mode,
           1 + floor(random() * 299000)::int AS at,
           10 + floor(random() * 34)::int    AS size
    FROM (SELECT convert_to(string_agg(word, ' '), 'UTF8') AS pool
          FROM (SELECT word FROM generate_series(1, 360) AS r, words ORDER BY random()) AS shuffled OFFSET 0) AS p,
         -- Eight keys of every thirty-two are used.
         (SELECT (n / 8) * 32 + n % 8 + 1 AS orderkey, DATE '1992-01-01' + floor(random() * 2406)::int AS day,
                 1 + floor(random() * 7)::int AS lines
          FROM generate_series(0::bigint, 1519999) AS n OFFSET 0) AS o,
         LATERAL generate_series(1, o.lines) AS line,
         LATERAL (SELECT o.day + 1 + floor(random() * 121)::int + 0 * line AS day OFFSET 0) AS ship
    OFFSET 0
) AS drawn
LIMIT 6001215;

ALTER TABLE lineitem ADD PRIMARY KEY (l_orderkey, l_linenumber);
COMMIT;
VACUUM (ANALYZE) lineitem;
DO $$ BEGIN
    IF (SELECT count(*) FROM lineitem) <> 6001215 THEN RAISE EXCEPTION 'lineitem has % rows', (SELECT count(*) FROM lineitem); END IF;
END $$;
