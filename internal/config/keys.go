package config

import (
	"strings"
)

// KeyType says how a key's value is written.
type KeyType string

// The types of values.
const (
	MappingType  KeyType = "mapping"
	TextType     KeyType = "text"
	ChoiceType   KeyType = "choice"   // one of Allowed
	NameType     KeyType = "name"     // a-z, 0-9 and _, beginning with a letter, at most 63
	NamesType    KeyType = "names"    // a list of names, or one
	ValuesType   KeyType = "values"   // a list of texts, or one
	UUIDsType    KeyType = "UUIDs"    // a list of UUIDs, or one
	IntegerType  KeyType = "integer"  // decimal digits
	NumberType   KeyType = "number"   // decimal
	BooleanType  KeyType = "boolean"  // true or false
	BooleansType KeyType = "booleans" // a list of booleans, or one
	DurationType KeyType = "duration" // 90s, 1h30m, 7d, 2w
	ShareType    KeyType = "share"    // 1%, 0.5%
	SizeType     KeyType = "size"     // 512MB, 10GiB
	URLType      KeyType = "url"
	PathType     KeyType = "path" // relative ones start at the file's directory
	SecretType   KeyType = "secret"
	CronType     KeyType = "schedule" // five cron fields, a descriptor, or @every DURATION
	TimezoneType KeyType = "timezone" // IANA name
	AccountsType KeyType = "accounts" // a mapping from account keys to mappings of values
	SourceType   KeyType = "source"   // the name of a source, or NAME["ACCOUNT"]
	LabelsType   KeyType = "labels"   // a mapping from labels to their values
)

// expects names the type in messages.
func (t KeyType) expects() string {
	switch t {
	case MappingType:
		return "a mapping of keys"
	case IntegerType:
		return "a whole number"
	case NumberType:
		return "a number"
	case BooleanType:
		return "true or false"
	case BooleansType:
		return "true or false, or a list of them"
	case DurationType:
		return "a duration such as 90s, 1h30m or 7d"
	case ShareType:
		return "a percentage such as 1% or 0.5%"
	case SizeType:
		return "a size such as 512MB or 10GiB"
	case NamesType:
		return "a name or a list of names"
	case ValuesType:
		return "text or a list of texts"
	case UUIDsType:
		return "a UUID or a list of UUIDs"
	case URLType:
		return "a URL"
	case PathType:
		return "a path"
	case NameType:
		return "a name"
	case CronType:
		return "a schedule such as \"0 3 * * *\", @daily or @every 15m"
	case TimezoneType:
		return "a timezone such as America/Santiago"
	case AccountsType:
		return "a mapping from accounts to their values"
	case SourceType:
		return "the name of a source"
	case LabelsType:
		return "a mapping from labels to values"
	case TextType, ChoiceType, SecretType:
		return "text"
	default:
		return "text"
	}
}

// Key describes one key of pipelines.yaml. The validation, the docs page and
// the JSON Schema all come from this table.
type Key struct {
	// Path is where the key stands, "*" for a name: "sources.*.page_size".
	Path        string
	Type        KeyType
	Default     string   // as one would write it; empty for none
	Required    bool     // must be given
	Allowed     []string // of a choice: all values
	Min, Max    string   // inclusive bounds, as one would write them; empty for none
	Unit        string   // of a bare number
	Of          string   // the types of its parent that have it, separated by spaces; empty for all
	Description string
}

// name is the key's own name.
func (k Key) name() string { return k.Path[strings.LastIndexByte(k.Path, '.')+1:] }

// example is a value to show where the key is missing.
func (k Key) example() string {
	switch {
	case k.Default != "":
		return k.Default
	case len(k.Allowed) > 0:
		return k.Allowed[0]
	case k.Type == URLType:
		return "https://api.vambe.me"
	case k.name() == "project":
		return "my-project"
	case k.name() == "dataset":
		return "crm"
	case k.Type == PathType:
		return "out"
	default:
		return "..."
	}
}

// hint says what is allowed.
func (k Key) hint() string {
	unit := ""
	if k.Unit != "" {
		unit = " " + k.Unit
	}
	switch {
	case len(k.Allowed) > 0:
		return "allowed: " + strings.Join(k.Allowed, ", ")
	case k.Min != "" && k.Max != "":
		return "allowed: " + k.Min + " to " + k.Max + unit
	case k.Type == BooleanType:
		return "allowed: true, false"
	default:
		return "expected " + k.Type.expects()
	}
}

