// SPDX-License-Identifier: Apache-2.0

package client

import (
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/wire"
)

// Node is a node that takes part in a run, should do so, or did. Run.Next changes it.
type Node struct {
	Name string
	// Header is the last that the node sent; nil while its part hasn't begun.
	Header *wire.Header
	// Spec is the gadget as this node's agent has it. Another node's may differ.
	Spec gadget.Spec
	// Gone says why the node doesn't take part, empty if it does or may still begin to.
	Gone string
	// Vanished says that it ever was gone after it had begun.
	Vanished bool
	// Ended says that its part came to an end in good order.
	Ended bool
	// past is what was counted before the last header, now what came since.
	past, now tally
}

// Live says whether something may still come from the node.
func (n *Node) Live() bool { return n.Gone == "" && !n.Ended }

// Counts are numbers of records.
type Counts struct {
	// Received have arrived.
	Received uint64
	// Kernel, Queue and Relay were lost in the kernel's buffer, in the agent's queue,
	// and in the relay's.
	Kernel, Queue, Relay uint64
	// Missing are known to have been sent, but have not arrived.
	Missing uint64
	// Skipped are program runs that the kernel left out.
	Skipped uint64
	// Unresolved have arrived, but nobody knows from which container.
	Unresolved uint64
	// Withheld were not sent for that reason: the caller may not see every container.
	Withheld uint64
}

// Lost is the sum of what was lost on the way.
func (c Counts) Lost() uint64 { return c.Kernel + c.Queue + c.Relay + c.Missing }

// Add makes the sum of both.
func (c Counts) Add(o Counts) Counts {
	return Counts{
		Received: c.Received + o.Received, Kernel: c.Kernel + o.Kernel, Queue: c.Queue + o.Queue, Relay: c.Relay + o.Relay,
		Missing: c.Missing + o.Missing, Skipped: c.Skipped + o.Skipped,
		Unresolved: c.Unresolved + o.Unresolved, Withheld: c.Withheld + o.Withheld,
	}
}

// Counts says what was received from the node and lost on the way from it.
func (n *Node) Counts() Counts { return n.past.Counts.Add(n.now.counts()) }

// tally counts the records of a node between two headers.
type tally struct {
	Counts
	// numbered is how many records the agent has numbered so far.
	numbered uint64
}

// counts completes the sum: what the agent or the relay dropped is known to the
// record; the rest got lost between.
func (t *tally) counts() Counts {
	c := t.Counts
	if known := c.Received + c.Queue + c.Relay; t.numbered > known {
		c.Missing += t.numbered - known
	}
	return c
}

// begin takes the header of a node that begins, perhaps again: its agent counts anew.
func (n *Node) begin(header *wire.Header, spec gadget.Spec) {
	n.past = tally{Counts: n.Counts()}
	n.now = tally{}
	n.Header, n.Spec, n.Gone, n.Ended = header, spec, "", false
}

func (n *Node) leave(reason string, loss *wire.Loss) {
	n.Vanished = n.Vanished || n.Header != nil
	n.Gone = reason
	n.now.lost(loss)
}

func (n *Node) end(end *wire.End) {
	n.Ended = true
	n.now.numbered = max(n.now.numbered, end.GetRecords())
	n.now.lost(end.GetLoss())
}

func (t *tally) batch(b *wire.Batch) {
	t.Received += uint64(b.GetCount())
	t.numbered = max(t.numbered, b.GetSequence()+uint64(b.GetCount()))
}

// lost takes over the agent's counters, which only grow.
func (t *tally) lost(loss *wire.Loss) {
	t.Kernel = max(t.Kernel, loss.GetKernel())
	t.Queue = max(t.Queue, loss.GetQueue())
	t.Relay = max(t.Relay, loss.GetRelay())
	t.Skipped = max(t.Skipped, loss.GetSkipped())
	t.Unresolved = max(t.Unresolved, loss.GetUnresolved())
	t.Withheld = max(t.Withheld, loss.GetWithheld())
}
