package parquet

// SetSortLimit makes verification sort n keys at a time in memory.
func SetSortLimit(n int) func(*Options) { return func(o *Options) { o.sortLimit = n } }

// EncodeIDs returns the file of ids that goes with a file of current.
func EncodeIDs(sum string, ids ...string) ([]byte, error) {
	var hashes []uint64
	for _, id := range ids {
		hashes = append(hashes, shortHash(id))
	}
	return encodeIDs(sum, hashes)
}
