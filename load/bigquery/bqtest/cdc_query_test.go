package bqtest

import (
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/iterator"
)

func TestQueriesSeeChangesThatAreDueAndDMLIsRefused(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	client := st.client()
	if err := client.Dataset("crm").Create(t.Context(), &bigquery.DatasetMetadata{Location: "US"}); err != nil {
		t.Fatal(err)
	}
	err := client.Dataset("crm").Table("contacts").Create(t.Context(), &bigquery.TableMetadata{
		Schema: bigquery.Schema{
			{Name: "id", Type: bigquery.StringFieldType, Required: true}, {Name: "n", Type: bigquery.IntegerFieldType},
		},
		TableConstraints: &bigquery.TableConstraints{PrimaryKey: &bigquery.PrimaryKey{Columns: []string{"id"}}},
		MaxStaleness:     &bigquery.IntervalValue{Minutes: 10},
	})
	if err != nil {
		t.Fatal(err)
	}
	query := func(sql string) (string, error) {
		it, err := client.Query(sql).Read(t.Context())
		if err != nil {
			return "", err
		}
		var rows []string
		for {
			var row []bigquery.Value
			if err := it.Next(&row); err == iterator.Done { //nolint:errorlint // as its documentation says
				return strings.Join(rows, ","), nil
			} else if err != nil {
				return "", err
			}
			rows = append(rows, row[0].(string)) //nolint:forcetypeassert // of the query
		}
	}
	want := func(ids string) {
		t.Helper()
		if got, err := query("SELECT id FROM crm.contacts ORDER BY id"); err != nil || got != ids {
			t.Fatalf("got %q, %v; want %q", got, err, ids)
		}
	}
	if _, err := query("UPDATE crm.contacts SET n = 1 WHERE true"); err != nil {
		t.Fatal(err)
	}
	ref := tableRef{st.s.Project(), "crm", "contacts"}
	c := st.connect(t.Context())
	c.ok(protoReq(ref.defaultStream(), changes, upsert("a", 1, "1"), upsert("b", 1, "1")))
	want("")
	st.clock.advance(10 * time.Minute)
	want("a,b")
	c.ok(protoReq("", nil, remove("a", "2")))
	want("a,b")
	st.clock.advance(10 * time.Minute)
	want("b")
	for _, sql := range []string{
		"UPDATE crm.contacts SET n = 1 WHERE true", "DELETE FROM crm.contacts WHERE true",
		"MERGE crm.contacts t USING (SELECT 'b' AS id) s ON t.id = s.id WHEN MATCHED THEN DELETE",
	} {
		if _, err := query(sql); err == nil || !strings.Contains(err.Error(), "change data capture") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if _, err := query("ALTER TABLE crm.contacts RENAME TO others"); err == nil || !strings.Contains(err.Error(), "while data is streaming into it") {
		t.Errorf("renamed: %v", err)
	}
	want("b")
}
