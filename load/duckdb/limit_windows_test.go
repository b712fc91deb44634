package duckdb_test

import "errors"

func limitFiles(uint64) error { return errors.New("not on Windows") }
