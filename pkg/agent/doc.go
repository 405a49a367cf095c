// SPDX-License-Identifier: Apache-2.0

// Package agent is the gRPC server of a node: it runs gadgets for its clients
// and sends them the records.
//
// An agent never decodes a record. It filters by looking at the bytes, appends
// what passes to a batch, and sends batches through a bounded queue for each
// client: a client that is slow or stopped loses its own records, which is
// counted and told to it, and holds up nobody.
//
// Who asks the same of the kernel shares what is loaded: a program has members, each with
// its own selector, filter, queue and losses, which come and go without disturbing the
// others.
//
// An agent that follows containers (pkg/container) names the one behind each record,
// and sends a run only what its selector lets it see. On a unix socket the socket's
// permissions say who is a client; on TCP it is the controller alone, by mutual TLS,
// with a certificate that the agent gets from it against its service account's token.
// Beside all that it serves metrics and probes, which a heartbeat keeps honest.
package agent
