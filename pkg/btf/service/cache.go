// SPDX-License-Identifier: Apache-2.0

package service

import (
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"nodegadget.dev/pkg/btf/tailor"
)

// overhead is about what an entry of the cache takes beside its content, in bytes.
const overhead = 256

// result names a tailored BTF by what it was made of.
type result struct {
	needs  tailor.Digest
	source digest
}

// cache holds the tailored BTF that was asked for last, bounded by bytes. Safe
// for concurrent use. What is in it must not be changed.
type cache struct {
	limit int64

	mu    sync.Mutex
	size  int64
	items *simplelru.LRU[result, []byte]
}

// newCache makes a cache of at most limit bytes; a limit ≤ 0 makes one that holds nothing.
func newCache(limit int64) *cache {
	c := &cache{limit: limit}
	// Fails only for sizes ≤ 0.
	c.items, _ = simplelru.NewLRU(math.MaxInt, func(_ result, item []byte) {
		c.size -= int64(len(item)) + overhead
	})
	return c
}

func (c *cache) get(key result) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.items.Get(key)
}

func (c *cache) add(key result, item []byte) {
	size := int64(len(item)) + overhead
	c.mu.Lock()
	defer c.mu.Unlock()
	if size > c.limit || c.items.Contains(key) {
		return
	}
	c.items.Add(key, item)
	c.size += size
	for c.size > c.limit {
		c.items.RemoveOldest()
	}
}

// used is what the cache takes, in bytes.
func (c *cache) used() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}
