// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"

	"nodegadget.dev/pkg/pki"
)

// Check says whether a controller answers at address and proves, to who believes the
// authorities in a file, to be one.
func Check(ctx context.Context, address, authorityFile string) error {
	data, err := os.ReadFile(authorityFile)
	if err != nil {
		return fmt.Errorf("reading the authority: %w", err)
	}
	roots, err := pki.NewRoots(data)
	if err != nil {
		return fmt.Errorf("%s: %w", authorityFile, err)
	}
	config := pki.ClientConfig(nil, roots, pki.Controller)
	// What gRPC speaks; a server may hang up on others.
	config.NextProtos = []string{"h2"}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("reaching the controller at %s: %w", address, err)
	}
	return conn.Close()
}
