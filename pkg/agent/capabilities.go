// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilities is the set of them that a process has, bit by bit.
type capabilities uint64

// The capabilities that matter to an agent, in the order in which they are shown.
var capabilityNames = []struct {
	bit  int
	name string
}{
	{unix.CAP_BPF, "CAP_BPF"},
	{unix.CAP_PERFMON, "CAP_PERFMON"},
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
	{unix.CAP_SYS_RESOURCE, "CAP_SYS_RESOURCE"},
	{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE"},
	{unix.CAP_SYSLOG, "CAP_SYSLOG"},
	{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"},
}

// ownCapabilities are those that this process may use.
func ownCapabilities() (capabilities, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("reading capabilities: %w", err)
	}
	return parseCapabilities(string(text))
}

func parseCapabilities(status string) (capabilities, error) {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if err != nil {
				return 0, fmt.Errorf("reading capabilities: %w", err)
			}
			return capabilities(n), nil
		}
	}
	return 0, fmt.Errorf("reading capabilities: there is no CapEff")
}

func (c capabilities) has(bit int) bool { return c>>bit&1 != 0 }

func (c capabilities) String() string {
	var names []string
	for _, known := range capabilityNames {
		if c.has(known.bit) {
			names = append(names, known.name)
		}
	}
	if len(names) == 0 {
		return "none of those that matter"
	}
	return strings.Join(names, ", ")
}

// missing names what is needed on a kernel of this release and isn't there.
func (c capabilities) missing(release string) []string {
	if c.has(unix.CAP_SYS_ADMIN) {
		return nil
	}
	if older(release, 5, 8) {
		return []string{"CAP_SYS_ADMIN"}
	}
	var names []string
	for _, known := range capabilityNames[:2] {
		if !c.has(known.bit) {
			names = append(names, known.name)
		}
	}
	return names
}

// older says whether a kernel is older than a release. What can't be read isn't.
func older(release string, major, minor int) bool {
	var gotMajor, gotMinor int
	if _, err := fmt.Sscanf(release, "%d.%d", &gotMajor, &gotMinor); err != nil {
		return false
	}
	return gotMajor < major || gotMajor == major && gotMinor < minor
}
