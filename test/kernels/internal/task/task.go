// SPDX-License-Identifier: Apache-2.0

// Package task is what the kernel matrix and the init of its guests agree on.
//
// The matrix puts a [Task] into the initramfs, init runs it and reports with
// [Exit] on the serial console, the one way out of a guest.
package task

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Paths in the guest.
const (
	File   = "/etc/nodegadget-task.json" // the Task
	Dir    = "/test"                     // where Binary is run
	Binary = "/test/run"
)

// What differs between guests with the same files is on the kernel command line.
// A value follows, without spaces.
const (
	KernelParam = "nodegadget.kernel=" // name in the matrix
	BTFParam    = "nodegadget.btf="    // present, none, or BTFHidden
	BTFHidden   = "hidden"             // keep /sys/kernel/btf from user space
)

// The same in the environment of the task.
const (
	KernelEnv = "GUEST_KERNEL="
	BTFEnv    = "GUEST_BTF="
)

// InitFailed is the exit code of a task that could not be started.
const InitFailed = 125

// Task is one run of the test binary.
type Task struct {
	Args []string `json:"args"`
	Env  []string `json:"env"` // KEY=VALUE, in addition to init's
}

// Marshal is the content of File.
func (t Task) Marshal() ([]byte, error) { return json.Marshal(t) }

// Unmarshal reads the content of File.
func Unmarshal(data []byte) (Task, error) {
	var t Task
	if err := json.Unmarshal(data, &t); err != nil {
		return Task{}, fmt.Errorf("parsing task: %w", err)
	}
	return t, nil
}

// Param returns the value of a parameter of a kernel command line, empty if it is
// not there. The name ends with the equals sign.
func Param(cmdline, name string) string {
	for word := range strings.FieldsSeq(cmdline) {
		if value, ok := strings.CutPrefix(word, name); ok {
			return value
		}
	}
	return ""
}

// Exit is how a task ended.
type Exit struct {
	Code    int    // 128 and the signal's number for one that was killed
	Release string // of the kernel, as uname -r prints it
}

// String is the marker on the serial console.
func (e Exit) String() string { return fmt.Sprintf("NODEGADGET-EXIT %d %s", e.Code, e.Release) }

var exitMarker = regexp.MustCompile(`NODEGADGET-EXIT (\d{1,3}) (\d+\.\S+)$`)

// ParseExit finds a marker at the end of a line. What stands before it is the
// rest of a line the task did not finish.
func ParseExit(line string) (Exit, bool) {
	m := exitMarker.FindStringSubmatch(line)
	if m == nil {
		return Exit{}, false
	}
	code, err := strconv.Atoi(m[1])
	return Exit{Code: code, Release: m[2]}, err == nil
}
