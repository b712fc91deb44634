package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestThePagesTokenComesFromAVariableOrAFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte(longKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"daemon: {token: \"${SLUICE_TOKEN}\"}\n": longKey,
		"daemon: {token_file: token}\n":          longKey,
		"daemon: {token: \"${NOBODY:-}\"}\n":     "",
		"daemon: {token: \"\"}\n":                "",
		"":                                       "",
	} {
		c, list := Parse("pipelines.yaml", []byte(line+hashKeyFile("")), dir, env("SLUICE_TOKEN", longKey))
		if c == nil || len(list) > 0 {
			t.Errorf("%q is refused:\n%s", line, rendered(t, list))
			continue
		}
		if got := c.Daemon.Token; got.Reveal() != want || got.IsZero() != (want == "") {
			t.Errorf("%q gives another token", line)
		}
		if c.Daemon.Listen != "127.0.0.1:8420" || c.Daemon.ListenGiven {
			t.Errorf("%q listens on %s", line, c.Daemon.Listen)
		}
	}
}

func TestWhatThePageCannotHaveIsAFaultOfTheFile(t *testing.T) {
	for line, want := range map[string]string{
		"daemon: {token: \"${SHORT}\"}\n":                        "token has 5 characters, at least 16 are needed",
		"daemon: {token: \"${SHORT}\", token_file: token}\n":     "token and token_file are both given",
		"daemon: {token_file: nowhere}\n":                        "read token_file: there is no such file",
		"daemon: {listen: everywhere}\n":                         `listen: "everywhere" is not an address`,
		"daemon: {listen: \"127.0.0.1:99999\"}\n":                `listen: "127.0.0.1:99999" is not an address`,
		"daemon: {listen: \"8420\"}\n":                           `listen: "8420" is not an address`,
		"daemon: {url: sluice.example.com}\n":                    `url: "sluice.example.com" is not the address of a host`,
		"daemon: {url: \"https://example.com/sluice\"}\n":        "is not the address of a host",
		"daemon: {url: \"https://user@example.com\"}\n":          "is not the address of a host",
		"daemon: {lisen: off}\n":                                 "lisen",
		"daemon: {token: \"a literal one of enough letters\"}\n": "token stands in the file as plain text",
	} {
		_, list := Parse("pipelines.yaml", []byte(line+hashKeyFile("")), t.TempDir(), env("SHORT", "short"))
		if got := rendered(t, list); !strings.Contains(got, want) {
			t.Errorf("%q:\n%s", line, got)
		}
	}
}

func TestThePageIsOpenToOthersOffLoopbackAndBehindAName(t *testing.T) {
	for d, want := range map[*Daemon]bool{
		{Listen: "127.0.0.1:8420"}:                                     false,
		{Listen: "localhost:0"}:                                        false,
		{Listen: "[::1]:8420"}:                                         false,
		{Listen: "127.0.0.1:8420", URL: "http://localhost:8420"}:       false,
		{Listen: "127.0.0.1:8420", URL: "https://sluice.example.com"}:  true,
		{Listen: "0.0.0.0:8420"}:                                       true,
		{Listen: ":8420"}:                                              true,
		{Listen: "10.1.2.3:8420"}:                                      true,
		{Listen: "sluice.example.com:8420", URL: "http://localhost:1"}: true,
	} {
		if got := d.OpenToOthers(); got != want {
			t.Errorf("%s %s: %v", d.Listen, d.URL, got)
		}
	}
}

func TestOfflineThePageMayLackItsToken(t *testing.T) {
	text := []byte("daemon: {token: \"${SLUICE_TOKEN}\"}\n" + hashKeyFile(""))
	if c, list := Parse("pipelines.yaml", text, "/srv", none, Offline()); c == nil || len(list) > 0 {
		t.Errorf("a command that needs no token wants it:\n%s", rendered(t, list))
	}
}
