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
	// past was counted before the agent's last start of the gadget, now since then.
	past, now Counts
}

// Live says whether something may still come from the node.
func (n *Node) Live() bool { return n.Gone == "" && !n.Ended }

// Counts says what the node's agent has lost and kept back.
func (n *Node) Counts() Counts { return n.past.Add(n.now) }

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
	// Throttled were left out because there were more a second than there may be.
	Throttled uint64
}

// Lost is the sum of what was lost on the way.
func (c Counts) Lost() uint64 { return c.Kernel + c.Queue + c.Relay + c.Missing }

// Add makes the sum of both.
func (c Counts) Add(o Counts) Counts {
	return Counts{
		Received: c.Received + o.Received, Kernel: c.Kernel + o.Kernel, Queue: c.Queue + o.Queue, Relay: c.Relay + o.Relay,
		Missing: c.Missing + o.Missing, Skipped: c.Skipped + o.Skipped,
		Unresolved: c.Unresolved + o.Unresolved, Withheld: c.Withheld + o.Withheld, Throttled: c.Throttled + o.Throttled,
	}
}

// grow takes over counters that only grow.
func (c *Counts) grow(o Counts) {
	c.Kernel, c.Queue, c.Relay = max(c.Kernel, o.Kernel), max(c.Queue, o.Queue), max(c.Relay, o.Relay)
	c.Skipped, c.Unresolved, c.Withheld = max(c.Skipped, o.Skipped), max(c.Unresolved, o.Unresolved), max(c.Withheld, o.Withheld)
	c.Throttled = max(c.Throttled, o.Throttled)
}

func countsOf(loss *wire.Loss) Counts {
	return Counts{
		Kernel: loss.GetKernel(), Queue: loss.GetQueue(), Relay: loss.GetRelay(), Skipped: loss.GetSkipped(),
		Unresolved: loss.GetUnresolved(), Withheld: loss.GetWithheld(), Throttled: loss.GetThrottled(),
	}
}

// begin takes the header of a node that begins, perhaps again: its agent counts anew.
func (n *Node) begin(header *wire.Header, spec gadget.Spec) {
	n.past, n.now = n.Counts(), Counts{}
	n.Header, n.Spec, n.Gone, n.Ended = header, spec, "", false
}

func (n *Node) leave(reason string, loss *wire.Loss) {
	n.Vanished = n.Vanished || n.Header != nil
	n.Gone = reason
	n.now.grow(countsOf(loss))
}

func (n *Node) end(loss *wire.Loss) {
	n.Gone, n.Ended = "", true
	n.now.grow(countsOf(loss))
}

// tally is what was counted of a whole session, or of an agent's run.
type tally struct {
	received uint64
	// numbered is how many records have got numbers. A relay numbers those that it has
	// received, an agent those that it wanted to send.
	numbered uint64
	// made is how many were to be sent in the end, if that is known.
	made uint64
	// loss is what the peer counts by itself; in a relay's end the sum of all nodes.
	loss Counts
	// ended says that the end has come.
	ended bool
}

func (t *tally) batch(b *wire.Batch) {
	t.received += uint64(b.GetCount())
	t.numbered = max(t.numbered, b.GetSequence()+uint64(b.GetCount()))
}

func (t *tally) end(end *wire.End) {
	t.made, t.ended = end.GetRecords(), true
	t.loss.grow(countsOf(end.GetLoss()))
}

// counts completes what the nodes have counted: what they or the relay dropped is
// known to the record; what else hasn't arrived got lost between.
func (t *tally) counts(nodes Counts, relayed bool) Counts {
	c := nodes
	c.Received = t.received
	c.grow(t.loss)
	numbered := c.Received + c.Relay
	if !relayed {
		numbered += c.Queue
	}
	c.Missing = max(missing(t.numbered, numbered), missing(t.made, c.Received+c.Relay+c.Queue))
	return c
}

func missing(all, known uint64) uint64 { return all - min(all, known) }
