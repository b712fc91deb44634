package bigquery

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// merge writes the statements that bring one staged package together with its
// table. They are one script in one transaction: history, the table and the
// record of the package change together or not at all.
type merge struct {
	o        Options
	table    schemas.Table // after the package
	pkg      load.Package
	staged   staged
	before   int64       // serial of the last package on record
	beforeAt time.Time   // when that was committed; zero where there is none
	months   []time.Time // of created_at in the table to look at, ascending
	whole    bool        // the table is not partitioned, so that all of it is looked at
	rebuilt  bool        // Replace has made the table
	recent   time.Time   // cdc: versions read since then may not be visible in the table yet; zero: all are
	doubled  bool        // the table holds a contact twice, which is to be mended
	now      time.Time
}

// decideFate says what becomes of each row of the package, in the order of
// load.Loader: rows of one id apply one after another; takes: the row replaces
// the one before it, which always has the version of the row that was looked at
// last, or the stored one's where none could apply yet. The last that takes
// wins. Each version that the table did not hold goes to history once: as the
// winner, if it is the winner's, else as the first row in order. A tombstone of
// an id that the table does not hold has nothing to bury.
const decideFate = `CREATE TEMP TABLE sluice_fate AS
WITH met AS (
  SELECT k.id, k.n, k.counts, k.extracted, k.digest, k.deleted, k.month,
    m.id IS NOT NULL AS known, m.digest AS old_digest, m.deleted AS old_deleted, m.month AS old_month,
    CASE WHEN m.id IS NULL THEN LOGICAL_OR(NOT k.deleted) OVER (PARTITION BY k.id ORDER BY k.counts, k.extracted, k.n ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
      ELSE k.counts > m.counts OR (k.counts = m.counts AND k.extracted >= m.extracted) END AS applies
  FROM sluice_keys AS k LEFT JOIN sluice_met AS m ON m.id = k.id
), stepped AS (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY id ORDER BY counts, extracted, n) AS place,
    applies AND CASE
      WHEN LAG(applies, 1, FALSE) OVER (PARTITION BY id ORDER BY counts, extracted, n)
        THEN LAG(digest) OVER (PARTITION BY id ORDER BY counts, extracted, n) != digest OR LAG(deleted) OVER (PARTITION BY id ORDER BY counts, extracted, n) != deleted
      ELSE NOT known OR old_digest != digest OR old_deleted != deleted END AS takes
  FROM met
), won AS (
  SELECT *, MAX(IF(takes, place, NULL)) OVER (PARTITION BY id) AS winner FROM stepped
), versions AS (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY id, digest, deleted ORDER BY IF(place = winner, 0, 1), place) AS nth FROM won
)
SELECT n, id, IFNULL(place = winner, FALSE) AS wins, known, deleted, known AND month != old_month AS moved
FROM versions
WHERE place = winner
   OR ((known OR winner IS NOT NULL) AND nth = 1 AND NOT IFNULL(digest = old_digest AND deleted = old_deleted, FALSE))`

// keyColumns are what the order and the notion of a version need of a row.
const keyColumns = `id, _sluice_row AS n, LEAST(updated_at, _sluice_extracted_at) AS counts, _sluice_extracted_at AS extracted,
  _sluice_hash AS digest, _sluice_deleted_at IS NOT NULL AS deleted, TIMESTAMP_TRUNC(created_at, MONTH) AS month`

