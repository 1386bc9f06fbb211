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


def quoted(text, special, quote='\\"'):
    """The text in double quotes if it is empty or holds any of these characters or white space; `quote` is a quote in it."""
    if text == "" or any(c in special or c in " \t\n\r\v\f" for c in text):
        return '"' + text.replace("\\", "\\\\").replace('"', quote) + '"'
    return text


def array_text(values, render, dimensions=1, delimiter=","):
    def element(value):
        if dimensions > 1:
            return array_text(value, render, dimensions - 1, delimiter)
        if value is None:
            return "NULL"
        text = render(value)
        return f'"{text}"' if text.upper() == "NULL" else quoted(text, '{}"\\' + delimiter)

    return "{" + delimiter.join(map(element, values)) + "}"


def range_text(value, render):
    if value["empty"]:
        return "empty"
    lower, upper = ("" if end is None else quoted(render(end), '"\\()[],', '""') for end in (value["lower"], value["upper"]))
    return f"{'[' if value['lower_inc'] else '('}{lower},{upper}{']' if value['upper_inc'] else ')'}"


def composite_text(value, renderers):
    fields = ("" if value[name] is None else quoted(render(value[name]), '"\\(),', '""') for name, render in renderers)
    return "(" + ",".join(fields) + ")"


def hstore_text(pairs):
    def word(text):
        return "NULL" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return ", ".join(f"{word(key)}=>{word(value)}" for key, value in pairs)


def truncated(number, divisor):
    """C's division: (quotient, rest) of one sign."""
    quotient = abs(number) // divisor * (1 if number >= 0 else -1)
    return quotient, number - quotient * divisor


def interval_text(value):
    """The server's interval in IntervalStyle iso_8601."""
    years, months = truncated(value["months"], 12)
    hours, rest = truncated(value["micros"], 3_600_000_000)
    minutes, micros = truncated(rest, 60_000_000)
    part = lambda number, unit: f"{number}{unit}" if number else ""
    date = part(years, "Y") + part(months, "M") + part(value["days"], "D")
    time = part(hours, "H") + part(minutes, "M")
    if micros:
        whole, fraction = divmod(abs(micros), 1_000_000)
        digits = f"{whole}.{fraction:06d}".rstrip("0") if fraction else str(whole)
        time += f"{'-' if micros < 0 else ''}{digits}S"
    return "P" + date + ("T" + time if time else "") if date or time else "PT0S"


def is_list(kind):
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def field_names(kind):
    return [field.name for field in kind] if pa.types.is_struct(kind) else []


INTERVAL = ["months", "days", "micros"]
SCALARS = {"public.grid", "inet", "integer", "numeric", "text"}
RANGE = ["lower", "upper", "lower_inc", "upper_inc", "empty"]


def list_renderer(kind, source):
    """`source` is PostgreSQL's name of the type, where it is known: a list of ranges may be a multirange or an array."""
    name = source or ""
    while name.endswith("[]"):
        name = name[:-2]
    dimensions = (len(source or "") - len(name)) // 2
    if dimensions == 0 and field_names(kind.value_type) == RANGE:
        render = renderer(kind.value_type)
        return lambda v: "{" + ",".join(map(render, v)) + "}"
    element = kind
    for _ in range(max(dimensions, 1)):
        element = element.value_type
    # As many dimensions as its values have, whatever it was declared with. Of other names the elements may be lists themselves.
    while is_list(element) and name in SCALARS:
        element, dimensions = element.value_type, max(dimensions, 1) + 1
    render = renderer(element, name)
    return lambda v: array_text(v, render, max(dimensions, 1), ";" if name == "box" else ",")


def plain(kind):
    """The storage type behind an extension type such as arrow.uuid or arrow.json, and the extension's name."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind.storage_type, kind.extension_name
    return kind, ""


def renderer(kind, source=None):
    kind, extension = plain(kind)
    t = pa.types
    if is_list(kind):
        return list_renderer(kind, source)
    if t.is_map(kind):
        return hstore_text
    if field_names(kind) == INTERVAL:
        return interval_text
    if field_names(kind) == RANGE:
        render = renderer(kind.field("lower").type)
        return lambda v: range_text(v, render)
    if t.is_struct(kind):
        renderers = [(field.name, renderer(field.type)) for field in kind]
        return lambda v: composite_text(v, renderers)
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


def rebuilt(kind, scalar):
    """The type with `scalar` done to each type that is made of no others."""
    if is_list(kind):
        return pa.list_(rebuilt(kind.value_type, scalar))
    if pa.types.is_map(kind):
        return pa.map_(rebuilt(kind.key_type, scalar), rebuilt(kind.item_type, scalar))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, rebuilt(field.type, scalar), field.nullable) for field in kind])
    return scalar(kind)


def as_number(kind):
    """The type under which dates and times are the integers that are stored: Python's own types end at the year 9999."""
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return pa.int32()
    if pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
        return pa.int64()
    return kind


def in_micros(kind):
    """DuckDB hands some times out in other units than microseconds; the stored unit is not what is compared here."""
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz=kind.tz)
    return pa.time64("us") if pa.types.is_time(kind) else kind


def escape(text):
    return (
        text.replace("\\", "\\\\").replace("\b", "\\b").replace("\f", "\\f").replace("\n", "\\n")
        .replace("\r", "\\r").replace("\t", "\\t").replace("\v", "\\v")
    )


def lines(table, sources):
    columns = []
    for column, source in zip(table.columns, sources):
        kind = rebuilt(column.type, in_micros)
        column = column if column.type == kind else column.cast(kind)
        number = rebuilt(kind, as_number)
        values = (column if number == kind else column.cast(number)).to_pylist()
        render = renderer(kind, source)
        columns.append(["\\N" if v is None else escape(render(v)) for v in values])
    return ["\t".join(row) for row in zip(*columns)] if columns else [""] * table.num_rows


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
    return result.to_arrow_table()


def is_wide(kind):
    """Whether there is a decimal of more than 38 digits in it."""
    kind, _ = plain(kind)
    if is_list(kind):
        return is_wide(kind.value_type)
    if pa.types.is_struct(kind):
        return any(is_wide(field.type) for field in kind)
    return pa.types.is_decimal(kind) and kind.precision > 38


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
    sources = [(field.metadata or {}).get(b"rivet.source_type", b"").decode() for field in tables[0].schema]
    problems = [difference("pyarrow", server, [line for table in tables for line in lines(table, sources)])]

    # DuckDB has no decimal beyond 38 digits and turns such a column into a double: those are left to pyarrow alone.
    # It also refuses two columns of one name, and a file without columns.
    fits = [not is_wide(kind) for kind in tables[0].schema.types]
    readable = [name for name, fit in zip(names, fits) if fit]
    if readable and len(set(map(str.lower, readable))) == len(readable):
        found = lines(by_duckdb(parts, readable), [source for source, fit in zip(sources, fits) if fit])
        if not all(fits):
            server = ["\t".join(cell for cell, fit in zip(row.split("\t"), fits) if fit) for row in server]
        problems.append(difference("DuckDB", server, found))
    problems = [problem for problem in problems if problem]
    if problems:
        sys.exit("\n".join(problems))
    print(f"rows={len(server)} columns={len(header)} parts={len(parts)}")


if __name__ == "__main__":
    main()
