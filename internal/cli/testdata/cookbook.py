"""Runs the blocks of Python of docs/cookbook.md, one after the other.

Takes a JSON array of {"line", "code"} on stdin, and prints a JSON object of what
each printed, by its line. The time stands still at the one given: for DuckDB's
now(), and for pandas where the page asks it.

Usage: cookbook.py TIME
"""

import contextlib
import io
import json
import sys

import duckdb

NOW = sys.argv[1]
connect = duckdb.connect


def standing(*args, **kwargs):
    db = connect(*args, **kwargs)
    db.execute(f"CREATE TEMP MACRO now() AS TIMESTAMPTZ '{NOW}'")
    return db


duckdb.connect = standing
session, printed = {}, {}
for block in json.load(sys.stdin):
    code = block["code"].replace('pd.Timestamp.now("UTC")', f'pd.Timestamp("{NOW}")')
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        # Blank lines before it make the lines of errors those of the page.
        exec(compile("\n" * (block["line"] - 1) + code, "docs/cookbook.md", "exec"), session)
    printed[str(block["line"])] = out.getvalue()
json.dump(printed, sys.stdout)