// script returns the statements.
func (m *merge) script() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+";\n", args...) }
	line("BEGIN TRANSACTION")
	line("ASSERT (SELECT IFNULL(MAX(package), 0) FROM %s) = %d AS %s", m.o.quoted(m.o.commits()), m.before, quoteText(assertPosition))
	if m.staged.Rows > 0 {
		line("CREATE TEMP TABLE sluice_keys AS\nSELECT %s\nFROM %s WHERE %s", keyColumns, m.o.quoted(m.o.staging()), m.isStaged(""))
		line("ASSERT (SELECT COUNT(*) FROM sluice_keys WHERE id IS NOT NULL AND n IS NOT NULL AND counts IS NOT NULL AND extracted IS NOT NULL AND digest IS NOT NULL AND month IS NOT NULL) = %d AS %s",
			m.staged.Rows, quoteText(assertStaged))
		b.WriteString(m.met() + ";\n")
		if m.doubled {
			b.WriteString(m.removeDoubles() + ";\n")
		}
		line("%s", decideFate)
		line("INSERT INTO %s (%s)\n%s", m.o.quoted(m.o.history()), m.columnList(""), m.changed(""))
		if m.o.Method != CDC {
			b.WriteString(m.mergeInto() + ";\n")
		}
	}
	b.WriteString(m.record() + ";\n")
	line("%s", m.claim())
	line("COMMIT TRANSACTION")
	return b.String()
}

// The messages of assertions, by which a failed script is told apart.
const (
	assertPosition = "sluice: another package was committed meanwhile"
	assertStaged   = "sluice: the staged rows are not those of the package"
)

// isStaged is the condition for the package's staged rows; its bounds are
// literals, so that only their partition is read.
func (m *merge) isStaged(alias string) string {
	return fmt.Sprintf("%[1]s_sluice_staged_at = %[2]s AND %[1]s_sluice_package = %[3]d AND %[1]s_sluice_attempt = %[4]d",
		alias, literal(m.staged.StagedAt), m.pkg.Serial, m.staged.Attempt)
}

// met is what the table holds of the package's ids. Of an id that stands there
// twice, and of one whose last change is not visible yet, the greatest counts.
func (m *merge) met() string {
	where := ""
	if !m.whole {
		where = inMonths("created_at", m.months) + " AND "
	}
	rows := fmt.Sprintf("SELECT %s, _sluice_package AS pkg FROM %s WHERE %sid IN (SELECT id FROM sluice_keys)",
		keyColumns, m.o.quoted(m.o.Table), where)
	if m.o.Method == CDC && !m.recent.IsZero() {
		rows += fmt.Sprintf("\n  UNION ALL\n  SELECT %s, _sluice_package AS pkg FROM %s WHERE _sluice_extracted_at >= %s AND id IN (SELECT id FROM sluice_keys)",
			keyColumns, m.o.quoted(m.o.history()), literal(m.recent))
	}
	return "CREATE TEMP TABLE sluice_met AS\nSELECT * FROM (\n  " + rows + "\n) WHERE TRUE\n" +
		"QUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY counts DESC, extracted DESC, pkg DESC, n DESC) = 1"
}

// removeDoubles leaves of each contact of the package one row in the table.
func (m *merge) removeDoubles() string {
	return fmt.Sprintf("DELETE FROM %s AS _t WHERE %s AND EXISTS (SELECT 1 FROM sluice_met AS _k WHERE _k.id = _t.id AND (_k.pkg != _t._sluice_package OR _k.n != _t._sluice_row))",
		m.o.quoted(m.o.Table), inMonths("_t.created_at", m.months))
}

// changed selects the package's rows that have a fate, in the table's columns;
// which is another condition on it.
func (m *merge) changed(which string) string {
	values := make([]string, len(m.table.Columns))
	for i, c := range m.table.Columns {
		name := quoteName(c.Name)
		switch c.Name {
		case schemas.ColRunID:
			values[i] = quoteText(m.pkg.RunID) + " AS " + name
		case schemas.ColPackage:
			values[i] = "_p." + name
		case schemas.ColChange:
			values[i] = "CASE WHEN _f.deleted THEN 'delete' WHEN _f.known THEN 'update' ELSE 'insert' END AS " + name
		default:
			values[i] = "_p." + name
		}
	}
	return fmt.Sprintf("SELECT %s\nFROM %s AS _p JOIN sluice_fate AS _f ON _f.n = _p._sluice_row\nWHERE %s%s",
		strings.Join(values, ", "), m.o.quoted(m.o.staging()), m.isStaged("_p."), which)
}

