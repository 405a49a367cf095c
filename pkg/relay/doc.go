// SPDX-License-Identifier: Apache-2.0

// Package relay fans the agents of all nodes into one stream for each client.
//
// A Fleet keeps one connection to every agent. A client's run is a session: on each
// node that it wants the relay runs the gadget, and starts it again where an agent
// went away and came back. What the agents send passes these stages:
//
//	node    receives, makes references to containers the relay's own
//	merger  puts the records of all nodes in order of time, within a small window
//	box     numbers messages, keeps the last ones for a client that comes back
//	attach  sends them to the client
//
// Each stage holds a bounded number of bytes. A node whose records can't be merged
// fast enough is not read, so that its agent counts what it drops; a client that
// doesn't read loses records here, which is counted and told. Records are copied
// once and are looked at only where the schema says their time is.
package relay
