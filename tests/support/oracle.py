"""Compares Parquet files, read by two independent readers, with what the server itself prints.

    oracle.py HEADER PART...  < rows

HEADER is the file with the server's column names as one CSV line; standard input is the server's `COPY … TO STDOUT` in
text format, with the session's DateStyle ISO, TimeZone UTC and bytea_output hex. Every Parquet value is rendered in
PostgreSQL's text format and the two sides are compared as multisets of lines. Exits with 0 when DuckDB and pyarrow both
agree with the server, with 1 and the first differing rows when not.
"""

import collections
import csv
import decimal
import struct
import sys
import uuid

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

MICROS_PER_DAY = 86_400_000_000
SHOWN = 5


def civil(days):
    """(year, month, day) in the proleptic Gregorian calendar, for any day number since 1970-01-01."""
    days += 719_468
    era, day_of_era = divmod(days, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    return year_of_era + era * 400 + (month <= 2), month, day


def date_text(days, rest=""):
    year, month, day = civil(days)
    if year > 0:
        return f"{year:04d}-{month:02d}-{day:02d}{rest}"
    return f"{1 - year:04d}-{month:02d}-{day:02d}{rest} BC"


def time_text(micros):
    seconds, fraction = divmod(micros, 1_000_000)
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{fraction:06d}".rstrip("0") if fraction else text


def timestamp_text(micros, zoned):
    days, rest = divmod(micros, MICROS_PER_DAY)
    return date_text(days, f" {time_text(rest)}{'+00' if zoned else ''}")


def shortest_float32(value):
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        try:
            if struct.pack("<f", float(text)) == struct.pack("<f", value):
                return text
        except OverflowError:
            pass  # rounded up past the largest one; more digits will do
    return repr(value)


def float_text(value, narrow):
    """The shortest digits that read back as the same value, laid out as PostgreSQL does."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    sign, digits, exponent = decimal.Decimal(shortest_float32(value) if narrow else repr(value)).as_tuple()
    digits = "".join(map(str, digits)).lstrip("0") or "0"
    stripped = digits.rstrip("0") or "0"
    exponent += len(digits) - len(stripped)
    minus = "-" if sign else ""
    if stripped == "0":
        return minus + "0"
    point = len(stripped) + exponent  # the decimal point stands after this many digits
    if point - 1 < -4 or point - 1 >= (6 if narrow else 15):
        mantissa = stripped[0] + ("." + stripped[1:] if len(stripped) > 1 else "")
        return f"{minus}{mantissa}e{point - 1:+03d}"
    if point <= 0:
        return f"{minus}0.{'0' * -point}{stripped}"
    if point >= len(stripped):
        return minus + stripped + "0" * (point - len(stripped))
    return f"{minus}{stripped[:point]}.{stripped[point:]}"


def array_text(values, render):
    def element(value):
        if value is None:
            return "NULL"
        if isinstance(value, list):
            return array_text(value, render)
        text = render(value)
        if text == "" or text.upper() == "NULL" or any(c in '{}",\\' or c in " \t\n\r\v\f" for c in text):
            return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return text

    return "{" + ",".join(map(element, values)) + "}"


def innermost(kind):
    while pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return kind


def plain(kind):
    """The storage type behind an extension type such as arrow.uuid or arrow.json, and the extension's name."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind.storage_type, kind.extension_name
    return kind, ""


def renderer(kind):
    kind, extension = plain(kind)
    t = pa.types
    if t.is_boolean(kind):
        return lambda v: "t" if v else "f"
    if t.is_integer(kind):
        return str
    if t.is_floating(kind):
        return lambda v: float_text(v, kind == pa.float32())
    if t.is_decimal(kind):
        return lambda v: format(v, "f")
    if t.is_date(kind):
        return date_text
    if t.is_time(kind):
        return time_text
    if t.is_timestamp(kind):
        return lambda v: timestamp_text(v, kind.tz is not None)
    if extension == "arrow.uuid" or kind == pa.binary(16):
        return lambda v: str(uuid.UUID(bytes=v)) if isinstance(v, bytes) else str(v)
    if t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind):
        return lambda v: "\\x" + v.hex()
    if t.is_string(kind) or t.is_large_string(kind) or str(kind) == "string_view":
        return lambda v: v
    sys.exit(f"oracle.py: no text form is known for {kind}")


