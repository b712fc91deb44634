package cli

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/sandbox"
)

const sandboxLong = `Serves a whole contacts endpoint from generated contacts, on loopback, until
it is stopped. The same contacts and seed give the same data. Options make it
slow, faulty or changing, as real endpoints are.

Each option is also a parameter of a sandbox:// URL in pipelines.yaml, with _ in
place of -, which runs the sandbox within sluice itself:
  url: sandbox://?contacts=50000&seed=7&updates_per_request=2`

const sandboxExample = `  sluice sandbox --contacts 100000 --updates 5
  sluice sandbox --fault-500 2% --latency 50ms`

func (a *app) sandboxCommand() *cobra.Command {
	o := sandbox.DefaultOptions()
	listen := "127.0.0.1:8421"
	c := command(&cobra.Command{
		Use:               "sandbox [flags]",
		Short:             "Serves a contacts endpoint to try things on",
		Long:              sandboxLong,
		Example:           sandboxExample,
		Args:              noArgs,
		RunE:              func(c *cobra.Command, _ []string) error { return a.sandbox(c.Context(), o, listen) },
		ValidArgsFunction: cobra.NoFileCompletions,
	})
	c.Flags().SortFlags = false
	c.Flags().StringVar(&listen, "listen", listen, "address and port; port 0 takes a free one")
	o.Flags(c.Flags())
	return c
}

func (a *app) sandbox(ctx context.Context, o sandbox.Options, listen string) error {
	server, err := sandbox.New(o, a.Clock)
	if err != nil {
		return &usageError{command: "sluice sandbox", err: fmt.Errorf("start sandbox: %w", err)}
	}
	running, err := server.Start(ctx, listen)
	if err != nil {
		hint := "choose an address with --listen; one that others can reach needs --allow-remote"
		if errors.Is(err, syscall.EADDRINUSE) {
			hint = "another program has the port: choose one with --listen, or --listen=127.0.0.1:0 for any free one"
		}
		return &userError{err: err, hint: hint}
	}
	if err := a.sandboxWelcome(running.URL, o); err != nil {
		return errors.Join(err, running.Close())
	}
	<-ctx.Done()
	if err := running.Close(); err != nil {
		return fmt.Errorf("stop sandbox: %w", err)
	}
	var sig SignalError
	if errors.As(context.Cause(ctx), &sig) {
		return nil // being stopped is how a server ends
	}
	return context.Cause(ctx)
}

func (a *app) sandboxWelcome(url string, o sandbox.Options) error {
	key := o.APIKey
	if key != sandboxKey {
		key = "YOUR_KEY"
	}
	_, err := fmt.Fprintf(a.Streams.Out, `The sandbox serves %[2]s at %[1]s

Read contacts:
  curl -s -H 'x-api-key: %[3]s' '%[1]s/api/public/contacts?updated_after=2023-01-01T00:00:00Z&limit=2'

Change one, and watch it arrive with the next run:
  curl -s -H 'x-api-key: %[3]s' -H 'content-type: application/json' \
    -d '{"phone": "+56900000001", "name": "Ana Ñandú", "platform": "whatsapp"}' \
    '%[1]s/api/public/customer/upsert/info'

Export it, in another terminal:
  CONTACTS_API_URL=%[1]s CONTACTS_API_KEY=%[3]s sluice run

Stop with Ctrl-C.
`, url, counted(o.Contacts, "contact", "contacts"), key)
	if err != nil {
		return fmt.Errorf("print address: %w", err)
	}
	return nil
}
