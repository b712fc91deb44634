package cli

import (
	"runtime/debug"
	"testing"
)

func TestAReleaseSaysItsVersionAndAnyOtherBuildWhatItWasMadeFrom(t *testing.T) {
	t.Parallel()
	of := func(v string) *debug.BuildInfo { return &debug.BuildInfo{Main: debug.Module{Version: v}} }
	for _, c := range []struct {
		release string
		info    *debug.BuildInfo
		want    string
	}{
		{"1.2.0", of("v0.0.0-20261123060000-0123456789ab"), "1.2.0"},
		{"v1.2.0", of("(devel)"), "1.2.0"},
		{"", of("v1.1.0"), "1.1.0"},
		{"", of("(devel)"), "devel"},
		{"", nil, "devel"},
	} {
		if got := versionOf(c.release, c.info); got != c.want {
			t.Errorf("versionOf(%q, %v) = %q, want %q", c.release, c.info, got, c.want)
		}
	}
}
