package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// digest is that of a contract file's bytes, read once.
func (r *reader) digest(f fields, path string) string {
	if d, ok := r.digests[path]; ok {
		return d
	}
	file, err := os.Open(path)
	if err != nil {
		r.errorf(f.pos("schema"), "", "read schema: %s", cause(err))
		return ""
	}
	sum := sha256.New()
	_, err = io.Copy(sum, file)
	if err = errors.Join(err, file.Close()); err != nil {
		r.errorf(f.pos("schema"), "", "read schema: %s", cause(err))
		return ""
	}
	if r.digests == nil {
		r.digests = map[string]string{}
	}
	r.digests[path] = hex.EncodeToString(sum.Sum(nil))
	return r.digests[path]
}

// Hash identifies what the file asks for, defaults, accounts and variables
// filled in, and what the contract files said when it was loaded: a saved plan
// binds to it. Keys and comments do not count, nor does the directory the file
// stands in; the order of names does not either.
func (c *Config) Hash() string {
	type source struct {
		Type, URL                    string
		AllowInsecure                bool
		PageSize, Concurrency        int
		RequestsPerSecond            float64
		Connect, Response, Req, Rest int64
		CombineFilters               bool
	}
	type destination struct {
		Type, Path                        string
		Plain                             bool
		MemoryLimit, QueueLimit, QueueAge int64
		PreventDestroy                    bool
		PricePerTiB                       float64   `json:",omitempty"`
		BigQuery                          *BigQuery `json:",omitempty"` // its key file left out
	}
	type reconcile struct {
		Schedule  string
		MaxShare  float64
		MaxProbes int
	}
	type pipeline struct {
		Source, Table, Schema, Sync, Verify, Schedule, Timezone string
		Contract                                                string `json:",omitempty"`
		Lookback, FullEvery                                     int64
		Days                                                    int
		Filters                                                 map[string][]string
		Stages, Pipelines                                       []string
		Field                                                   *Field
		Reconcile                                               *reconcile
		Quarantine                                              *Quarantine `json:",omitempty"` // nil: the defaults
		Enrich, StagesTable, UnionView                          string
		MaxRequests, MaxBytes                                   int64
		Destinations                                            []string
	}
	all := struct {
		Version      int
		Backend      string
		StatePath    string
		Sources      map[string]source
		Destinations map[string]destination
		Pipelines    map[string]pipeline
	}{1, c.State.Backend, cmp.Or(c.State.URL, c.State.path), map[string]source{}, map[string]destination{}, map[string]pipeline{}}
	for _, s := range c.Sources {
		all.Sources[s.Name] = source{
			s.Type, s.URL, s.AllowInsecure, s.PageSize, s.Concurrency, s.RequestsPerSecond,
			int64(s.ConnectTimeout), int64(s.ResponseTimeout), int64(s.RequestTimeout), int64(s.RetryFor),
			s.CombineFilters,
		}
	}
	for _, d := range c.Destinations {
		v := destination{Type: d.Type, Path: cmp.Or(d.URL, d.path), Plain: d.Plain, MemoryLimit: d.MemoryLimit, QueueLimit: d.QueueLimit, QueueAge: int64(d.QueueAge), PreventDestroy: d.PreventDestroy, PricePerTiB: d.PricePerTiB}
		if d.Type == Warehouse {
			b := d.BigQuery
			b.KeyFile = "" // whose key it is does not change what is asked for
			v.BigQuery = &b
		}
		all.Destinations[d.Name] = v
	}
	for _, p := range c.Pipelines {
		v := pipeline{
			Source: p.Source.Name, Table: p.Table, Schema: p.schema, Contract: p.contract, Sync: p.Sync, Verify: p.Verify, Schedule: p.Schedule, Timezone: p.Timezone.String(),
			Lookback: int64(p.Lookback), FullEvery: int64(p.FullEvery), Days: p.Days,
			Filters: p.Filters, Stages: p.Stages, Pipelines: p.Pipelines, Field: p.Field,
			Enrich: p.Enrich, StagesTable: p.StagesTable, UnionView: p.UnionView, MaxRequests: p.MaxRequests, MaxBytes: p.MaxBytes,
		}
		if r := p.Reconcile; r != nil {
			v.Reconcile = &reconcile{r.Schedule, r.MaxShare, r.MaxProbes}
		}
		if q := p.Quarantine; q != (Quarantine{Store: "auto", MaxShare: 0.1}) {
			v.Quarantine = &q
		}
		for _, d := range p.Destinations {
			v.Destinations = append(v.Destinations, d.Name)
		}
		all.Pipelines[p.Name] = v
	}
	data, err := json.Marshal(all) // maps in order of key
	if err != nil {
		panic(fmt.Sprintf("config: hash: %v", err)) // plain data: cannot happen
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
