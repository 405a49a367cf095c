// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
)

// peer is a tool of the distribution that does the same work.
type peer struct {
	program string
	// pack is the Debian package that has it.
	pack string
	tool tool
}

// peersOf lists the tools to compare with. bpftrace prints what opensnoop and
// execsnoop print by default, as far as one tracepoint knows it: at the entry of
// execve the thread still has its parent's name.
func peersOf(kind string) []peer {
	if kind == "exec" {
		const script = `tracepoint:syscalls:sys_enter_execve { printf("%d %s %s\n", pid, comm, str(args->filename)); }`
		return []peer{
			{"execsnoop", "libbpf-tools", tool{Name: "execsnoop", Match: field(0, execComm), Headers: 1}},
			{"bpftrace", "bpftrace", tool{Name: "bpftrace", Argv: []string{"-e", script}, Match: field(1, forkComm), Headers: 1}},
		}
	}
	const script = `tracepoint:syscalls:sys_enter_openat { printf("%d %s %s\n", pid, comm, str(args->filename)); }`
	return []peer{
		{"opensnoop", "libbpf-tools", tool{Name: "opensnoop", Match: field(1, openComm), Headers: 1}},
		{"bpftrace", "bpftrace", tool{Name: "bpftrace", Argv: []string{"-e", script}, Match: field(1, openComm), Headers: 1}},
	}
}

// find completes the command of an installed tool, or says that it is missing.
func (p peer) find() (*tool, error) {
	path, err := exec.LookPath(p.program)
	if err != nil {
		// Not in everybody's path.
		path, err = exec.LookPath(filepath.Join("/usr/sbin", p.program))
	}
	if err != nil {
		return nil, fmt.Errorf("%s is not installed (Debian: %s)", p.program, p.pack)
	}
	t := p.tool
	t.Argv = append([]string{path}, t.Argv...)
	return &t, nil
}