// Keys returns every key of pipelines.yaml, parents before children, in the
// order in which they are best read.
func Keys() []Key {
	keys := topKeys()
	keys = append(keys, daemonKeys()...)
	keys = append(keys, sourceKeys()...)
	keys = append(keys, destinationKeys()...)
	keys = append(keys, pipelineKeys()...)
	keys = append(keys, filterKeys()...)
	keys = append(keys, afterFilterKeys()...)
	keys = append(keys, timesKeys()...)
	keys = append(keys, notifyKeys()...)
	return keys
}

// chain says where access to gs:// comes from: never this file.
const chain = "Credentials for gs:// come from Google's default chain (GOOGLE_APPLICATION_CREDENTIALS, gcloud's login, the machine's service account), never from this file."

func topKeys() []Key {
	return []Key{
		{Path: "version", Type: ChoiceType, Required: true, Allowed: []string{"1"}, Description: "Version of this file's format."},
		{Path: "state", Type: MappingType, Description: "Where Sluice remembers how far each pipeline is, and keeps packages until they are committed."},
		{Path: "state.backend", Type: ChoiceType, Default: "file", Allowed: []string{"file", "gcs"}, Description: "Kind of storage for state: file, a directory of this machine; gcs, a Google Cloud Storage bucket that several machines may share."},
		{Path: "state.path", Type: PathType, Default: ".sluice", Description: "Directory of the file backend, created with mode 0700; or gs://BUCKET/PREFIX of the gcs backend, which needs it. " + chain},
		{Path: "state.work_dir", Type: PathType, Default: ".sluice", Description: "Of the gcs backend: local directory for locks, for what is read and not sealed yet, and for records set aside. What it holds may be lost between runs; several processes of one machine should share it. It should be on a disk, not in memory."},
		{Path: "defaults", Type: MappingType, Description: "Keys that hold wherever a source, destination or pipeline leaves them out. One that it gives as null is left out for good. A list or mapping is taken whole, not joined."},
		{Path: "defaults.sources", Type: MappingType, Description: "Keys of sources.*, but for_each."},
		{Path: "defaults.destinations", Type: MappingType, Description: "Keys of destinations.*. Those of one type hold for destinations of that type alone."},
		{Path: "defaults.pipelines", Type: MappingType, Description: "Keys of pipelines.*, but for_each. Those that do not go with a pipeline's sync do not hold for it."},
		{Path: "sources", Type: MappingType, Required: true, Description: "Accounts to read from, by name."},
		{Path: "destinations", Type: MappingType, Required: true, Description: "Places to write to, by name."},
		{Path: "pipelines", Type: MappingType, Required: true, Description: "What is read from which source and written where, by name."},
	}
}

func sourceKeys() []Key {
	const p = "sources.*"
	return []Key{
		{Path: p, Type: MappingType, Description: "One account. Its name is for references in this file."},
		{Path: p + ".type", Type: ChoiceType, Required: true, Allowed: []string{"contacts_api"}, Description: "Kind of source."},
		{Path: p + ".url", Type: URLType, Required: true, Description: "https://HOST of the API, or sandbox://?contacts=10000&seed=1 for generated contacts served in this process. http:// reaches loopback only, unless allow_insecure is true."},
		{Path: p + ".api_key", Type: SecretType, Description: "Key sent in the x-api-key header. Take it from a variable: ${CONTACTS_API_KEY}. For sandbox:// it is \"sandbox\" and may be left out."},
		{Path: p + ".api_key_file", Type: PathType, Description: "File that holds the key, instead of api_key; a newline at its end is dropped."},
		{Path: p + ".allow_insecure", Type: BooleanType, Default: "false", Description: "Let http:// send the key and contacts unencrypted to a host that is not this machine."},
		{Path: p + ".page_size", Type: IntegerType, Default: "1000", Min: "1", Max: "1000", Unit: "contacts", Description: "Contacts asked for in one request."},
		{Path: p + ".concurrency", Type: IntegerType, Default: "4", Min: "1", Max: "64", Unit: "requests", Description: "Requests in flight at most."},
		{Path: p + ".requests_per_second", Type: NumberType, Default: "5", Min: "0.01", Max: "1000", Unit: "requests per second", Description: "Rate limit over all workers that talk to the host."},
		{Path: p + ".connect_timeout", Type: DurationType, Default: "10s", Min: "100ms", Max: "10m", Description: "How long connecting to the host may take, the TLS handshake included."},
		{Path: p + ".response_timeout", Type: DurationType, Default: "1m", Min: "100ms", Max: "1h", Description: "How long the host may take to begin its answer to a request."},
		{Path: p + ".request_timeout", Type: DurationType, Default: "2m", Min: "100ms", Max: "1h", Description: "How long one request may take altogether, the body included."},
		{Path: p + ".retry_for", Type: DurationType, Default: "5m", Min: "1s", Max: "1d", Description: "How long a request that fails in a passing way (429, 5xx, timeouts, broken answers) is repeated before the run fails."},
		{Path: p + ".combine_filters", Type: BooleanType, Default: "true", Description: "false where `sluice doctor` finds that the source does not combine `days` with created_after: `sync: recent` then pages `days` by itself."},
		{Path: p + ".for_each", Type: AccountsType, Description: "Makes one source of it for each account, as in {acme: {region: south}, globex: {}}: see [Many accounts](#many-accounts). A key has a-z, 0-9, _ and -, at most 63."},
	}
}

