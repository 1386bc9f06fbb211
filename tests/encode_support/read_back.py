"""Prints what pyarrow and DuckDB see in a Parquet file, as JSON.

Usage: read_back.py FILE

{"pyarrow": {column: [value, ...]}, "duckdb": {...}, "types": {column: pyarrow's type},
 "logical": {leaf: Parquet's logical type}, "physical": {leaf: ...}, "created_by": text}

A value is null, a text, or a list of values. Integers, dates, times and timestamps are texts of integers; floats are the
hexadecimal digits of their bits; decimals have all their digits; bytes are hexadecimal; UUIDs have their dashes.
"""

import decimal
import json
import struct
import sys
import uuid

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

# Enough digits that no decimal is rounded on its way.
decimal.getcontext().prec = 100


def plain(array):
    """An array without types that Python cannot hold: instants as integers, extensions as their storage."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return plain(array.storage)
    if pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
        return array.cast(pa.int64())
    if pa.types.is_date32(kind):
        return array.cast(pa.int32())
    return array


def value(v, kind):
    if v is None:
        return None
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_list(kind):
        return [value(element, kind.value_type) for element in v]
    if pa.types.is_float32(kind):
        return "nan" if v != v else struct.pack(">f", v).hex()
    if pa.types.is_float64(kind):
        return "nan" if v != v else struct.pack(">d", v).hex()
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, (int, str)):
        return str(v)
    if isinstance(v, decimal.Decimal):
        return format(v, "f")
    if isinstance(v, uuid.UUID):
        return str(v)
    if isinstance(v, bytes):
        return str(uuid.UUID(bytes=v)) if pa.types.is_fixed_size_binary(kind) else v.hex()
    raise TypeError(f"{type(v)} from {kind}")


def lists(array):
    """Values of a possibly nested list array, element by element, so that instants stay integers at every level."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return lists(array.storage)
    if not pa.types.is_list(kind):
        return [value(v, kind) for v in plain(array).to_pylist()]
    elements = lists(array.values)
    offsets = array.offsets.to_pylist()
    return [
        None if not valid else elements[offsets[i]:offsets[i + 1]]
        for i, valid in enumerate(array.is_valid().to_pylist())
    ]


def columns(table):
    return {name: [v for chunk in table.column(name).chunks for v in lists(chunk)] for name in table.column_names}


path = sys.argv[1]
table = pq.read_table(path)
connection = duckdb.connect()
connection.execute("set timezone = 'UTC'")
# DuckDB has no decimals of more than 38 digits and reads them as doubles: they are left to pyarrow.
narrow = [f.name for f in table.schema if not pa.types.is_decimal256(f.type)]
names = ", ".join('"' + name.replace('"', '""') + '"' for name in narrow)
seen = connection.execute(f"select {names} from read_parquet(?)", [path]).to_arrow_table()
file = pq.ParquetFile(path)
leaves = [file.schema.column(i) for i in range(len(file.schema))]
print(
    json.dumps(
        {
            "pyarrow": columns(table),
            "duckdb": columns(seen),
            "types": {f.name: str(f.type) for f in table.schema},
            "nullable": {f.name: f.nullable for f in table.schema},
            "source_types": {
                f.name: (f.metadata or {}).get(b"rivet.source_type", b"").decode() for f in table.schema
            },
            "logical": {leaf.path: str(leaf.logical_type) for leaf in leaves},
            "physical": {leaf.path: leaf.physical_type for leaf in leaves},
            "created_by": file.metadata.created_by,
            "metadata": {k.decode(): v.decode() for k, v in file.metadata.metadata.items() if k != b"ARROW:schema"},
        }
    )
)
