"""Reads what Sluice exports with pyarrow and pandas, cell by cell as DuckDB.

It serves a small contacts endpoint with values that readers stumble over, has
Sluice export it again and again, as standard and as plain Parquet: fields are new,
vanish, return, have values that do not fit and are more than there is room for.
After each run a bare glob has to have the same columns in pyarrow and in DuckDB
(`sluice query`), those of before among them. At the end every cell that
pyarrow.dataset and pandas give is compared with the text that DuckDB gives for it.

Usage: readers.py PATH-OF-SLUICE
"""

import datetime
import http.server
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import urllib.parse
import uuid

import pandas
import pyarrow
import pyarrow.dataset
import pyarrow.parquet

UTC = datetime.timezone.utc
CONTACTS = 500
INTEGERS = [0, -1, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), None]
FLOATS = [0.1, -0.5, -0.0, 1e308, 5e-324, 1 / 3, 123456789.25, None]
TEXTS = [
    "Ñandú", "日本語", "👩‍👩‍👧‍👦 family", "مرحبا", "e\u0301 and \u00e9", "line\nbreak\tand tab", 'quote " and \' and \\',
    "", " ", "NULL", "null", "2024-01-01", "007", "1e5", "\u200b", "x" * 5000, None,
]
DATES = ["2024-02-29", "1970-01-01", "1899-12-31", "9999-12-31", "0001-01-01", None]
OBJECTS = [{"a": [1, {"b": None}], "ñ": "😀"}, [], {}, [1.5, "two", None], {"big": 2**60}, None]
BOOLEANS = [True, False, None]