func destinationKeys() []Key {
	const p = "destinations.*"
	return []Key{
		{Path: p, Type: MappingType, Description: "One place to write to. Its name is for references in this file and in state."},
		{Path: p + ".type", Type: ChoiceType, Required: true, Allowed: []string{Parquet, Warehouse, DuckDB}, Description: "Kind of destination."},
		{Path: p + ".path", Type: PathType, Required: true, Of: "parquet duckdb", Description: "Directory, or gs://BUCKET/PREFIX, that holds one directory per table (parquet); or the database file (duckdb), which several pipelines may share. " + chain},
		{Path: p + ".compatibility", Type: ChoiceType, Default: "standard", Allowed: []string{"standard", "plain"}, Of: "parquet", Description: "plain writes files for old Parquet readers: snappy instead of zstd, no DELTA encodings, larger."},
		{Path: p + ".memory_limit", Type: SizeType, Default: "512MB", Min: "64MB", Max: "1TB", Of: "duckdb", Description: "Memory that DuckDB may take while it commits; beyond it, it spills beside the database file. A table with many hundred columns needs more. KB, MB, GB and TB count in thousands, KiB, MiB, GiB and TiB in 1024s."},
		{Path: p + ".queue_limit", Type: SizeType, Default: "10GiB", Min: "1MiB", Max: "100TiB", Description: "How much may wait for the destination while it fails: beyond it, what waits is given up, and everything is read again once the destination works."},
		{Path: p + ".queue_age", Type: DurationType, Default: "30d", Min: "1h", Max: "366d", Description: "How long something may wait for the destination while it fails; beyond it as with queue_limit."},
		{Path: p + ".prevent_destroy", Type: BooleanType, Default: "true", Description: "`sluice destroy` refuses to remove the destination's tables, and with them anything else that it was to remove. false lets it, after it has asked. Nothing else removes tables."},
		{Path: p + ".project", Type: TextType, Required: true, Of: Warehouse, Description: "Id of the Google Cloud project that has the dataset, and that statements are billed to."},
		{Path: p + ".dataset", Type: TextType, Required: true, Of: Warehouse, Description: "Dataset that has the tables: one with current rows for each pipeline, named as its table, and others named after it."},
		{Path: p + ".location", Type: TextType, Of: Warehouse, Description: "Where the dataset is, or is created: US, EU, southamerica-west1. Left out: where it is, and US for a new one."},
		{Path: p + ".create_dataset", Type: BooleanType, Default: "true", Of: Warehouse, Description: "Create the dataset where there is none. false: that is an error, and the right to create datasets is not needed."},
		{Path: p + ".method", Type: ChoiceType, Default: "stream", Allowed: []string{"stream", "load", MethodCDC}, Of: Warehouse, Description: "How rows reach BigQuery. stream: the Storage Write API. load: load jobs, which cost nothing. Both end in one MERGE. cdc: change data capture, which upserts row by row."},
		{Path: p + ".maximum_bytes_billed", Type: SizeType, Min: "10MiB", Max: "1000TB", Of: Warehouse, Description: "The most that one statement may be billed for: BigQuery refuses a larger one, and it costs nothing. Left out: no limit."},
		{Path: p + ".max_staleness", Type: DurationType, Min: "0s", Max: "1d", Of: Warehouse, Description: "Of method: cdc: how far queries may lag behind what was written, which makes them cheaper. Left out: not at all."},
		{Path: p + ".labels", Type: LabelsType, Of: Warehouse, Description: "Labels of every table, view and job, as {team: data}, for the bill. Names and values have lower-case letters, digits, underscores and dashes, at most 63."},
		{Path: p + ".key_file", Type: PathType, Of: Warehouse, Description: "File with a service account's key. Left out: Google's default chain (GOOGLE_APPLICATION_CREDENTIALS, gcloud's login, the machine's service account), which is better where it can be had."},
		{Path: p + ".impersonate", Type: TextType, Of: Warehouse, Description: "Service account to act as, NAME@PROJECT.iam.gserviceaccount.com; the login needs the role Service Account Token Creator on it."},
		{Path: p + ".endpoint", Type: URLType, Of: Warehouse, Description: "http://HOST:PORT of an emulator's REST API, spoken to without a login. Needs grpc_endpoint."},
		{Path: p + ".price_per_tib", Type: NumberType, Default: "6.25", Min: "0", Max: "1000", Unit: "US dollars", Of: Warehouse, Description: "What a scanned TiB costs on demand, for the cost that `sluice plan` shows once past runs tell how much is scanned; Google's list price for US is the default, 0 shows none. It limits nothing: maximum_bytes_billed does."},
		{Path: p + ".grpc_endpoint", Type: TextType, Of: Warehouse, Description: "HOST:PORT of an emulator's Storage Write API. Needs endpoint. The sandbox's contacts reach an emulator on this machine only."},
	}
}

