// SPDX-License-Identifier: Apache-2.0

// Package agent is the gRPC server of a node: it runs gadgets for its clients
// and sends them the records.
//
// An agent never decodes a record. It filters by looking at the bytes, appends
// what passes to a batch, and sends batches through a bounded queue for each
// client: a client that is slow or stopped loses its own records, which is
// counted and told to it, and holds up nobody.
package agent
