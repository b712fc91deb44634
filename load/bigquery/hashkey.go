package bigquery

import "context"

// hashKeyLabel is the label of the table and of its history that has the id of
// the key which the last package's hashes were made with.
const hashKeyLabel = "sluice_hash_key_id"

// noteHashKey labels the tables with the id of the key of their hashes. A table
// keeps the last one where a contract hashes nothing any more: history has its
// hashes still.
func (l *Loader) noteHashKey(ctx context.Context, lay layout, id string) error {
	if id == "" {
		return nil
	}
	for _, name := range []string{l.o.Table, l.o.history()} {
		if t := lay.named(name); t != nil && t.Labels[hashKeyLabel] == id {
			continue
		}
		if err := l.label(ctx, name, hashKeyLabel, id); err != nil {
			return err
		}
	}
	return nil
}
