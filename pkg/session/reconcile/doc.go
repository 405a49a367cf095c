// SPDX-License-Identifier: Apache-2.0

// Package reconcile is the controller's half of trace sessions: it listens to what the
// agents report, and writes from that what each session's status says.
//
// The way of a report: one stream from each agent ([listener]) → the board, which adds
// up what all nodes say of a session ([board], [entry]) → the status ([statusOf]) → the
// API server, at most once a second for each session and only if something has changed.
// Agents never wait for that, and how much is written doesn't depend on their number.
//
// It also refuses what gadgets don't take, lets deleted sessions go when the nodes have
// ended them or don't answer, and deletes interactive ones that nobody reads. It doesn't
// tell agents what to run: they read the specs themselves.
//
// One controller of all does this, who holds the Lease. When another takes over, counts
// go on from the status that the last one wrote.
package reconcile