def as_numbers(kind):
    """The type under which dates and times are the integers that are stored: Python's own types end at the year 9999."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(as_numbers(kind.value_type))
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return pa.int32()
    if pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
        return pa.int64()
    return kind


def escape(text):
    return (
        text.replace("\\", "\\\\").replace("\b", "\\b").replace("\f", "\\f").replace("\n", "\\n")
        .replace("\r", "\\r").replace("\t", "\\t").replace("\v", "\\v")
    )


def lines(table):
    columns = []
    for column in table.columns:
        kind, number = column.type, as_numbers(column.type)
        values = (column if number == kind else column.cast(number)).to_pylist()
        render = renderer(innermost(kind))
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            columns.append(["\\N" if v is None else escape(array_text(v, render)) for v in values])
        else:
            columns.append(["\\N" if v is None else escape(render(v)) for v in values])
    return ["\t".join(row) for row in zip(*columns)] if columns else [""] * table.num_rows


def in_micros(table):
    """DuckDB hands some times out in other units than microseconds; the stored unit is not what is compared here."""
    fields = []
    for field in table.schema:
        kind = field.type
        if pa.types.is_timestamp(kind) and kind.unit != "us":
            kind = pa.timestamp("us", tz=kind.tz)
        elif pa.types.is_time(kind) and kind != pa.time64("us"):
            kind = pa.time64("us")
        fields.append(pa.field(field.name, kind, field.nullable))
    schema = pa.schema(fields)
    return table if schema.types == table.schema.types else table.cast(schema)


def by_pyarrow(parts):
    # Every file is read by itself, so that two files with different schemas are noticed.
    tables = [pq.ParquetFile(part).read() for part in parts]
    for part, table in zip(parts, tables):
        if table.schema.remove_metadata() != tables[0].schema.remove_metadata():
            sys.exit(f"{part}: its schema differs from that of {parts[0]}")
    return tables


def by_duckdb(parts, names):
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    chosen = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    result = connection.sql(f"select {chosen} from read_parquet(?)", params=[parts])
    return in_micros(result.to_arrow_table())


def difference(reader, server, found):
    server, found = collections.Counter(server), collections.Counter(found)
    if server == found:
        return None
    missing, surplus = server - found, found - server
    report = [f"{reader}: {sum(missing.values())} rows of the server are missing, {sum(surplus.values())} are too many"]
    report += [f"  missing  {count} x {row!r}" for row, count in sorted(missing.items())[:SHOWN]]
    report += [f"  surplus  {count} x {row!r}" for row, count in sorted(surplus.items())[:SHOWN]]
    return "\n".join(report)


def main():
    header_file, *parts = sys.argv[1:]
    csv.field_size_limit(1 << 30)
    with open(header_file, encoding="utf-8", newline="") as file:
        header = next(csv.reader(file), [])
    data = sys.stdin.buffer.read().decode("utf-8")
    server = data.split("\n")[:-1] if data else []
    if not parts:
        if server:
            sys.exit(f"no part at all, but the server has {len(server)} rows")
        print(f"rows=0 columns={len(header)} parts=0")
        return
    tables = by_pyarrow(parts)
    names = tables[0].column_names
    if names != header:
        sys.exit(f"columns differ:\n  server  {header}\n  files   {names}")
    problems = [difference("pyarrow", server, [line for table in tables for line in lines(table)])]

    # DuckDB has no decimal beyond 38 digits and turns such a column into a double: those are left to pyarrow alone.
    # It also refuses two columns of one name, and a file without columns.
    kinds = [plain(innermost(kind))[0] for kind in tables[0].schema.types]
    fits = [not (pa.types.is_decimal(kind) and kind.precision > 38) for kind in kinds]
    readable = [name for name, fit in zip(names, fits) if fit]
    if readable and len(set(map(str.lower, readable))) == len(readable):
        found = lines(by_duckdb(parts, readable))
        if not all(fits):
            server = ["\t".join(cell for cell, fit in zip(row.split("\t"), fits) if fit) for row in server]
        problems.append(difference("DuckDB", server, found))
    problems = [problem for problem in problems if problem]
    if problems:
        sys.exit("\n".join(problems))
    print(f"rows={len(server)} columns={len(header)} parts={len(parts)}")


if __name__ == "__main__":
    main()
