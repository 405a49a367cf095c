// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"nodegadget.dev/pkg/client"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
)

// namedNodes is how many nodes the summary names before it only counts them.
const namedNodes = 10

// summary says at the end what was shown and what was lost: a line for each node to
// which something happened, and one for all. It returns why the run has failed, if
// it has: losses fail it only if that was asked for.
func (v *view) summary(shown error) error {
	relayed := v.session != ""
	if shown == nil && !v.run.Ended() {
		shown = errors.New("the run ended without anybody's saying how it went")
	}
	if shown != nil && !relayed {
		return shown
	}
	began := !relayed
	var remarks []string
	for _, n := range v.inOrder() {
		began = began || n.Header != nil
		if text := remark(n); relayed && text != "" {
			remarks = append(remarks, text)
		}
	}
	for i, text := range remarks {
		if i == namedNodes && len(remarks) > namedNodes+1 {
			fmt.Fprintf(v.streams.Err, "and %d nodes more\n", len(remarks)-namedNodes)
			break
		}
		fmt.Fprintln(v.streams.Err, print.Escape(text))
	}
	total, missed := v.run.Counts(), v.run.Missed()
	if v.opts.attach != nil {
		missed.Restarts = 0 // What is retained is still there.
		if v.opts.reads() && !began && shown == nil {
			v.notice(nil, v.opts.nothing)
		}
	}
	lost := losses(total, missed)
	if began || shown == nil {
		fmt.Fprintln(v.streams.Err, v.line(total, lost, missed))
	}
	switch {
	case shown != nil:
		return shown
	case !began && !v.opts.reads():
		return errors.New("the gadget runs on no node")
	case !v.opts.failOnLoss:
		return nil
	}
	return v.demanded(lost, total, missed)
}

// remark says what happened to a node; empty if nothing did.
func remark(n *nodeView) string {
	var parts []string
	c := n.Counts()
	if c.Lost() > 0 {
		parts = append(parts, fmt.Sprintf("%s lost (%s)", thousands(c.Lost()), strings.Join(losses(c, client.Missed{}).stages(), ", ")))
	}
	switch {
	case n.Header == nil && n.Gone != "":
		parts = append(parts, "didn't take part: "+n.Gone)
	case n.Header == nil:
		parts = append(parts, "didn't come to begin")
	case n.Gone != "":
		parts = append(parts, "gone: "+n.Gone)
	case n.Vanished:
		parts = append(parts, "was away for a while")
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("node %s: %s", n.Name, strings.Join(parts, "; "))
}

// loss is what was lost at one stage.
type loss struct {
	records uint64
	where   string
	// always is shown among others even if it is 0.
	always bool
}

type lossList []loss

// losses lists the stages. What is missing because a connection broke is known to
// the agents only as sent, so it is part of what they miss.
func losses(c client.Counts, missed client.Missed) lossList {
	return lossList{
		{c.Kernel, "in the kernel's buffer", true},
		{c.Queue, "in the agent's queue", true},
		{c.Relay, "in the relay", false},
		{missed.Records, "while the connection was broken", false},
		{c.Missing - min(c.Missing, missed.Records), "on the way", false},
	}
}

func (l lossList) sum() uint64 {
	var sum uint64
	for _, stage := range l {
		sum += stage.records
	}
	return sum
}

func (l lossList) stages() []string {
	var texts []string
	for _, stage := range l {
		if stage.records > 0 || stage.always {
			texts = append(texts, thousands(stage.records)+" "+stage.where)
		}
	}
	return texts
}

// line is the last line.
func (v *view) line(total client.Counts, lost lossList, missed client.Missed) string {
	noun := "event"
	if v.kind != gadget.Events {
		noun = "row"
	}
	if v.shown != 1 {
		noun += "s"
	}
	line := fmt.Sprintf("%s %s, %s lost", thousands(v.shown), noun, thousands(lost.sum()))
	if lost.sum() > 0 {
		line += " (" + strings.Join(lost.stages(), ", ") + ")"
	}
	if total.Unresolved > 0 {
		line += fmt.Sprintf(", %s unresolved", thousands(total.Unresolved))
	}
	if total.Withheld > 0 {
		line += fmt.Sprintf(", %s withheld because nobody knows whose they are", thousands(total.Withheld))
	}
	if total.Throttled > 0 {
		line += fmt.Sprintf(", %s throttled", thousands(total.Throttled))
	}
	if total.Skipped > 0 {
		line += fmt.Sprintf(", %s program runs left out by the kernel", thousands(total.Skipped))
	}
	if missed.Restarts > 0 {
		line += ", and what happened before the run began anew"
	}
	return line
}

// demanded is the error of --fail-on-loss, nil if all that happened was shown.
func (v *view) demanded(lost lossList, total client.Counts, missed client.Missed) error {
	if lost.sum() > 0 {
		return fmt.Errorf("%s events were lost", thousands(lost.sum()))
	}
	if total.Withheld > 0 {
		return fmt.Errorf("%s events were withheld", thousands(total.Withheld))
	}
	if total.Throttled > 0 {
		return fmt.Errorf("%s events were throttled", thousands(total.Throttled))
	}
	if missed.Restarts > 0 {
		return errors.New("what happened before the run began anew was lost")
	}
	for _, n := range v.inOrder() {
		if n.Gone != "" || n.Vanished || n.Header == nil {
			return fmt.Errorf("what happened on node %s was lost", n.Name)
		}
	}
	return nil
}

// thousands writes 12345 as 12,345.
func thousands(n uint64) string {
	digits := fmt.Sprint(n)
	var parts []string
	for len(digits) > 3 {
		parts = append(parts, digits[len(digits)-3:])
		digits = digits[:len(digits)-3]
	}
	parts = append(parts, digits)
	slices.Reverse(parts)
	return strings.Join(parts, ",")
}
