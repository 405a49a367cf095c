// SPDX-License-Identifier: Apache-2.0

package witness

import (
	"bytes"
	"strconv"
)

// report is struct report of bpf/witness.bpf.c.
type report struct {
	Cookie, File, Socket uint64
	Done                 uint64
	Present              uint64
	Fact                 [16]uint64
	PidTgid              uint64
	UIDGid               uint64
	Cgroup               uint64
	Comm                 [16]byte
	CurrentComm          [16]byte
	Release              [72]byte
	Name                 [40]byte
}

// fact is enum fact of bpf/witness.bpf.c.
type fact int

const (
	factPID fact = iota
	factTGID
	factComm
	factParent
	factUID
	factMountNS
	factNetworkNS
	factRelease
	factCgroup
	factStart
	factArgs
	factFileInode
	factFileName
	factSocketFamily
	factSocketPort
)

// factNames are for the operator.
var factNames = [...]string{
	factPID: "thread id", factTGID: "process id", factComm: "thread name", factParent: "parent process", factUID: "user id",
	factMountNS: "mount namespace", factNetworkNS: "network namespace", factRelease: "kernel release", factCgroup: "cgroup",
	factStart: "start time", factArgs: "address of arguments", factFileInode: "open file's inode", factFileName: "open file's name",
	factSocketFamily: "socket's family", factSocketPort: "socket's port",
}

// value is what the program read for a fact, and whether it could.
func (r *report) value(f fact) (string, bool) {
	if r.Present&(1<<f) == 0 {
		return "", false
	}
	switch f {
	case factComm:
		return text(r.Comm[:]), true
	case factRelease:
		return text(r.Release[:]), true
	case factFileName:
		return text(r.Name[:]), true
	case factStart:
		// As /proc shows it: in hundredths of a second.
		return number(r.Fact[f] / 10_000_000), true
	}
	return number(r.Fact[f]), true
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// text is one line, whatever bytes were read.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return strconv.QuoteToASCII(string(b))
}
