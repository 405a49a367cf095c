// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"runtime/debug"
	"sync"
	"time"

	"github.com/cilium/ebpf/btf"
)

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
