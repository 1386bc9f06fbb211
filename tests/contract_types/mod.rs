//! Every type that a column can have, with values at its edges.
#![allow(dead_code)]

/// What has to be there before a table of [`TYPES`] can be made.
pub const MADE_TYPES: &str = r#"
CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree;
CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'ünïcode, "quoted"', '');
CREATE TYPE pair AS (a int, "b C" text);
CREATE TYPE inner_row AS (pairs pair[], d date, i interval, u uuid, amounts numeric(20,4)[]);
CREATE TYPE outer_row AS (rows inner_row[], one inner_row, span tstzrange, moods mood[], h hstore, j jsonb);
CREATE TYPE networked AS (id int, net inet, nets inet[], spot point);
CREATE DOMAIN price AS numeric(10,2) CHECK (VALUE > 0);
CREATE DOMAIN price_of_price AS price;
CREATE DOMAIN int_list AS int[];
CREATE DOMAIN mood_domain AS mood;
CREATE DOMAIN pair_domain AS pair;
CREATE DOMAIN net_domain AS inet;
CREATE DOMAIN span_domain AS int4range;
CREATE DOMAIN odd_numeric AS numeric;
CREATE TYPE floatrange AS RANGE (subtype = float8);
CREATE TYPE textrange AS RANGE (subtype = text);
CREATE TYPE inetrange AS RANGE (subtype = inet);
CREATE TYPE moodrange AS RANGE (subtype = mood);
CREATE TYPE sendless;
CREATE FUNCTION sendless_in(cstring) RETURNS sendless IMMUTABLE STRICT LANGUAGE internal AS 'textin';
CREATE FUNCTION sendless_out(sendless) RETURNS cstring IMMUTABLE STRICT LANGUAGE internal AS 'textout';
CREATE TYPE sendless (INPUT = sendless_in, OUTPUT = sendless_out, LIKE = text);
"#;

