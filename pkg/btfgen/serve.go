// SPDX-License-Identifier: Apache-2.0

package btfgen

import (
	"log/slog"
	"net"
	"time"

	"github.com/spf13/cobra"

	"nodegadget.dev/pkg/btf/service"
)

func newServe(s streams) *cobra.Command {
	var archive, listen string
	var opts service.Options
	cmd := &cobra.Command{
		Use:   "serve --archive DIR",
		Short: "Serve tailored BTF over HTTP",
		Long: `Serve tailored BTF over HTTP: whoever uploads an object and names a kernel gets
the types that the object needs. /v1/openapi.json describes the routes; those of
btfhub-online are served as well.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "archive"); err != nil {
				return err
			}
			opened, err := service.OpenArchive(archive)
			if err != nil {
				return err
			}
			opts.Archive = opened
			opts.Log = slog.New(slog.NewTextHandler(s.err, nil))
			server, err := service.New(opts)
			if err != nil {
				return usagef("%s", err)
			}
			listener, err := new(net.ListenConfig).Listen(cmd.Context(), "tcp", listen)
			if err != nil {
				return err
			}
			opts.Log.Info("serving", "address", listener.Addr().String(), "archive", archive)
			return server.Serve(cmd.Context(), listener)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&archive, "archive", "", "directory in BTFHub's layout")
	flags.StringVar(&listen, "listen", ":8080", "address to serve at")
	flags.Int64Var(&opts.MaxObject, "max-object", 0, "largest object, in bytes (default 8 MiB)")
	flags.IntVar(&opts.MaxObjects, "max-objects", 0, "most objects of a request (default 16)")
	flags.IntVar(&opts.MaxKernels, "max-kernels", 0, "most kernels of a bundle (default 256)")
	flags.IntVar(&opts.Concurrency, "concurrency", 0, "kernels tailored at once (default: one a core)")
	flags.IntVar(&opts.Queue, "queue", 0, "requests that may wait (default 64)")
	flags.Int64Var(&opts.CacheBytes, "cache-bytes", 0, "results kept, in bytes (default 64 MiB)")
	flags.Float64Var(&opts.Rate, "rate", 0, "requests a second from one address (default 10, negative: any)")
	flags.IntVar(&opts.Burst, "burst", 0, "requests at once from one address (default 50)")
	flags.DurationVar(&opts.Timeout, "timeout", time.Minute, "longest request")
	flags.DurationVar(&opts.Grace, "grace", 15*time.Second, "time for running requests at the end")
	return cmd
}
