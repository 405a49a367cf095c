// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nodegadget.dev/pkg/install"
	"nodegadget.dev/pkg/print"
)

// deployTimeout is how long deploy and undeploy wait by default.
const deployTimeout = 5 * time.Minute

// deployOptions are the flags that deploy and undeploy have in common.
type deployOptions struct {
	cluster clusterFlags
	wait    bool
	timeout time.Duration
	verbose bool
}

func (o *deployOptions) add(cmd *cobra.Command, wait string) {
	flags := cmd.Flags()
	flags.BoolVar(&o.wait, "wait", true, wait)
	flags.DurationVar(&o.timeout, "timeout", deployTimeout, "longest time to wait")
	flags.BoolVarP(&o.verbose, "verbose", "v", false, "say what Helm does")
	o.cluster.add(flags)
	completeCluster(cmd)
}

// installer opens the cluster. Installing has no other namespace than nodegadget's.
func (o *deployOptions) installer(streams Streams) (*install.Installer, error) {
	if o.timeout <= 0 {
		return nil, usagef("--timeout is %s, want more than nothing", o.timeout)
	}
	o.cluster.config.Namespace = &o.cluster.namespace
	// It tells a kubeconfig that isn't there from a cluster that doesn't answer.
	if _, err := o.cluster.open(); err != nil {
		return nil, err
	}
	opts := install.Options{Flags: o.cluster.config, Namespace: o.cluster.namespace}
	if o.wait {
		opts.Wait = o.timeout
	}
	if o.verbose {
		opts.Log = slog.New(slog.NewTextHandler(escaped{streams.Err}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return install.New(opts)
}

// escaped makes lines safe to show.
type escaped struct{ w io.Writer }

func (e escaped) Write(p []byte) (int, error) {
	_, err := fmt.Fprintln(e.w, print.EscapeLines(strings.TrimSuffix(string(p), "\n")))
	return len(p), err
}

func newDeploy(stop context.Context, streams Streams) *cobra.Command {
	o, values, dryRun := &deployOptions{}, &install.Values{}, false
	cmd := &cobra.Command{
		Use: "deploy", Short: "Install nodegadget in a cluster, or upgrade it", Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			if dryRun {
				return printManifests(stop, o, *values, streams.Out)
			}
			installer, err := o.installer(streams)
			if err != nil {
				return err
			}
			fmt.Fprintf(streams.Err, "installing nodegadget in namespace %s\n", print.Escape(o.cluster.namespace))
			notes, err := installer.Deploy(stop, *values)
			if err != nil {
				return interrupted(stop, err)
			}
			_, err = fmt.Fprintln(streams.Out, print.EscapeLines(strings.TrimSpace(notes)))
			return err
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&values.Image, "image", "", "where the image is: repository:tag, or repository@sha256:...")
	cmd.Flags().StringArrayVar(&values.Set, "set", nil, "a value of the chart: key=value, several separated by commas")
	cmd.Flags().StringArrayVarP(&values.Files, "values", "f", nil, "YAML file with values of the chart")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be installed, and install nothing")
	o.add(cmd, "wait until every agent and the controller are ready")
	return cmd
}

// printManifests prints what would be installed: for the cluster's version of
// Kubernetes, if it says which that is.
func printManifests(ctx context.Context, o *deployOptions, values install.Values, out io.Writer) error {
	version := ""
	if opened, err := o.cluster.open(); err == nil {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		version, _ = opened.Version(ctx)
		cancel()
	}
	manifests, err := install.Render(ctx, o.cluster.namespace, version, values)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, manifests)
	return err
}

func newUndeploy(stop context.Context, streams Streams) *cobra.Command {
	o, what := &deployOptions{}, install.Removal{}
	cmd := &cobra.Command{
		Use: "undeploy", Short: "Remove nodegadget from a cluster", Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			installer, err := o.installer(streams)
			if err != nil {
				return err
			}
			kept, err := installer.Undeploy(stop, what)
			if err != nil {
				return interrupted(stop, err)
			}
			fmt.Fprintln(streams.Out, "nodegadget is removed")
			if kept.Definitions {
				fmt.Fprintln(streams.Out, "trace sessions are kept, and their definitions: --crds removes both")
			}
			if len(kept.Others) > 0 {
				fmt.Fprintf(streams.Out, "namespace %s is kept, because there are other things in it: %s\n",
					print.Escape(o.cluster.namespace), print.Escape(strings.Join(kept.Others, ", ")))
			}
			return nil
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().BoolVar(&what.KeepNamespace, "keep-namespace", false, "leave the namespace, though it is empty")
	cmd.Flags().BoolVar(&what.Definitions, "crds", false, "remove the definitions of trace sessions as well, and with them every session in the cluster")
	o.add(cmd, "wait until all is gone")
	return cmd
}

// interrupted says what the user's interrupt means: Helm doesn't undo what it has begun.
func interrupted(stop context.Context, err error) error {
	if stop.Err() == nil {
		return err
	}
	return errors.New("interrupted: what was begun is left as it is, and the same command goes on with it")
}