// columnList names the table's columns.
func (m *merge) columnList(alias string) string {
	list := make([]string, len(m.table.Columns))
	for i, c := range m.table.Columns {
		list[i] = alias + quoteName(c.Name)
	}
	return strings.Join(list, ", ")
}

// mergeInto brings the winners into the table. The months are literals, so that
// no other partition is read; the order is looked at once more, so that not even
// a package that was decided on wrongly puts an older row in a newer one's place.
func (m *merge) mergeInto() string {
	sets := make([]string, len(m.table.Columns))
	for i, c := range m.table.Columns {
		sets[i] = fmt.Sprintf("%[1]s = _s.%[1]s", quoteName(c.Name))
	}
	return fmt.Sprintf("MERGE %s AS _t\nUSING (\n%s\n) AS _s\nON _t.id = _s.id AND %s\nWHEN MATCHED AND (%s) THEN UPDATE SET %s\nWHEN NOT MATCHED THEN INSERT (%s) VALUES (%s)",
		m.o.quoted(m.o.Table), m.changed(" AND _f.wins"), inMonths("_t.created_at", m.months), isGreater,
		strings.Join(sets, ", "), m.columnList(""), m.columnList("_s."))
}

// isGreater is the total order of load.Loader between a row _s and a row _t. No
// column of the data has a name like these: one that is called as an alias would
// make its names ambiguous.
const isGreater = `LEAST(_s.updated_at, _s._sluice_extracted_at) > LEAST(_t.updated_at, _t._sluice_extracted_at)
  OR (LEAST(_s.updated_at, _s._sluice_extracted_at) = LEAST(_t.updated_at, _t._sluice_extracted_at) AND (_s._sluice_extracted_at > _t._sluice_extracted_at
  OR (_s._sluice_extracted_at = _t._sluice_extracted_at AND (_s._sluice_package > _t._sluice_package
  OR (_s._sluice_package = _t._sluice_package AND _s._sluice_row > _t._sluice_row)))))`

// claim gives the record of the package its status. Of transactions at once that
// only append, each takes effect, whatever they have asserted: what the service
// cancels is one that changes rows of a table of which another does
// (Multi-statement transactions, "Transaction concurrency"). So each changes a
// row here: its own, and writes the last one's anew. An UPDATE is billed for all
// columns of the partitions that it goes through, hence the times.
func (m *merge) claim() string {
	status := statusDone
	if m.o.Method == CDC && m.staged.Rows > 0 {
		status = statusApplying
	}
	times := literal(m.now)
	if m.before > 0 {
		times += ", " + literal(m.beforeAt)
	}
	return fmt.Sprintf("UPDATE %s SET status = IF(package = %d, %s, status) WHERE package >= %d AND committed_at IN (%s)",
		m.o.quoted(m.o.commits()), m.pkg.Serial, quoteText(status), m.before, times)
}

// record notes the package beside the tables.
func (m *merge) record() string {
	result := quoteText(`{"new":0,"changed":0,"unchanged":0,"deleted":0,"versions":0,"moved":0}`)
	from := ""
	if m.staged.Rows > 0 {
		result = `FORMAT('{"new":%d,"changed":%d,"unchanged":%d,"deleted":%d,"versions":%d,"moved":%d}',
    COUNTIF(wins AND NOT known AND NOT deleted), COUNTIF(wins AND known AND NOT deleted),
    (SELECT COUNT(*) FROM sluice_met) - COUNTIF(wins AND known), COUNTIF(wins AND deleted), COUNT(*), COUNTIF(wins AND moved))`
		from = "\nFROM sluice_fate"
	}
	oldest := "NULL"
	if !m.staged.ExtractedFrom.IsZero() {
		oldest = literal(m.staged.ExtractedFrom)
	}
	return fmt.Sprintf("INSERT INTO %s (format_version, package, run_id, pipeline, status, method, result, columns, coverage, extracted_from, committed_at)\nSELECT %d, %d, %s, %s, %s, %s,\n  %s,\n  %s, %s, %s, %s%s",
		m.o.quoted(m.o.commits()), FormatVersion, m.pkg.Serial, quoteText(m.pkg.RunID), quoteText(m.pkg.Pipeline), quoteText(statusClaiming), quoteText(string(m.o.Method)),
		result, "@columns", "NULLIF(@coverage, '')", oldest, literal(m.now), from)
}

