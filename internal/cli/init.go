package cli

import (
	_ "embed" // for the example
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/duck"
)

//go:embed pipelines.yaml
var exampleFile []byte

const initLong = `Writes a pipelines.yaml that runs as it stands: against a sandbox of generated
contacts until CONTACTS_API_URL and CONTACTS_API_KEY are set. It overwrites
nothing.`

func (a *app) initCommand() *cobra.Command {
	return command(&cobra.Command{
		Use:               "init",
		Short:             "Writes a pipelines.yaml to start from",
		Long:              initLong,
		Example:           "  sluice init\n  sluice -f crm/pipelines.yaml init",
		Args:              noArgs,
		RunE:              func(*cobra.Command, []string) error { return a.initialize() },
		ValidArgsFunction: cobra.NoFileCompletions,
	})
}

func (a *app) initialize() (err error) {
	f, err := os.OpenFile(a.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return &userError{message: a.file + " exists, nothing was written", hint: "`sluice" + a.fileFlag() + " validate` checks it; to start over, move it away or name another file with -f"}
	}
	if err != nil {
		return &userError{message: "write " + a.file, err: err, hint: "choose a directory that exists and that you may write to"}
	}
	if _, err := f.Write(exampleFile); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", a.file, err), f.Close(), os.Remove(a.file))
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", a.file, err), os.Remove(a.file))
	}
	query := ""
	if duck.Available {
		query = "  sluice" + a.fileFlag() + " query   ask what was exported, in SQL\n"
	}
	_, err = io.WriteString(a.Streams.Out, "Wrote "+a.file+`.

Next:
  sluice`+a.fileFlag()+` run     export the sandbox's contacts to Parquet
`+query+`
For your own account, set CONTACTS_API_URL and CONTACTS_API_KEY, and see with
  sluice`+a.fileFlag()+` preview nightly
what the source holds.
`)
	if err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	return nil
}