def contact(n, now):
    """Returns contact n as the endpoint prints it."""
    created = now - datetime.timedelta(days=1 + n % 420, seconds=n, milliseconds=n % 1000)
    pick = lambda values: values[n % len(values)]
    return {
        "id": str(uuid.UUID(int=(n + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)),
        "name": pick(TEXTS) or "nobody",
        "phone": None if n % 4 == 0 else f"+569{n:08d}",
        "email": None if n % 3 == 0 else f"c{n}@example.com",
        "platform": ["whatsapp", "instagram", "webchat"][n % 3],
        "last_message_at": None if n % 5 == 0 else stamp(created + datetime.timedelta(minutes=n)),
        "created_at": stamp(created),
        "updated_at": stamp(created + datetime.timedelta(hours=1)),
        "chat_status": "UNATTENDED",
        "client_id": str(uuid.UUID(int=1)),
        "ai_customer_id": str(uuid.UUID(int=n // 2)),
        "default_stage_id": None,
        "blocked": n % 7 == 0,
        "is_chat_read": n % 2 == 0,
        "active_ticket_v2": None if n % 2 else {"id": str(uuid.UUID(int=n)), "current_stage_id": None},
        "birthday": pick(DATES),
        "custom_fields": {
            "integer": pick(INTEGERS), "float": pick(FLOATS), "text": pick(TEXTS), "object": pick(OBJECTS), "flag": pick(BOOLEANS),
            "secret": "in no column",
        },
    }


def stamp(t):
    return t.strftime("%Y-%m-%dT%H:%M:%S.") + f"{t.microsecond // 1000:03d}Z"


class Endpoint(http.server.BaseHTTPRequestHandler):
    contacts = []

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if not url.path.endswith("/contacts"):
            self.send_error(404)  # no stages: an answer that is none would be asked for again, for long
            return
        asked = {k: v[0] for k, v in urllib.parse.parse_qs(url.query).items()}
        rows = list(self.contacts)
        for key in ("created", "updated"):
            if key + "_after" in asked:
                after = datetime.datetime.fromisoformat(asked[key + "_after"].replace("Z", "+00:00"))
                rows = [r for r in rows if datetime.datetime.fromisoformat(r[key + "_at"].replace("Z", "+00:00")) > after]
        order = "updated_at" if "updated_after" in asked else "created_at"
        rows.sort(key=lambda r: (r[order], r["id"]))
        offset, limit = int(asked.get("offset", 0)), int(asked.get("limit", 100))
        body = json.dumps(rows[offset : offset + limit]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


PIPELINES = """version: 1
sources:
  crm: {type: contacts_api, url: "%s", api_key: key-of-a-test, requests_per_second: 1000}
destinations:
  standard: {type: parquet, path: standard}
  plain: {type: parquet, path: plain, compatibility: plain}
pipelines:
  nightly: {source: crm, schema: contacts.yaml, destinations: [standard, plain]}
"""

BIRTHDAY = """  - name: birthday
    path: birthday
    type: date
    description: A date
"""


# What each run after the first changes: which contacts, their custom fields, and
# the columns that come of it. The contract has room for eight found columns.
CHANGES = [
    ("a field is new", 9, {"later": "a column of the second run"}, {"cf_customer_later"}),
    ("it vanishes, and others come", 7, {"later": None, "LATER": 7, "nps": 1.5}, {"cf_customer_later_*", "cf_customer_nps"}),
    ("it returns, and a value does not fit", 9, {"later": "back", "integer": "many"}, {"cf_customer_integer__text"}),
    ("more than there is room for", 5, {"one too many": 1, "two": {"too": "many"}}, {"other_fields__json"}),
]
CONTRACT = """max_columns: 8
exclude: [cf_customer.secret]
"""


def export(sluice, work):
    """Exports all contacts, and again after each of the changes."""
    repo = pathlib.Path(__file__).resolve().parent.parent
    contract = (repo / "schemas" / "contacts.yaml").read_text(encoding="utf-8")
    contract = contract.replace("columns:\n", "columns:\n" + BIRTHDAY, 1) + "\n" + CONTRACT
    (work / "contacts.yaml").write_text(contract, encoding="utf-8")
    now = datetime.datetime.now(UTC)
    Endpoint.contacts = [contact(n, now) for n in range(CONTACTS)]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (work / "pipelines.yaml").write_text(PIPELINES % f"http://127.0.0.1:{server.server_port}", encoding="utf-8")
    run(sluice, work, "run")
    known = {d: columns(sluice, work, d, "the first run", {}, None) for d in DESTINATIONS}
    for what, every, fields, new in CHANGES:
        for n in range(0, CONTACTS, every):
            row = Endpoint.contacts[n]
            row["updated_at"] = stamp(datetime.datetime.now(UTC))
            row["custom_fields"].update(fields)
        run(sluice, work, "run")
        known = {d: columns(sluice, work, d, what, known[d], new) for d in DESTINATIONS}
    server.shutdown()


def columns(sluice, work, destination, what, before, new):
    """Returns the columns of current, which pyarrow and DuckDB have to agree on."""
    current = work / destination / "contacts" / "current"
    schema = pyarrow.dataset.dataset(str(current), format="parquet").schema
    for file in sorted(current.glob("**/*.parquet")):
        if not pyarrow.parquet.read_schema(file).equals(schema):
            sys.exit(f"readers: {destination}, {what}: {file} has another schema than the others")
    sql = f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet('{current}/**/*.parquet', hive_partitioning = false))"
    run(sluice, work, "query", sql, "-o", "columns.jsonl")
    with open(work / "columns.jsonl", encoding="utf-8") as f:
        there = [(c["column_name"], c["column_type"]) for c in map(json.loads, f)]
    here = [(f.name, DUCKDB_TYPES[str(f.type)]) for f in schema]
    if here != there:
        sys.exit(f"readers: {destination}, {what}: pyarrow has {here}, DuckDB {there}")
    found = dict(here)
    if any(found.get(name) != kind for name, kind in before.items()):
        sys.exit(f"readers: {destination}, {what}: columns were {before}, and are {found}")
    if any("secret" in name for name in found):
        sys.exit(f"readers: {destination}, {what}: there is a column of a field that is left out")
    came = {"cf_customer_later_*" if name.startswith("cf_customer_later_") else name for name in found if name not in before}
    if new is not None and came != new:
        sys.exit(f"readers: {destination}, {what}: the columns that came are {sorted(came)}, not {sorted(new)}")
    return found


DESTINATIONS = ("standard", "plain")
DUCKDB_TYPES = {
    "int64": "BIGINT", "double": "DOUBLE", "bool": "BOOLEAN", "string": "VARCHAR", "date32[day]": "DATE",
    "timestamp[us, tz=UTC]": "TIMESTAMP WITH TIME ZONE",
}


def run(sluice, work, *args):
    result = subprocess.run([sluice, *args], cwd=work, capture_output=True, text=True, encoding="utf-8", check=False)
    if result.returncode != 0:
        sys.exit(f"readers: sluice {' '.join(args)}: exit {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def by_duckdb(sluice, work, destination, schema):
    """Returns every cell as text, a timestamp in microseconds, by id."""
    cells = ", ".join(
        (f'epoch_us("{f.name}")' if pyarrow.types.is_timestamp(f.type) else f'"{f.name}"') + f'::VARCHAR AS "{f.name}"' for f in schema
    )
    sql = f"SELECT {cells} FROM read_parquet('{work}/{destination}/contacts/current/**/*.parquet', hive_partitioning = false)"
    run(sluice, work, "query", sql, "-o", "cells.jsonl")
    with open(work / "cells.jsonl", encoding="utf-8") as f:
        return {row["id"]: row for row in map(json.loads, f)}


def parse(text, kind):
    """Returns what a cell of DuckDB's text is as a Python value."""
    types = pyarrow.types
    if text is None or types.is_string(kind):
        return text
    if types.is_timestamp(kind):
        return int(text)
    if types.is_integer(kind):
        return int(text)
    if types.is_floating(kind):
        return float(text)
    if types.is_boolean(kind):
        return {"true": True, "false": False}[text]
    if types.is_date(kind):
        return datetime.date.fromisoformat(text)
    raise TypeError(f"a column of type {kind}")


EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)


def plain(value, kind):
    """Returns a cell of a reader as parse returns it."""
    if value is None or value is pandas.NA or value is pandas.NaT or isinstance(value, float) and math.isnan(value):
        return None
    if pyarrow.types.is_timestamp(kind):
        return (value - EPOCH) // datetime.timedelta(microseconds=1)
    return value.item() if hasattr(value, "item") else value  # of numpy


def same(a, b):
    return type(a) is type(b) and a == b and (not isinstance(a, float) or math.copysign(1, a) == math.copysign(1, b))


def compare(name, rows, want, schema, lossy=()):
    """Ends the program unless the rows of a reader are those of DuckDB."""
    cells = 0
    if len(rows) != len(want):
        sys.exit(f"readers: {name} has {len(rows)} rows, DuckDB {len(want)}")
    for row in rows:
        expected = want[row["id"]]
        for field in schema:
            got, there = plain(row[field.name], field.type), parse(expected[field.name], field.type)
            if field.name in lossy and there is not None:
                there = float(there)
            if not same(got, there):
                sys.exit(f"readers: {name}: {field.name} of {row['id']} is {got!r}, for DuckDB {there!r}")
            cells += 1
    return cells


def check(sluice, work, destination):
    current = work / destination / "contacts" / "current"
    table = pyarrow.dataset.dataset(str(current), format="parquet", partitioning="hive").to_table()
    table = table.drop_columns(["created_month"])  # the folder's name, not a column
    schema = table.schema
    want = by_duckdb(sluice, work, destination, schema)
    if len(want) != CONTACTS:
        sys.exit(f"readers: {destination} has {len(want)} contacts, the endpoint {CONTACTS}")
    # A check of columns that lack what is hard to read would prove nothing.
    for column, kind in {
        "cf_customer_integer": "int64", "cf_customer_float": "double", "cf_customer_flag": "bool", "cf_customer_text": "string",
        "cf_customer_object": "string", "birthday": "date32[day]", "last_message_at": "timestamp[us, tz=UTC]", "cf_customer_later": "string",
        "cf_customer_nps": "double", "cf_customer_integer__text": "string", "other_fields__json": "string",
    }.items():
        if str(schema.field(column).type) != kind:
            sys.exit(f"readers: {destination}: {column} is {schema.field(column).type}, not {kind}")
        nulls = table[column].null_count
        if not 0 < nulls < CONTACTS:
            sys.exit(f"readers: {destination}: {column} has {nulls} nulls of {CONTACTS} rows")
    if table["cf_customer_integer"].combine_chunks().to_pylist().count(2**63 - 1) == 0:
        sys.exit(f"readers: {destination} has no large integer")

    cells = compare(f"pyarrow.dataset, {destination}", table.to_pylist(), want, schema)
    frame = pandas.read_parquet(current, dtype_backend="pyarrow").drop(columns="created_month")
    cells += compare(f"pandas with Arrow types, {destination}", frame.to_dict("records"), want, schema)
    # By itself, pandas makes floats of integers where some are null.
    lossy = {f.name for f in schema if pyarrow.types.is_integer(f.type) and table[f.name].null_count}
    frame = pandas.read_parquet(current).drop(columns="created_month")
    cells += compare(f"pandas, {destination}", frame.to_dict("records"), want, schema, lossy)
    return cells


def main():
    sluice = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="sluice-readers-") as folder:
        work = pathlib.Path(folder)
        export(sluice, work)
        cells = sum(check(sluice, work, d) for d in DESTINATIONS)
    print(f"readers: ok: {cells:,} cells as DuckDB reads them (pyarrow {pyarrow.__version__}, pandas {pandas.__version__})")


main()
