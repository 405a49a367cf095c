// SPDX-License-Identifier: Apache-2.0

// Package sink has the outputs of a trace session but the stream: a file on the node,
// OpenTelemetry logs, and Prometheus metrics. Each reads the session's tape at its own
// pace, in a goroutine of its own, so that none slows the session or another output: one
// that is too slow, or whose other end is away, is overtaken by the tape, and counts
// what it has not written. Read = Written + Dropped, exactly.
//
// This is the only place on a node where records are decoded, and only for sessions
// that have such an output. It is not for what clients see: they get the tape itself.
package sink
