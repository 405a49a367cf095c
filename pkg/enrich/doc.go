// SPDX-License-Identifier: Apache-2.0

// Package enrich says in which container each record was made, and which records a
// run may see.
//
// An Enricher stands between the tracer and what sends records. It follows the
// registry of pkg/container through a subscription, so that a record costs one
// look into a map of its own, no lock and no memory. A record of a cgroup that
// isn't known yet waits, in order with those of the same cgroup, for a bounded time
// and in bounded memory. Then it goes out marked as unresolved, or, if the run must
// not see every container, it is withheld and counted: nothing is shown of which it
// isn't known that it may be.
//
// The kernel's container filter is told the same. It leaves out early what the run
// may not see; what it has not been told about it lets through, to be decided here.
package enrich
