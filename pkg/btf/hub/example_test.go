// SPDX-License-Identifier: Apache-2.0

package hub_test

import (
	"context"
	"fmt"

	"nodegadget.dev/pkg/btf/hub"
)

func ExampleWalk() {
	list := func(ctx context.Context, archive string) (hub.Report, error) {
		opts := hub.Options{Filter: hub.Filter{Distros: []string{"ubuntu"}, Arches: []string{"arm64"}}}
		return hub.Walk(ctx, archive, opts, func(ctx context.Context, e *hub.Entry) error {
			raw, err := e.BTF(ctx)
			if err != nil {
				return err // the report names it, and the walk goes on
			}
			fmt.Println(e.Kernel, len(raw))
			return nil
		})
	}
	_ = list
}
