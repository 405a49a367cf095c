// SPDX-License-Identifier: Apache-2.0

package wire

// Add adds another loss to the sum; nil is none.
func (l *Loss) Add(other *Loss) {
	l.Kernel += other.GetKernel()
	l.Skipped += other.GetSkipped()
	l.Queue += other.GetQueue()
	l.Relay += other.GetRelay()
	l.Unresolved += other.GetUnresolved()
	l.Withheld += other.GetWithheld()
	l.Throttled += other.GetThrottled()
}
