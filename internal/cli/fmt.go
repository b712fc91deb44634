package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/diag"
)

type fmtOptions struct {
	check, diff bool
}

const fmtLong = `Lays out pipelines.yaml, or the files named (contract files too), in one way: two
spaces for each level, no quotes that are not needed, one blank line at most,
and one between the blocks of the top level. Comments and the order of keys
stay, and so does what the file says: one that cannot be laid out for certain
without changing that is left as it is.

It prints the names of the files that it changed. With --check it changes none,
and exits 1 where one should be.`

func (a *app) fmtCommand() *cobra.Command {
	var o fmtOptions
	c := command(&cobra.Command{
		Use:     "fmt [FILE...] [flags]",
		Short:   "Lays out pipelines.yaml and contract files",
		Long:    fmtLong,
		Example: "  sluice fmt\n  sluice fmt --check --diff pipelines.yaml schemas/crm.yaml",
		RunE:    func(_ *cobra.Command, files []string) error { return a.format(files, o) },
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
	})
	c.Flags().SortFlags = false
	c.Flags().BoolVar(&o.check, "check", false, "change nothing, name the files that should be changed, and exit 1 if there are any")
	c.Flags().BoolVar(&o.diff, "diff", false, "print what would change, keys hidden, and change nothing")
	return c
}

// format lays out files; none is written where one of them is no YAML.
func (a *app) format(files []string, o fmtOptions) error {
	if len(files) == 0 {
		files = []string{a.file}
	}
	type laid struct {
		path        string
		before, now string
	}
	var changed []laid
	var faults diag.List
	for _, path := range files {
		before, err := os.ReadFile(path)
		if err != nil {
			return cannotFormat(path, err)
		}
		now, list := config.Format(path, before)
		faults = append(faults, list...)
		if !list.HasErrors() && now != string(before) {
			changed = append(changed, laid{path, string(before), now})
		}
	}
	if err := faults.Err(); err != nil {
		return err
	}
	for _, f := range changed {
		if !o.check && !o.diff {
			if err := overwrite(f.path, f.now); err != nil {
				return cannotFormat(f.path, err)
			}
		}
		text := f.path + "\n"
		if o.diff {
			text = unifiedDiff(f.path, config.Masked(f.before), config.Masked(f.now)) // it may end in the log of a CI
		}
		if _, err := io.WriteString(a.Streams.Out, visible(text)); err != nil {
			return fmt.Errorf("print result: %w", err)
		}
	}
	if o.check && len(changed) > 0 {
		return &userError{
			message: counted(len(changed), "file is", "files are") + " not laid out as `sluice fmt` does",
			hint:    "`sluice" + a.fileFlag() + " fmt` lays them out",
		}
	}
	return nil
}

// overwrite replaces a file at once, and leaves its mode, and a link that leads
// to it, as they are.
func overwrite(path, text string) error {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(target)
	if err != nil {
		return err
	}
	if err := atomicfile.WriteFile(target, []byte(text), info.Mode().Perm()); err != nil {
		return err
	}
	return os.Chmod(target, info.Mode().Perm()) // whatever the umask took away
}

func cannotFormat(path string, err error) error {
	hint := "choose a file that you may read and write"
	if errors.Is(err, fs.ErrNotExist) {
		hint = "`sluice init` writes a file to start from; -f FILE or SLUICE_FILE names another"
	}
	return &userError{message: "format " + path, err: atomicfile.WithoutPath(err), hint: hint}
}