func pipelineKeys() []Key {
	const p = "pipelines.*"
	return []Key{
		{Path: p, Type: MappingType, Description: "One export. Its name stands in state, commands and run records."},
		{Path: p + ".source", Type: SourceType, Required: true, Description: "Source to read. Where both have for_each, that of the same account; NAME[\"ACCOUNT\"] is a certain one."},
		{Path: p + ".for_each", Type: AccountsType, Description: "Makes one pipeline of it for each account, NAME[\"ACCOUNT\"], with a state and a table of its own: see [Many accounts](#many-accounts)."},
		{Path: p + ".table", Type: NameType, Default: "contacts", Description: "Table to write in every destination. Two pipelines cannot write one table. With for_each the default is contacts_${each.key}; in a table's name a dash of the key is written _."},
		{Path: p + ".union_view", Type: NameType, Description: "Of for_each: name of the view over the tables of all accounts, in every destination; off for none. Left out: the table's name without the account, where nothing else has that name, or else the pipeline's name and _all."},
		{Path: p + ".schema", Type: PathType, Description: "Contract file: columns, types, descriptions. Left out: the built-in contract."},
		{Path: p + ".hash_key", Type: SecretType, Description: "Key of the contract's `policy: hash`, at least 32 characters, as `openssl rand -hex 32` prints it. Take it from a variable: ${SLUICE_HASH_KEY}. Needed where the contract hashes; keep it, as another one gives other hashes and has everything read again."},
		{Path: p + ".hash_key_file", Type: PathType, Description: "File that holds the hash key, instead of hash_key; a newline at its end is dropped."},
		{Path: p + ".sync", Type: ChoiceType, Default: "incremental", Allowed: []string{"incremental", "recent", "snapshot"}, Description: "What a run reads. incremental: everything once, then what changed. recent: the contacts with a message within `days`, on every run. snapshot: everything that the source's filters let through, on every run. Contacts that a recent or snapshot run no longer meets stay in the table, marked as deleted."},
		{Path: p + ".days", Type: IntegerType, Min: "1", Max: "365", Unit: "days", Description: "Window of sync: recent, which needs it: contacts with a message within so many days of the run."},
		{Path: p + ".lookback", Type: DurationType, Default: "1h", Min: "0s", Max: "30d", Description: "How long after its updated_at a change may become visible in the API, clock skew included. Each run reads that much again."},
		{Path: p + ".full_every", Type: DurationType, Min: "1h", Max: "366d", Description: "Read everything again once the last full read is that old, give or take 2 hours and jitter, at most a quarter of it: a nightly run does not begin at the same moment every night. Of sync: incremental alone: the other kinds read everything on every run."},
	}
}

