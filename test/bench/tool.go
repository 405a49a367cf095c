// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"path/filepath"
)

// tool is a program under test, and how to read what it says.
type tool struct {
	// Name is what the report calls it.
	Name string
	// Argv is the command; of Argv[0] the report shows only what a reader can use.
	Argv []string
	// Ours says that this is our program: its books must balance.
	Ours bool
	// Alone says that the kernel filters: nobody else's events can be lost.
	Alone bool
	// Blind says that a filter hides the generator: nothing may come.
	Blind bool
	// Silent says that events are counted but not printed.
	Silent bool
	// Headers is the number of lines before the first event.
	Headers uint64
	// Match says whether a line is an event of the generator.
	Match func(line []byte) bool
	// Sessions is the number of clients of one agent; 0: no agent is involved.
	Sessions int
	// Agent is the agent's command, if there are sessions.
	Agent []string
}

// Command is the tool's command line, without where it was found.
func (t *tool) Command() []string {
	if t.Ours {
		return t.Argv
	}
	return append([]string{filepath.Base(t.Argv[0])}, t.Argv[1:]...)
}

// field matches lines whose i-th word is comm.
func field(i int, comm string) func([]byte) bool {
	want := []byte(comm)
	return func(line []byte) bool {
		left := i
		for word := range bytes.FieldsSeq(line) {
			if left == 0 {
				return bytes.Equal(word, want)
			}
			left--
		}
		return false
	}
}

// member matches lines of JSON with the comm. A quote inside of a string would be
// escaped, so only the member itself matches.
func member(comm string) func([]byte) bool {
	want := []byte(`"comm":"` + comm + `"`)
	return func(line []byte) bool { return bytes.Contains(line, want) }
}

// never matches nothing.
func never([]byte) bool { return false }

// ourTools are this project's ways to trace kind, open or exec.
func ourTools(bin, kind string) []*tool {
	comm := commOf(kind)
	command := func(args ...string) []string {
		return append([]string{filepath.Join(bin, "kubectl-gadget"), "trace", kind, "--local", "--verbose"}, args...)
	}
	tools := []*tool{
		{Name: nameJSON, Argv: command("-o", "json"), Match: member(comm)},
		{Name: "nodegadget columns", Argv: command("-o", "columns"), Match: field(2, comm), Headers: 1},
		{Name: "nodegadget, kernel filter", Argv: command("-o", "json", "--comm", comm), Match: member(comm), Alone: true},
		{Name: "nodegadget, no output", Argv: command("-o", "none", "--comm", comm), Match: never, Alone: true, Silent: true},
	}
	if kind == "open" {
		tools = append(
			tools,
			&tool{Name: "nodegadget, agent's filter", Argv: command("-o", "json", "--filter", `comm == "`+comm+`"`), Match: member(comm)},
			&tool{Name: "nodegadget, filtered out", Argv: command("-o", "json", "--comm", "nobody"), Match: member(comm), Alone: true, Blind: true},
			&tool{Name: "nodegadget, 4 KiB buffer", Argv: command("-o", "json", "--comm", comm, "--buffer-size", "4Ki"), Match: member(comm), Alone: true},
		)
	}
	for _, t := range tools {
		t.Ours = true
	}
	return tools
}

// agentTool is an agent with a number of clients that print nothing.
func agentTool(bin, socket, name string, sessions int) *tool {
	address := "unix://" + socket
	return &tool{
		Name: name, Ours: true, Alone: true, Silent: true, Match: never, Sessions: sessions,
		Agent: []string{filepath.Join(bin, "gadget-agent"), "serve", "--listen", address},
		Argv: []string{
			filepath.Join(bin, "kubectl-gadget"), "trace", "open", "--agent", address,
			"--verbose", "-o", "none", "--comm", openComm,
		},
	}
}

// Names that targets refer to.
const (
	nameAlone   = "generator alone"
	nameJSON    = "nodegadget JSON"
	nameAgent1  = "agent, 1 session"
	nameAgent16 = "agent, 16 sessions"
)

func commOf(kind string) string {
	if kind == "exec" {
		return execComm
	}
	return openComm
}
