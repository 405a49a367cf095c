// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"sync"
	"time"
)

// deadline calls a function at a time that can be put off.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
}

// set replaces the time; the zero time is never.
func (d *deadline) set(t time.Time, passed func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), passed)
	}
}