func filterKeys() []Key {
	const f = "pipelines.*.filters"
	return []Key{
		{Path: f, Type: MappingType, Description: "Keep only contacts that match. Several values of one key: any of them; several keys: all of them. platform, chat_status and blocked are filtered on our side. A change means a full read."},
		{Path: f + ".platform", Type: ValuesType, Description: "Channels to keep, such as whatsapp or instagram."},
		{Path: f + ".chat_status", Type: ValuesType, Description: "Chat states to keep, such as UNATTENDED."},
		{Path: f + ".blocked", Type: BooleansType, Description: "Keep contacts that are blocked (true) or that are not (false)."},
		{Path: f + ".stage_id", Type: UUIDsType, Description: "Stages in which the active ticket may stand. With sync: snapshot the source filters, and takes one; otherwise they are filtered on our side, where a contact that leaves is seen and marked."},
		{Path: f + ".pipeline_id", Type: UUIDsType, Description: "Pipelines in whose stages the active ticket may stand. Filtered as stage_id is."},
		{Path: f + ".custom_field_key", Type: TextType, Description: "Custom field to filter by, together with custom_field_value. Filtered as stage_id is."},
		{Path: f + ".custom_field_value", Type: TextType, Description: "Value that the custom field has to have."},
		{Path: f + ".entity_type", Type: ChoiceType, Allowed: []string{"ticket", "customer"}, Description: "Whose custom field it has to be. Left out: either."},
	}
}

func afterFilterKeys() []Key {
	const p, r, q = "pipelines.*", "pipelines.*.reconcile", "pipelines.*.quarantine"
	return []Key{
		{Path: r, Type: MappingType, Description: "How `sluice reconcile` finds contacts that were deleted at the source. Not with sync: snapshot, which finds them on every run."},
		{Path: r + ".schedule", Type: CronType, Description: "When `sluice schedule` reconciles it, as schedule; jitter, overlap, catch_up and retry hold for it too. Left out: only when asked."},
		{Path: r + ".max_share", Type: ShareType, Default: "1%", Min: leastShare, Max: "100%", Description: "Largest share of the table's contacts that may be missing at the source: more is taken for a fault of the source, and nothing is marked."},
		{Path: r + ".max_probes", Type: IntegerType, Default: "1000", Min: "1", Max: "1000000", Unit: "contacts", Description: "Missing contacts asked for one by one in a run, at most; the next run goes on with the rest."},
		{Path: q, Type: MappingType, Description: "What becomes of records without a usable id, time or other required value, which are set aside. A word alone, as in quarantine: raw, is its `store`."},
		{Path: q + ".store", Type: ChoiceType, Default: "auto", Allowed: []string{"auto", "raw", "reference"}, Description: "What is kept of such a record. raw: all of it, as it was served. reference: why, when and where it was met, and its id, so that `sluice quarantine retry` fetches it again. auto: raw where the contract keeps every value as it came (policy: keep), else reference."},
		{Path: q + ".max_share", Type: ShareType, Default: "10%", Min: leastShare, Max: "100%", Description: "Largest share of the records that a run reads that may be set aside, once it has read 100: more fails the run before anything is committed."},
		{Path: q + ".max_records", Type: IntegerType, Min: "0", Max: "1000000000", Unit: "records", Description: "Records that a run may set aside, at most: more fails it before anything is committed. Left out: no limit but max_share."},
		{Path: p + ".enrich", Type: ChoiceType, Default: "none", Allowed: []string{"none", "info"}, Description: "info: ask the info endpoint for every contact that is new or changed, and store what it has besides the list: custom fields, the last closed ticket. It takes one request for each contact. A change means a full read."},
		{Path: p + ".stages", Type: NameType, Default: "crm_stages", Description: "Table, in every destination, of the source's pipelines and their stages, by which the views name stages; off for none. Where table is not contacts the default is the table's name and _stages. Pipelines of one source may share it."},
		{Path: p + ".verify", Type: ChoiceType, Default: "full", Allowed: []string{"full", "sample", "off"}, Description: "How much of each written file is read back by a second reader before it counts: every row, a sample, nothing."},
		{Path: p + ".max_requests", Type: IntegerType, Min: "10", Max: "1000000000", Unit: "requests", Description: "Requests that one run may make to the source, those that are repeated included. A run that would need more stops before with an error and keeps what it has read; the next goes on from there with as many. So does a backfill; reconcile, quarantine retry and verify --source stop as well, and begin anew. Those of a plan do not count. Fewer than 10 would come to no end. Left out: no limit."},
		{Path: p + ".max_bytes", Type: SizeType, Min: "1MB", Max: "1000TB", Description: "How much one run may read from the source's answers, in bytes before compression. How large the next answer is, nobody knows: the largest so far stands for it, and for each one on its way. A run that could read more stops before, as with max_requests. Left out: no limit."},
		{Path: p + ".destinations", Type: NamesType, Required: true, Description: "Destinations to write to."},
	}
}
