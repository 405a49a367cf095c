// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cilium/ebpf/btf"

	"nodegadget.dev/pkg/btf/kernel"
	"nodegadget.dev/pkg/btf/tailor"
	"nodegadget.dev/pkg/gadget"
)

// kernelTypes chooses the types that a gadget is loaded with. A gadget that asks
// nothing of the kernel's types runs without any.
func (a *Agent) kernelTypes(ctx context.Context, object *gadget.Object) (kernel.Types, error) {
	if a.opts.Chooser == nil {
		return a.opts.Types, nil
	}
	content := tailor.Object{Name: object.Spec.Name, Content: object.Content}
	types, err := a.opts.Chooser.Types(ctx, content)
	if err == nil {
		return types, nil
	}
	if needs, parseErr := tailor.Parse(content); parseErr == nil && needs.Objects()[0].Relocations == 0 {
		return kernel.Types{Source: noTypes(a.opts.Chooser, err)}, nil
	}
	return kernel.Types{}, err
}

// isTypesError says whether there are no types for this kernel, as far as known.
func isTypesError(err error) bool {
	var notFound *kernel.NotFoundError
	var refused *kernel.RefusedError
	return errors.As(err, &notFound) || errors.As(err, &refused)
}

// typesLifetime is how long decoded kernel types are kept after a run has
// started. They take tens of megabytes, which an agent at rest should not.
const typesLifetime = 10 * time.Second

// typeCache keeps decoded kernel types for a while. The zero value is empty.
type typeCache struct {
	mu    sync.Mutex
	cache *btf.Cache
	drop  *time.Timer
}

func (c *typeCache) get() *btf.Cache {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cache == nil {
		c.cache = btf.NewCache()
		c.drop = time.AfterFunc(typesLifetime, c.forget)
	}
	c.drop.Reset(typesLifetime)
	return c.cache
}

func (c *typeCache) forget() {
	c.mu.Lock()
	c.cache = nil
	c.mu.Unlock()
	// The node's memory is better used by its pods.
	debug.FreeOSMemory()
}
