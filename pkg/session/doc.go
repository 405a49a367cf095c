// SPDX-License-Identifier: Apache-2.0

// Package session says what a trace session means: whose records it gets, on which
// nodes, until when, and whether its gadget understands it. Agents and the controller
// ask the same code, so that they agree.
//
// It holds the line between the two kinds: whatever the spec of a TraceSession says,
// what an agent starts for it sees the pods of the session's own namespace and nothing
// else. It runs nothing and talks to nobody.
package session
