// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// plugin makes a command of kubectl-gadget for the user of a kubeconfig, who has
// nothing else.
func plugin(ctx context.Context, kubeconfig string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(programs, "kubectl-gadget"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	return cmd
}

// run runs the plugin as the administrator to its end, and returns what it prints.
func (s *suite) run(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := plugin(ctx, s.Kubeconfig, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "kubectl gadget %s: %s", strings.Join(args, " "), &stderr)
	return stdout.String()
}

// line is one of -o json, as far as the tests look at it.
type line struct {
	Node, Namespace, Pod, Container, Image string
	ContainerID                            string `json:"containerID"`
	Timestamp                              time.Time
	Comm                                   string
	Args                                   []string
}

// has tells whether an execution's arguments mention a word.
func (e line) has(word string) bool { return strings.Contains(strings.Join(e.Args, " "), word) }

// trace is a run of the plugin that goes on beside the test.
type trace struct {
	t     *testing.T
	cmd   *exec.Cmd
	begun time.Time
	// said is what it writes to standard error, which is all but events.
	said  *transcript
	ended chan struct{}

	mu     sync.Mutex
	events []line
	err    error // of the end
}

// trace starts a run and returns when it is on, on every node. It must end in good order.
func (s *suite) trace(t *testing.T, args ...string) *trace {
	t.Helper()
	tr := s.traceAs(t, s.Kubeconfig, args...)
	tr.awaitNodes(nodes)
	return tr
}

// traceAs starts a run as the user of a kubeconfig.
func (s *suite) traceAs(t *testing.T, kubeconfig string, args ...string) *trace {
	t.Helper()
	tr := &trace{
		t: t, cmd: plugin(context.WithoutCancel(t.Context()), kubeconfig, append(args, "-o", "json", "-v")...),
		said: &transcript{}, begun: time.Now(), ended: make(chan struct{}),
	}
	tr.cmd.Stderr = tr.said
	stdout, err := tr.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, tr.cmd.Start())
	go func() {
		defer close(tr.ended)
		tr.read(json.NewDecoder(stdout))
	}()
	t.Cleanup(func() {
		_ = tr.cmd.Process.Kill() // it has ended, unless the test failed
		<-tr.ended
		if t.Failed() {
			t.Logf("kubectl gadget %s:\n%s", strings.Join(args, " "), tr.said)
		}
	})
	return tr
}

// read takes the events until there are no more.
func (tr *trace) read(lines *json.Decoder) {
	for {
		var e line
		if err := lines.Decode(&e); err != nil {
			break
		}
		tr.mu.Lock()
		tr.events = append(tr.events, e)
		tr.mu.Unlock()
	}
	err := tr.cmd.Wait()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.err = err
}

var began = regexp.MustCompile(`(?m)^node (\S+): `)

// awaitNodes returns when that many nodes have begun to trace.
func (tr *trace) awaitNodes(want int) {
	tr.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		seen := map[string]bool{}
		for _, match := range began.FindAllStringSubmatch(tr.said.String(), -1) {
			seen[match[1]] = true
		}
		if len(seen) >= want {
			return
		}
		select {
		case <-tr.ended:
			tr.t.Fatalf("the trace has ended: %v\n%s", tr.err, tr.said)
		default:
		}
		if time.Now().After(end) {
			tr.t.Fatalf("%d of %d nodes trace\n%s", len(seen), want, tr.said)
		}
	}
}

// all returns the events so far that are wanted.
func (tr *trace) all(want func(line) bool) []line {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	var found []line
	for _, e := range tr.events {
		if want(e) {
			found = append(found, e)
		}
	}
	return found
}

// await returns the wanted events as soon as there are that many.
func (tr *trace) await(n int, want func(line) bool) []line {
	tr.t.Helper()
	return tr.awaitFor(patience, n, want)
}

func (tr *trace) awaitFor(patience time.Duration, n int, want func(line) bool) []line {
	tr.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		found := tr.all(want)
		if len(found) >= n {
			return found
		}
		if time.Now().After(end) {
			tr.t.Fatalf("%d of %d events after %v: %v", len(found), n, patience, found[max(0, len(found)-10):])
		}
	}
}

// stop interrupts the run, as Ctrl-C does, and wants a good end.
func (tr *trace) stop() {
	tr.t.Helper()
	require.NoError(tr.t, tr.cmd.Process.Signal(syscall.SIGINT))
	select {
	case <-tr.ended:
	case <-time.After(patience):
		tr.t.Fatalf("the trace doesn't end\n%s", tr.said)
	}
	require.NoError(tr.t, tr.err, tr.said)
}

// requireNoLoss wants a stopped run to have shown all there was.
func (tr *trace) requireNoLoss() {
	tr.t.Helper()
	require.Regexp(tr.t, `(?m)^[\d,]+ (event|row)s?, 0 lost$`, tr.said.String())
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
