//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	bq "cloud.google.com/go/bigquery"
	"cloud.google.com/go/civil"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/bigquery"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
)

const dataset = "crm"

// service is a stand-in of BigQuery, and the vendor's own client of it, which
// judges what the loader wrote.
type service struct {
	*bqtest.Server
	client *bq.Client
}

func start(t *testing.T, o bqtest.Options) *service {
	t.Helper()
	s, err := bqtest.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	client, err := bq.NewClient(context.WithoutCancel(t.Context()), s.Project(), option.WithEndpoint(s.URL()), option.WithoutAuthentication())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(client.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return &service{s, client}
}

func (s *service) options(method bigquery.Method) bigquery.Options {
	return bigquery.Options{
		Project: s.Project(), Dataset: dataset, Table: "contacts", CreateDataset: true, Method: method,
		Endpoint: s.URL(), GRPCEndpoint: s.Addr(),
	}
}

func (s *service) open(t *testing.T, o bigquery.Options) *bigquery.Loader {
	t.Helper()
	l, err := bigquery.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// query runs a statement and returns its rows, by column.
func (s *service) query(t *testing.T, sql string) []map[string]bq.Value {
	t.Helper()
	it, err := s.client.Query(sql).Read(t.Context())
	if err != nil {
		t.Fatalf("%v in\n%s", err, sql)
	}
	var out []map[string]bq.Value
	for {
		row := map[string]bq.Value{}
		err := it.Next(&row)
		if errors.Is(err, iterator.Done) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, row)
	}
}

// stored returns a table as the suite compares it; none where there is none.
func (s *service) stored(t *testing.T, table string) []loadtest.Row {
	t.Helper()
	rows := []loadtest.Row{}
	if _, err := s.client.Dataset(dataset).Table(table).Metadata(t.Context()); err != nil {
		return rows
	}
	for _, r := range s.query(t, "SELECT * FROM `"+dataset+"."+table+"`") {
		row := loadtest.Row{}
		for name, v := range r {
			switch v := v.(type) {
			case civil.Date:
				row[name] = v.In(time.UTC)
			case time.Time:
				row[name] = v.UTC()
			default:
				row[name] = v
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// stages returns the table of stages in its order.
func (s *service) stages(t *testing.T) []load.Stage {
	t.Helper()
	var out []load.Stage
	for _, r := range s.query(t, "SELECT * FROM `"+dataset+".crm_stages` ORDER BY pipeline_id, position") {
		var st load.Stage
		for name, into := range map[string]*string{"pipeline_id": &st.PipelineID, "pipeline_name": &st.PipelineName, "stage_id": &st.StageID, "stage_name": &st.StageName} {
			*into, _ = r[name].(string) // NULL is empty
		}
		st.Position, _ = r["position"].(int64)
		out = append(out, st)
	}
	return out
}

// fingerprint is all that tables hold.
func (s *service) fingerprint(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, table := range []string{"contacts", "contacts_history", "contacts__commits"} {
		rows := s.stored(t, table)
		loadtest.Sort(rows)
		for _, r := range rows {
			fmt.Fprintln(&b, table, map[string]any(r))
		}
	}
	return b.String()
}

// everything is each table, view and function of the dataset with its etag, and
// what the tables hold.
func (s *service) everything(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, name := range s.names(t) {
		kind, etag := "", ""
		if m, err := s.client.Dataset(dataset).Table(name).Metadata(t.Context()); err == nil {
			kind, etag = string(m.Type), m.ETag
		} else if m, err := s.client.Dataset(dataset).Routine(name).Metadata(t.Context()); err == nil {
			kind, etag = m.Type, m.ETag
		}
		fmt.Fprintln(&b, name, kind, etag)
	}
	return b.String() + s.fingerprint(t)
}

// names are those of all tables, views and functions of the dataset, by kind.
func (s *service) names(t *testing.T) []string {
	t.Helper()
	if _, err := s.client.Dataset(dataset).Metadata(t.Context()); err != nil {
		return nil
	}
	var out []string
	tables, functions := s.client.Dataset(dataset).Tables(t.Context()), s.client.Dataset(dataset).Routines(t.Context())
	for {
		m, err := tables.Next()
		if errors.Is(err, iterator.Done) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m.TableID)
	}
	for {
		m, err := functions.Next()
		if errors.Is(err, iterator.Done) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m.RoutineID)
	}
}

// draw returns what leaves out two of three cases of the methods but Stream,
// which differ from it in how rows get there and in little else. Which, is drawn
// by a seed that is logged and that SLUICE_DRAW_SEED repeats; SLUICE_SOAK=1 runs
// all of them.
func draw(t *testing.T) func(*testing.T, bigquery.Method) {
	t.Helper()
	seed := os.Getenv("SLUICE_DRAW_SEED")
	if seed == "" {
		seed = strconv.FormatUint(rand.Uint64(), 10) //nolint:gosec // no secret
	}
	t.Logf("SLUICE_DRAW_SEED=%s", seed)
	return func(t *testing.T, method bigquery.Method) {
		t.Helper()
		h := fnv.New64a()
		_, _ = h.Write([]byte(t.Name() + seed)) // it never fails
		if method != bigquery.Stream && os.Getenv("SLUICE_SOAK") == "" && h.Sum64()%3 != 0 {
			t.Skip("not drawn; SLUICE_SOAK=1 runs all cases")
		}
	}
}

func TestLoaderConforms(t *testing.T) {
	t.Parallel()
	drawn := draw(t)
	for _, method := range []bigquery.Method{bigquery.Stream, bigquery.Load, bigquery.CDC} {
		t.Run(string(method), func(t *testing.T) {
			if testing.Short() && method != bigquery.Stream {
				t.Skip("the other methods run without -short")
			}
			loadtest.Run(t, func(t *testing.T) loadtest.Harness {
				t.Helper()
				drawn(t, method)
				return start(t, bqtest.Options{}).harness(method)
			})
		})
	}
}

func (s *service) harness(method bigquery.Method) loadtest.Harness {
	return loadtest.Harness{
		New: func(t *testing.T) load.Loader {
			t.Helper()
			o := s.options(method)
			o.Stages = loadtest.StagesTable
			return s.open(t, o)
		},
		Read:    func(t *testing.T) []loadtest.Row { t.Helper(); return s.stored(t, "contacts") },
		History: func(t *testing.T) []loadtest.Row { t.Helper(); return s.stored(t, "contacts_history") },
		Spoil: func(t *testing.T) {
			t.Helper()
			if err := s.client.Dataset(dataset).Create(t.Context(), &bq.DatasetMetadata{Location: "US"}); err != nil {
				t.Fatal(err)
			}
			s.query(t, "CREATE TABLE `"+dataset+".contacts` (id STRING)")
		},
		Stages: func(t *testing.T) []load.Stage { t.Helper(); return s.stages(t) },
		SpoilStages: func(t *testing.T) {
			t.Helper()
			s.query(t, "CREATE TABLE `"+dataset+".crm_stages` (stage_id STRING)")
		},
		HashKey: func(t *testing.T) (out []string) {
			t.Helper()
			for _, name := range []string{"contacts", "contacts_history"} {
				m, err := s.client.Dataset(dataset).Table(name).Metadata(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, m.Labels["sluice_hash_key_id"])
			}
			return out
		},
		Fingerprint: func(t *testing.T) string { t.Helper(); return s.fingerprint(t) },
	}
}

func TestLoaderSurveysConvergesAndDestroysAsOthersDo(t *testing.T) {
	t.Parallel()
	drawn := draw(t)
	for _, method := range []bigquery.Method{bigquery.Stream, bigquery.Load, bigquery.CDC} {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && method != bigquery.Stream {
				t.Skip("the other methods run without -short")
			}
			loadtest.RunResources(t, func(t *testing.T) loadtest.Place {
				t.Helper()
				drawn(t, method)
				return start(t, bqtest.Options{}).place(method)
			})
		})
	}
}

func (s *service) place(method bigquery.Method) loadtest.Place {
	h := s.harness(method)
	h.Fingerprint = func(t *testing.T) string { t.Helper(); return s.everything(t) }
	view := func(name string) string {
		if slices.Contains([]string{"contacts_active_within", "contacts_reengagement"}, name) {
			return "`" + dataset + "`." + name + "(30)"
		}
		if name == "contacts_as_of" {
			return "`" + dataset + "`." + name + "(CURRENT_TIMESTAMP())"
		}
		return "`" + dataset + "`." + name
	}
	return loadtest.Place{
		Harness: h,
		Second: func(t *testing.T) load.Loader {
			t.Helper()
			o := s.options(method)
			o.Table, o.Stages = "contacts_eu", loadtest.StagesTable // whose names begin as ours do
			return s.open(t, o)
		},
		Account: func(t *testing.T, table string, u load.Union) load.Loader {
			t.Helper()
			o := s.options(method)
			o.Table, o.Union = table, u
			return s.open(t, o)
		},
		Neighbour: func(t *testing.T) func(t *testing.T) {
			t.Helper()
			names := []string{"theirs", "contacts_theirs", "contacts_of_ours", "contacts_fn", "contacts__rebuilt"}
			s.query(t, "CREATE TABLE `"+dataset+"`.theirs (id STRING)")
			s.query(t, "CREATE TABLE `"+dataset+"`.contacts__rebuilt (id STRING)")
			s.query(t, "CREATE VIEW `"+dataset+"`.contacts_theirs AS SELECT id FROM `"+dataset+"`.theirs")
			s.query(t, "CREATE VIEW `"+dataset+"`.contacts_of_ours AS SELECT id FROM `"+dataset+"`.contacts")
			s.query(t, "CREATE TABLE FUNCTION `"+dataset+"`.contacts_fn(n INT64) AS SELECT n AS m")
			return func(t *testing.T) {
				t.Helper()
				for _, name := range names {
					if !slices.Contains(s.names(t), name) {
						t.Errorf("%s is gone", name)
					}
				}
			}
		},
		Left: func(t *testing.T) []string { t.Helper(); return s.names(t) },
		AddColumn: func(t *testing.T, column string) {
			t.Helper()
			s.query(t, "ALTER TABLE `"+dataset+"`.contacts ADD COLUMN "+column+" STRING")
		},
		DropView: func(t *testing.T, name string) { t.Helper(); s.query(t, "DROP VIEW `"+dataset+"`."+name) },
		ChangeView: func(t *testing.T, name string) {
			t.Helper()
			m, err := s.client.Dataset(dataset).Table(name).Metadata(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s.query(t, "CREATE OR REPLACE VIEW `"+dataset+"`."+name+" OPTIONS (description='"+m.Description+"') AS SELECT id FROM `"+dataset+"`.contacts")
		},
		Count: func(t *testing.T, name string) int64 {
			t.Helper()
			n, _ := s.query(t, "SELECT COUNT(*) AS n FROM "+view(name))[0]["n"].(int64)
			return n
		},
	}
}
