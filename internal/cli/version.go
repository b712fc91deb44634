package cli

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/duck"
)

func (a *app) versionCommand() *cobra.Command {
	return command(&cobra.Command{
		Use:               "version",
		Short:             "Prints the version",
		Args:              noArgs,
		RunE:              func(c *cobra.Command, _ []string) error { return a.version(c.Context()) },
		ValidArgsFunction: cobra.NoFileCompletions,
	})
}

func (a *app) version(ctx context.Context) error {
	var b strings.Builder
	fmt.Fprintf(&b, "sluice %s\n", version())
	if info, ok := debug.ReadBuildInfo(); ok {
		if rev := setting(info, "vcs.revision"); rev != "" {
			if setting(info, "vcs.modified") == "true" {
				rev += ", with local changes"
			}
			fmt.Fprintf(&b, "commit %s (%s)\n", rev, setting(info, "vcs.time"))
		}
	}
	fmt.Fprintf(&b, "%s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if v := duck.Version(ctx); v != "" {
		fmt.Fprintf(&b, "DuckDB %s\n", strings.TrimPrefix(v, "v"))
	} else {
		b.WriteString("DuckDB not built in (CGO_ENABLED=0): query is not available\n")
	}
	if _, err := io.WriteString(a.Streams.Out, b.String()); err != nil {
		return fmt.Errorf("print version: %w", err)
	}
	return nil
}

// release is the version of a release build, which the linker sets: see
// .ci/release and examples/docker. Empty in any other. Nothing assigns to it: a
// variable is all that the linker can set.
var release string

// version is that of the release, or the module's as the build recorded it.
func version() string {
	info, _ := debug.ReadBuildInfo()
	return versionOf(release, info)
}

// versionOf is devel for what was built from a working tree and not released.
// A build without modules has no info.
func versionOf(release string, info *debug.BuildInfo) string {
	switch {
	case release != "":
		return strings.TrimPrefix(release, "v")
	case info == nil || info.Main.Version == "" || info.Main.Version == "(devel)":
		return "devel"
	default:
		return strings.TrimPrefix(info.Main.Version, "v")
	}
}

func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
