// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"nodegadget.dev/pkg/btf/layout"
	"nodegadget.dev/pkg/btf/service/client"
	"nodegadget.dev/pkg/btf/tailor"
)

// An agent's last source of types.
func Example() {
	fetch := func(ctx context.Context, object []byte) ([]byte, error) {
		service, err := client.New(client.Options{
			URL: "https://btf.example.com", CAFile: "/etc/gadget/btf-ca.pem", Timeout: 20 * time.Second,
		})
		if err != nil {
			return nil, err
		}
		defer service.Close()
		k := layout.Kernel{Distro: "ubuntu", Release: "20.04", Arch: "x86_64", Uname: "5.4.0-58-generic"}
		raw, err := service.Tailor(ctx, k, []tailor.Object{{Name: "trace_exec", Content: object}})
		if errors.Is(err, client.ErrNotFound) {
			fmt.Fprintln(os.Stderr, "ask who runs the service to add this kernel")
		}
		return raw, err
	}
	_ = fetch
}
