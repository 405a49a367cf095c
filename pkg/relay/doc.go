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
// Each stage holds a bounded number of bytes, and waits for the next: what a client
// doesn't read stays with the agents, each of which has a queue for it and counts what
// it drops. So a node that floods loses its own records, and a client that is slow
// costs nobody else anything. When a session ends, what finds no room is dropped here,
// and counted too. Records are copied once, and are looked at only where the schema
// says their time is.
//
// A client's rights are asked for when its stream begins, and again and again while it
// lasts. Without them it is sent nothing more, and its session ends.
//
// Reading a trace session is a run as well, whose start has an attach: agents send what
// they have retained of it instead of running something. Until every node has sent all
// of that, the merger waits for each of them whatever the window is, and then tells the
// client so. An agent that is attached to again is asked only for what is new.
package relay
