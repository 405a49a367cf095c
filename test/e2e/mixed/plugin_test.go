// SPDX-License-Identifier: Apache-2.0

package mixed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// plugin makes a command of kubectl-gadget, which has nothing but a kubeconfig.
func (s *suite) plugin(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(programs, "kubectl-gadget"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Kubeconfig)
	return cmd
}

// problems is the exit status of doctor if a gadget can't run on a node.
const problems = 3

// run runs the plugin to its end, and returns what it prints.
func (s *suite) run(t *testing.T, args ...string) string {
	t.Helper()
	return s.runTo(t, 0, args...)
}

// runTo is run for a plugin that ends with a certain exit status.
func (s *suite) runTo(t *testing.T, status int, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := s.plugin(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	require.Equal(t, status, cmd.ProcessState.ExitCode(), "kubectl gadget %s: %s", strings.Join(args, " "), &stderr)
	return stdout.String()
}

// ask runs the plugin and reads the JSON that it prints.
func (s *suite) ask(t *testing.T, answer any, args ...string) {
	t.Helper()
	text := s.run(t, append(args, "-o", "json")...)
	require.NoError(t, json.Unmarshal([]byte(text), answer), text)
}

// line is an event of -o json, as far as the tests look at it.
type line struct {
	Node, Namespace, Pod, Container, Image string
	Args                                   []string
}

// trace is a run of the plugin that goes on beside the test.
type trace struct {
	t   *testing.T
	cmd *exec.Cmd
	// said is what it writes to standard error, which is all but events.
	events, said transcript
	ended        chan error
}

var began = regexp.MustCompile(`(?m)^node (\S+): kernel `)

// trace starts a run and returns when it is on, on all of these nodes.
func (s *suite) trace(t *testing.T, nodes []string, args ...string) *trace {
	t.Helper()
	args = append(args, "-o", "json", "-v")
	tr := &trace{t: t, cmd: s.plugin(context.WithoutCancel(t.Context()), args...), ended: make(chan error, 1)}
	tr.cmd.Stdout, tr.cmd.Stderr = &tr.events, &tr.said
	require.NoError(t, tr.cmd.Start())
	go func() { tr.ended <- tr.cmd.Wait() }()
	t.Cleanup(func() {
		_ = tr.cmd.Process.Kill() // it has ended, unless the test failed
		if t.Failed() {
			t.Logf("kubectl gadget %s:\n%s", strings.Join(args, " "), tr.said.String())
		}
	})
	tr.await("nodes that trace", func() bool {
		var seen []string
		for _, match := range began.FindAllStringSubmatch(tr.said.String(), -1) {
			seen = append(seen, match[1])
		}
		return !slices.ContainsFunc(nodes, func(node string) bool { return !slices.Contains(seen, node) })
	})
	return tr
}

// await waits for something while the run goes on.
func (tr *trace) await(what string, is func() bool) {
	tr.t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(50 * time.Millisecond) {
		select {
		case err := <-tr.ended:
			tr.t.Fatalf("waiting for %s: the run has ended: %v\n%s", what, err, tr.said.String())
		default:
		}
		if time.Now().After(end) {
			tr.t.Fatalf("waited %v for %s\n%s", patience, what, tr.said.String())
		}
	}
}

// lines are the events of a namespace so far.
func (tr *trace) lines(namespace string) []line {
	var lines []line
	for decoder := json.NewDecoder(strings.NewReader(tr.events.String())); ; {
		var l line
		if decoder.Decode(&l) != nil {
			return lines // of the last one only a part may be there
		}
		if l.Namespace == namespace {
			lines = append(lines, l)
		}
	}
}

// stop interrupts the run, as Ctrl-C does, and wants a good end.
func (tr *trace) stop() {
	tr.t.Helper()
	require.NoError(tr.t, tr.cmd.Process.Signal(syscall.SIGINT))
	select {
	case err := <-tr.ended:
		require.NoError(tr.t, err, tr.said.String())
	case <-time.After(patience):
		tr.t.Fatalf("the run doesn't end\n%s", tr.said.String())
	}
}

// transcript is read while a program still writes to it.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