// strangers asks whether any contact of the package that is not new is missing
// where its created_at says it stands. It reads the ids of those months.
func (m *merge) strangers(before time.Time) string {
	return fmt.Sprintf(`SELECT COUNTIF(t.held IS NULL AND k.created < %s), COUNTIF(t.held > 1)
FROM (SELECT id, MIN(created_at) AS created FROM %s WHERE %s GROUP BY id) AS k
LEFT JOIN (SELECT id, COUNT(*) AS held FROM %s WHERE %s GROUP BY id) AS t ON t.id = k.id`,
		literal(before), m.o.quoted(m.o.staging()), m.isStaged(""), m.o.quoted(m.o.Table), inMonths("created_at", m.months))
}

// elsewhere asks in which other months the package's contacts stand. It reads
// the ids of the whole table.
func (m *merge) elsewhere() string {
	return fmt.Sprintf("SELECT DISTINCT TIMESTAMP_TRUNC(created_at, MONTH) AS month FROM %s\nWHERE NOT (%s) AND id IN (SELECT id FROM %s WHERE %s)\nORDER BY month",
		m.o.quoted(m.o.Table), inMonths("created_at", m.months), m.o.quoted(m.o.staging()), m.isStaged(""))
}

// winners asks which of the package's rows are the last of their contact, once
// they are in history. In method cdc the sequence number decides whether they
// take effect.
func (m *merge) winners() string {
	return fmt.Sprintf(`SELECT _sluice_row, _sluice_change FROM %s
WHERE _sluice_extracted_at >= %s AND _sluice_extracted_at <= %s AND _sluice_package = %d
QUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY LEAST(updated_at, _sluice_extracted_at) DESC, _sluice_extracted_at DESC, _sluice_row DESC) = 1
ORDER BY _sluice_row`, m.o.quoted(m.o.history()), literal(m.staged.ExtractedFrom), literal(m.staged.ExtractedTo), m.pkg.Serial)
}

// lastYear is that of the last timestamp there is (Data types, "Timestamp type").
const lastYear = 9999

// inMonths is a condition that holds for those months of a timestamp column
// alone. Neighbouring months make up one range; the service prunes partitions
// by it, because all bounds are literals.
func inMonths(column string, months []time.Time) string {
	var ranges []string
	for i := 0; i < len(months); {
		from, to := months[i], months[i].AddDate(0, 1, 0)
		for i++; i < len(months) && months[i].Equal(to); i++ {
			to = to.AddDate(0, 1, 0)
		}
		if to.Year() > lastYear {
			ranges = append(ranges, fmt.Sprintf("(%s >= %s)", column, literal(from)))
			continue
		}
		ranges = append(ranges, fmt.Sprintf("(%[1]s >= %[2]s AND %[1]s < %[3]s)", column, literal(from), literal(to)))
	}
	switch len(ranges) {
	case 0:
		return "FALSE"
	case 1:
		return ranges[0]
	}
	return "(" + strings.Join(ranges, " OR ") + ")"
}

// literal is a TIMESTAMP with microseconds.
func literal(t time.Time) string { return "TIMESTAMP '" + timeText(t) + "'" }

// quoteText spells a string. A backslash escapes within one (Lexical structure,
// "Escape sequences").
func quoteText(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\r", `\r`).Replace(s) + "'"
}
