// Package parquetfile writes, reads and verifies the Parquet files of Sluice:
// staged parts and published tables alike.
//
// It stands between the program and two libraries, neither of which is safe
// alone. Apache arrow's v17 writer is fast once tuned, and reports success
// after failed writes; xitongsys/parquet-go reads everything right and shares
// no code with it, so it serves as the second reader. Writer never reports a
// file that is not whole, and Verify compares what the second reader finds
// with what was handed to Writer, value by value.
package parquetfile