/// Declarations, the column type that each becomes, and values as SQL expressions; NULL is added to all.
pub const TYPES: &[(&str, &str, &[&str])] = &[
    ("boolean", "bool", &["true", "false"]),
    ("smallint", "int16", &["-32768", "32767", "0"]),
    ("integer", "int32", &["-2147483648", "2147483647"]),
    ("bigint", "int64", &["'-9223372036854775808'", "9223372036854775807"]),
    ("oid", "uint32", &["0", "4294967295"]),
    ("xid", "uint32", &["'3'", "'4294967295'"]),
    ("cid", "uint32", &["'7'"]),
    ("xid8", "uint64", &["'18446744073709551615'", "'3'"]),
    ("real", "float32", &["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "0.1", "3.4028235e38", "1e-45", "16777217"]),
    (
        "double precision",
        "float64",
        &["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "1.7976931348623157e308", "5e-324"],
    ),
    ("numeric(1,0)", "decimal(1,0)", &["9", "-9", "0"]),
    ("numeric(9,4)", "decimal(9,4)", &["99999.9999", "-0.0001", "10000"]),
    ("numeric(18,18)", "decimal(18,18)", &["0.999999999999999999", "-0.000000000000000001"]),
    ("numeric(19,2)", "decimal(19,2)", &["99999999999999999.99", "-1.05"]),
    ("numeric(38,0)", "decimal(38,0)", &["repeat('9', 38)::numeric", "-repeat('9', 38)::numeric", "1e37"]),
    ("numeric(38,38)", "decimal(38,38)", &["('0.' || repeat('9', 38))::numeric", "-1e-38"]),
    ("numeric(39,1)", "decimal(39,1)", &["(repeat('9', 38) || '.9')::numeric", "-0.1"]),
    ("numeric(76,0)", "decimal(76,0)", &["repeat('9', 76)::numeric", "-repeat('9', 76)::numeric", "1e75", "0"]),
    ("numeric(76,76)", "decimal(76,76)", &["('0.' || repeat('9', 76))::numeric", "-1e-76"]),
    ("numeric(77,1)", "text", &["1.5"]),
    ("numeric(5,-2)", "text", &["12345"]),
    ("numeric(3,6)", "text", &["0.000999"]),
    (
        "numeric",
        "text",
        &["'NaN'", "'Infinity'", "'-Infinity'", "1.50", "1e131071", "-1e-16383", "0", "repeat('9', 100000)::numeric"],
    ),
    ("odd_numeric", "text", &["1.050", "'NaN'"]),
    ("money", "text", &["12.34", "'-92233720368547758.08'", "92233720368547758.07::numeric::money"]),
    (
        "date",
        "date",
        &[
            "'1969-12-31'",
            "'0001-01-01'",
            "'0001-12-31 BC'",
            "'4713-01-01 BC'",
            "'9999-12-31'",
            "'10000-01-01'",
            "'5874897-12-31'",
        ],
    ),
    ("time", "time", &["'00:00'", "'23:59:59.999999'", "'12:00:60'", "'00:00:00.000001'"]),
    ("time(0)", "time", &["'23:59:59.4'"]),
    ("timetz", "text", &["'24:00:00-15:59'", "'00:00:00+15:59:59'", "'12:34:56.789+05:30'"]),
    (
        "timestamp",
        "timestamp",
        &[
            "'1969-12-31 23:59:59.999999'",
            "'2016-12-31 23:59:60'",
            "'0001-01-01'",
            "'0044-03-15 01:02:03.000004 BC'",
            "'4713-01-02 BC'",
            "'9999-12-31 23:59:59.999999'",
            "'10000-01-01'",
            "'294246-12-31 23:59:59.999999'",
        ],
    ),
    (
        "timestamptz",
        "timestamp_utc",
        &[
            "'2024-03-31 02:30+02'",
            "'1883-11-18 12:03:57.5 America/New_York'",
            "'4713-01-02 BC'",
            "'294246-12-31 23:59:59.999999+00'",
        ],
    ),
    (
        "interval",
        "interval",
        &[
            "'0'",
            "'1 year 2 mons -3 days 04:05:06.7'",
            "'-1 sec'",
            "'-13 mons 1 day -00:00:00.000001'",
            "'178000000 years'",
            "'-178000000 years'",
            "'2147483647 days'",
            "'-2562047788:00:54.775807'",
        ],
    ),
    (
        "text",
        "text",
        &[
            "''",
            "' '",
            "'NULL'",
            "E'\\\\N'",
            "E'tab\\tnew\\nline\\\\\\x01'",
            "'\u{10ffff}é字🦀\u{feff}'",
            "repeat('é', 524288)",
        ],
    ),
    ("varchar(20)", "text", &["'twenty characters ok'", "''"]),
    ("char(8)", "text", &["'pad'", "''", "'12345678'"]),
    ("name", "text", &["'a name'", "repeat('n', 63)::name"]),
    ("citext", "text", &["'MiXed É'", "''"]),
    ("\"char\"", "text", &["'c'", "''", "(-1)::\"char\""]),
    ("bytea", "binary", &["''", "'\\x00'", "'\\xdeadbeef00ff'", "decode(repeat('00ff', 524288), 'hex')"]),
    ("json", "json", &["'{\"a\":  [1, 2.50, null], \"a\": \"twice\"}'", "'\"\\u00e9\"'", "'null'"]),
    ("jsonb", "json", &["'{\"b\": 1.0, \"a\": [true, {}]}'", "'1e400'", "to_jsonb(repeat('é', 524288))"]),
    ("uuid", "uuid", &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-4fff-8fff-ffffffffffff'"]),
    ("mood", "text", &["'sad'", "'ünïcode, \"quoted\"'", "''"]),
    ("mood_domain", "text", &["'it''s ok'"]),
    ("price", "decimal(10,2)", &["1.05", "99999999.99"]),
    ("price_of_price", "decimal(10,2)", &["0.01"]),
    ("int_list", "list<int32>", &["'{1,NULL,3}'", "'{}'"]),
    ("pair_domain", "struct<1:a:int32,3:b C:text>", &["ROW(1, 'x')"]),
    ("net_domain", "text", &["'10.1.2.3'"]),
    ("span_domain", "range<int32>", &["'[1,5)'"]),
    ("inet", "text", &["'10.1.2.3'", "'10.0.0.1/8'", "'::1'", "'fe80::/10'"]),
    ("cidr", "text", &["'10.0.0.0/8'", "'10.1.2.3/32'"]),
    ("macaddr", "text", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", "text", &["'08:00:2b:01:02:03:04:05'"]),
    ("bit(5)", "text", &["B'10101'"]),
    ("varbit", "text", &["B''", "B'1'", "repeat('10', 65536)::varbit"]),
    ("xml", "text", &["'<a b=\"1\">é &amp; </a>'"]),
    ("tsvector", "text", &["'a:1 b:2A ''q u''''o'':3'", "''"]),
    ("tsquery", "text", &["'a & !b <-> c'"]),
    ("pg_lsn", "text", &["'16/B374D848'"]),
    ("jsonpath", "text", &["'$.a[*] ? (@ > 1)'"]),
    ("ltree", "text", &["'Top.Science'"]),
    ("point", "text", &["point(1.0/3, -1e-7)", "'(Infinity,NaN)'"]),
    ("line", "text", &["'{1,-1,0.1}'"]),
    ("lseg", "text", &["'[(0,0),(1,1)]'"]),
    ("box", "text", &["'(1,1),(0,0)'"]),
    ("path", "text", &["'((0,0),(1,1))'", "'[(0,0)]'"]),
    ("polygon", "text", &["'((0,0),(1,1),(1,0))'"]),
    ("circle", "text", &["'<(0,0),0.1>'"]),
    ("regclass", "text", &["'pg_class'", "0"]),
    ("regtype", "text", &["'timestamp with time zone'"]),
    ("regproc", "text", &["'pg_sleep'"]),
    ("regprocedure", "text", &["'sum(integer)'"]),
    ("regrole", "text", &["'pg_monitor'"]),
    ("regnamespace", "text", &["'pg_catalog'"]),
    ("regconfig", "text", &["'simple'"]),
    ("regcollation", "text", &["'\"C\"'"]),
    ("tid", "text", &["'(4294967294,65535)'"]),
    ("pg_snapshot", "text", &["'10:20:10,14'"]),
    ("txid_snapshot", "text", &["'10:20:10,14'"]),
    ("refcursor", "text", &["'cursor'"]),
    ("int2vector", "text", &["'1 2 3'", "''"]),
    ("oidvector", "text", &["'1 2 4294967295'"]),
    ("aclitem", "text", &["'postgres=r/postgres'"]),
    ("sendless", "text", &["'without a send function'", "''"]),
    (
        "hstore",
        "map<text,text>",
        &["''", "'a=>1, \"b c\"=>NULL, \"q\\\"\\\\\"=>\"é, =>\"'", "hstore('k', repeat('v', 1048576))"],
    ),
    (
        "pair",
        "struct<1:a:int32,3:b C:text>",
        &["ROW(1, 'x, \"y\" (z) \\')", "ROW(NULL, '')", "ROW(NULL, NULL)", "ROW(2, repeat('é', 524288))"],
    ),
    (
        "outer_row",
        "struct<4:rows:list<struct<5:pairs:list<struct<1:a:int32,3:b C:text>>,1:d:date,1:i:interval,1:u:uuid,\
         7:amounts:list<decimal(20,4)>>>,3:one:struct<5:pairs:list<struct<1:a:int32,3:b C:text>>,1:d:date,1:i:interval,\
         1:u:uuid,7:amounts:list<decimal(20,4)>>,4:span:range<timestamp_utc>,5:moods:list<text>,1:h:map<text,text>,1:j:json>",
        &[
            "ROW(ARRAY[ROW(ARRAY[ROW(1, 'a \"b\"'), NULL, ROW(NULL, NULL)]::pair[], '0044-03-15 BC', '1 mon -2 days', \
             '00000000-0000-0000-0000-000000000001', '{1.5,NULL,-0.0001}')::inner_row, NULL]::inner_row[], \
             ROW('{}', NULL, '-1 sec', NULL, NULL)::inner_row, '[2026-01-01,)', '{sad,NULL}', 'a=>\"b \\\"\"', '{\"k\": [1]}')",
            "ROW(NULL, NULL, 'empty', '{}', '', NULL)",
        ],
    ),
    (
        "networked",
        "struct<2:id:int32,3:net:text,4:nets:list<text>,4:spot:text>",
        &[
            "ROW(1, '10.1.2.3', '{10.0.0.1,NULL,::/0}', '(1,2)')",
            "ROW(NULL, NULL, NULL, NULL)",
            "ROW(3, NULL, '{}', NULL)",
        ],
    ),
    ("networked[]", "text", &["ARRAY[ROW(1, '10.1.2.3', '{10.0.0.1}', '(1,2)')::networked, NULL]"]),
    ("int4range", "range<int32>", &["'[1,5)'", "'empty'", "'(,)'", "'[-2147483648,)'", "'(,7]'"]),
    ("int8range", "range<int64>", &["'[1,9223372036854775807)'"]),
    ("numrange", "range<text>", &["'[1.50,1e400)'", "'(-Infinity,NaN]'", "'(,)'", "'empty'"]),
    ("daterange", "range<date>", &["'[0044-03-15 BC,2026-01-01)'", "'[10000-01-01,)'"]),
    ("tsrange", "range<timestamp>", &["'[2026-01-01 00:00:00.5,2026-02-01]'"]),
    ("tstzrange", "range<timestamp_utc>", &["'[2024-01-01 00:00+02,)'", "'(,)'"]),
    ("floatrange", "range<float64>", &["'[0.1,Infinity)'", "'(-1e-300,5e-324]'"]),
    ("textrange", "range<text>", &["textrange('', 'a, \"b\" (c) \\', '[]')", "textrange(NULL, 'z')"]),
    ("inetrange", "text", &["'[10.0.0.1,10.0.0.9)'"]),
    ("moodrange", "range<text>", &["'[sad,\"\"]'"]),
    ("int4multirange", "list<range<int32>>", &["'{[1,5),[7,9)}'", "'{}'", "'{(,)}'"]),
    ("nummultirange", "list<range<text>>", &["'{[1.50,2),[3,)}'"]),
    ("datemultirange", "list<range<date>>", &["'{[2026-01-01,2026-02-01)}'"]),
    ("tstzmultirange", "list<range<timestamp_utc>>", &["'{(,2026-01-01 00:00+00],[2027-01-01,)}'"]),
    ("floatmultirange", "list<range<float64>>", &["'{[0.1,0.2)}'"]),
    ("textmultirange", "list<range<text>>", &["textmultirange(textrange('', 'a,b'), textrange('q\"', NULL))"]),
    ("boolean[]", "list<bool>", &["'{t,f,NULL}'", "'{}'"]),
    ("smallint[]", "list<int16>", &["'{1,-2}'"]),
    (
        "integer[]",
        "list<int32>",
        &["'{}'", "'{1,NULL,3}'", "'{NULL}'", "(SELECT array_agg(g) FROM generate_series(1, 262144) g)"],
    ),
    ("bigint[]", "list<int64>", &["'{9223372036854775807}'"]),
    ("oid[]", "list<uint32>", &["'{4294967295,NULL}'"]),
    ("xid8[]", "list<uint64>", &["'{18446744073709551615}'"]),
    ("real[]", "list<float32>", &["'{0.1,NaN,NULL}'"]),
    ("double precision[]", "list<float64>", &["'{1.5,-Infinity,NULL}'"]),
    ("numeric(10,2)[]", "list<decimal(10,2)>", &["'{1.50,NULL,-0.01}'"]),
    ("numeric(60,10)[]", "list<decimal(60,10)>", &["'{1.5,NULL}'"]),
    ("numeric[]", "list<text>", &["'{1.50,NaN,1e50,NULL}'"]),
    ("money[]", "list<text>", &["'{1.5,NULL}'::numeric[]::money[]"]),
    ("date[]", "list<date>", &["'{2026-01-01,NULL,0044-03-15 BC}'"]),
    ("time[]", "list<time>", &["'{12:00,23:59:59.999999}'"]),
    ("timetz[]", "list<text>", &["'{12:00+05:30,NULL}'"]),
    ("timestamp[]", "list<timestamp>", &["'{1969-12-31 23:59:59.5,NULL}'"]),
    ("timestamptz[]", "list<timestamp_utc>", &["'{2026-01-01 00:00:00.5+00,NULL}'"]),
    ("interval[]", "list<interval>", &["'{1 day,NULL,-1 mon}'"]),
    (
        "text[]",
        "list<text>",
        &["ARRAY['', 'NULL', NULL, 'null', 'a,b', '{}', E'q\"\\\\', ' ', 'é']", "ARRAY[repeat('é', 524288)]"],
    ),
    ("varchar(5)[]", "list<text>", &["'{a,b}'"]),
    ("char(3)[]", "list<text>", &["'{a,NULL}'"]),
    ("name[]", "list<text>", &["'{a,NULL}'"]),
    ("citext[]", "list<text>", &["'{A,b}'"]),
    ("\"char\"[]", "list<text>", &["'{a,NULL}'"]),
    ("bytea[]", "list<binary>", &["ARRAY['\\x00ff'::bytea, '', NULL]"]),
    ("json[]", "list<json>", &["ARRAY['{\"a\":  1}'::json, NULL]"]),
    ("jsonb[]", "list<json>", &["ARRAY['{\"a\": 1}'::jsonb, NULL]"]),
    ("uuid[]", "list<uuid>", &["ARRAY['00000000-0000-0000-0000-000000000001'::uuid, NULL]"]),
    ("mood[]", "list<text>", &["'{sad,NULL,\"\"}'"]),
    ("price[]", "list<decimal(10,2)>", &["'{1.05,NULL}'"]),
    ("int_list[]", "list<list<int32>>", &["'{\"{1,NULL}\",NULL,\"{}\"}'"]),
    ("inet[]", "list<text>", &["'{10.1.2.3,NULL,10.0.0.1/8,::1}'", "'{}'"]),
    ("net_domain[]", "list<text>", &["'{10.1.2.3,NULL}'"]),
    ("macaddr[]", "list<text>", &["'{08:00:2b:01:02:03}'"]),
    ("bit(3)[]", "list<text>", &["'{101,NULL}'"]),
    ("xml[]", "list<text>", &["ARRAY['<a/>'::xml, NULL]"]),
    ("tsvector[]", "list<text>", &["ARRAY['a:1 b'::tsvector, NULL]"]),
    ("pg_lsn[]", "list<text>", &["'{0/1,NULL}'"]),
    ("point[]", "list<text>", &["ARRAY['(1,2)'::point, NULL]"]),
    ("box[]", "list<text>", &["'{(1,1),(0,0);NULL;(3,3),(2,2)}'", "'{}'"]),
    ("regclass[]", "list<text>", &["'{pg_class,NULL}'"]),
    ("aclitem[]", "list<text>", &["'{postgres=r/postgres}'"]),
    ("sendless[]", "list<text>", &["ARRAY['a b'::sendless, 'NULL', NULL]"]),
    ("hstore[]", "list<map<text,text>>", &["ARRAY['a=>1, b=>NULL'::hstore, NULL, '']"]),
    (
        "pair[]",
        "list<struct<1:a:int32,3:b C:text>>",
        &["ARRAY[ROW(1, 'x \"y\"')::pair, NULL, ROW(NULL, NULL)::pair]", "'{}'"],
    ),
    ("int4range[]", "list<range<int32>>", &["ARRAY['[1,5)'::int4range, NULL, 'empty']"]),
    ("int4multirange[]", "list<list<range<int32>>>", &["ARRAY['{[1,5)}'::int4multirange, NULL, '{}']"]),
    ("integer[][]", "list<list<int32>>", &["'{{1,2},{NULL,4}}'", "'{{5}}'", "'{}'"]),
    ("text[][][]", "list<list<list<text>>>", &["'{{{a,NULL},{c,\"d e\"}}}'", "'{}'"]),
    ("inet[][]", "list<list<text>>", &["'{{10.0.0.1,NULL},{::1,10.0.0.0/8}}'"]),
    ("box[][]", "list<list<text>>", &["'{{(1,1),(0,0);NULL};{(3,3),(2,2);(1,1),(0,0)}}'"]),
];

/// A table with one column for each type and one row for each value of it, the others NULL, and a row of nothing but NULL.
pub fn table(name: &str) -> String {
    let mut sql = format!("CREATE TABLE {name} (n int");
    for (i, (declaration, _, _)) in TYPES.iter().enumerate() {
        sql.push_str(&format!(", c{i} {declaration}"));
    }
    sql.push_str(");\n");
    for (i, (_, _, values)) in TYPES.iter().enumerate() {
        for (n, value) in values.iter().enumerate() {
            sql.push_str(&format!("INSERT INTO {name} (n, c{i}) VALUES ({n}, {value});\n"));
        }
    }
    sql.push_str(&format!("INSERT INTO {name} DEFAULT VALUES;\n"));
    sql
}
