package config

// daemonKeys are those of `sluice schedule` itself.
func daemonKeys() []Key {
	const d = "daemon"
	return []Key{
		{Path: d, Type: MappingType, Description: "What `sluice schedule` does besides what its pipelines say."},
		{Path: d + ".concurrency", Type: IntegerType, Default: "4", Min: "1", Max: "1000", Unit: "jobs", Description: "Runs, reconciliations and backfills that go on at once, of all pipelines together. Others wait, and begin in the order in which their time came."},
		{Path: d + ".grace", Type: DurationType, Default: "30s", Min: "0s", Max: "1d", Description: "How long what is running may go on after `sluice schedule` is told to stop; then it is interrupted, and goes on with the next run. --grace goes before it. Whatever starts and stops the daemon has to wait as long."},
		{Path: d + ".listen", Type: TextType, Default: "127.0.0.1:8420", Description: "Where its page is: HOST:PORT; port 0 is a free one, off is no page. --listen goes before it. A host that other machines reach needs a token."},
		{Path: d + ".url", Type: URLType, Description: "Where people reach the page, as https://sluice.example.com behind a proxy. Notices link to it. A name that is not this machine's needs a token."},
		{Path: tokenPath, Type: SecretType, Description: "What the page asks for before it shows anything, at least 16 characters. Take it from a variable: ${SLUICE_TOKEN}. Left out, or empty: it asks nobody, which is for this machine alone."},
		{Path: d + ".token_file", Type: PathType, Description: "File that holds the token, instead of token; a newline at its end is dropped."},
	}
}

// timesKeys say when a pipeline runs.
func timesKeys() []Key {
	const p, again = "pipelines.*", "pipelines.*.retry"
	return []Key{
		{Path: p + ".schedule", Type: CronType, Description: "When `sluice schedule` runs it: five cron fields, @hourly, @daily, @weekly, or @every 15m. Left out: only when asked."},
		{Path: p + ".timezone", Type: TimezoneType, Default: "UTC", Description: "Timezone of schedule, of dates on the command line and of the *_date columns in the views."},
		{Path: p + ".jitter", Type: DurationType, Default: "0s", Min: "0s", Max: "1d", Description: "A scheduled run begins up to so long after its time, how long is drawn anew each time: many pipelines of one time do not begin in one moment. At most half of the time to the next run."},
		{Path: p + ".overlap", Type: ChoiceType, Default: "skip", Allowed: []string{"skip", "queue"}, Description: "What becomes of times that pass while the pipeline runs. skip: they are left out. queue: it runs once more right after."},
		{Path: p + ".catch_up", Type: BooleanType, Default: "true", Description: "Make up, once, for times that passed while `sluice schedule` was not running or the machine slept. Not for a pipeline that has never run."},
		{Path: again, Type: MappingType, Description: "How `sluice schedule` repeats a run that failed. Not one whose error no repetition mends, such as a key that is refused or a table that waits for approval. Left out: the next time is the next try; `retry: {}` takes the defaults below."},
		{Path: again + ".for", Type: DurationType, Default: "2h", Min: "1s", Max: "30d", Description: "How long after the first failure the last repetition may begin. It is before the next regular time in any case."},
		{Path: again + ".backoff", Type: DurationType, Default: "1m", Min: "1s", Max: "1d", Description: "How long to wait after the first failure. It doubles with each one; by chance up to half of it is left off."},
		{Path: again + ".max_backoff", Type: DurationType, Default: "15m", Min: "1s", Max: "1d", Description: "How long to wait at most, at least backoff."},
		{Path: p + ".freshness", Type: DurationType, Min: "1m", Max: "366d", Description: "How old its data may become, as in 26h for a nightly run: the time since the last sync that is done began. Beyond it the pipeline is late, on the page, in the metrics and in notices. Left out: never."},
		{Path: p + ".heartbeat", Type: SecretType, Description: "URL that gets a GET after each sync that is done, by `sluice schedule` or `sluice run --notify`: a service that expects it tells where it stays away. https, or http to this machine. Take it from a variable: it is a key. Left out, or empty: none."},
	}
}
