// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// root is the project's directory, where readers of its documents are.
const root = "../.."

// shell runs the commands that documents tell readers to type, with real programs:
// kubectl, which finds the plugin on its PATH, and helm.
type shell struct {
	dir, kubeconfig string
	// work is the directory in which they are typed; empty for the project's.
	work string
}

func (s *suite) shell(t *testing.T) *shell {
	t.Helper()
	dir := t.TempDir()
	kubectlGadget, err := filepath.Abs(filepath.Join(programs, "kubectl-gadget"))
	require.NoError(t, err)
	for name, target := range map[string]string{
		"kubectl": options().Hyperkube, "kubectl-gadget": kubectlGadget, "helm": helmPath(),
	} {
		require.NoError(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	return &shell{dir: dir, kubeconfig: s.Kubeconfig}
}

// helmPath is where make test-e2e has installed Helm.
func helmPath() string {
	cache := os.Getenv("NODEGADGET_CACHE")
	if cache == "" {
		// Its error is that of a user without a home, who has no cache either.
		home, _ := os.UserHomeDir()
		cache = filepath.Join(home, ".cache/nodegadget")
	}
	return filepath.Join(cache, "bin/helm")
}

func (sh *shell) command(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "exec "+line)
	if cmd.Dir = sh.work; sh.work == "" {
		cmd.Dir = root
	}
	cmd.Env = append(os.Environ(), "KUBECONFIG="+sh.kubeconfig, "PATH="+sh.dir+":"+os.Getenv("PATH"))
	return cmd
}

// run runs a command to its end and returns what it prints.
func (sh *shell) run(t *testing.T, line string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := sh.command(ctx, line)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "%s: %s", line, &stderr)
	return stdout.String()
}

// runUntil runs a command until it has printed the text, and then interrupts it.
func (sh *shell) runUntil(t *testing.T, line, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := sh.command(ctx, line)
	var stdout, stderr transcript
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for end := time.Now().Add(patience); !strings.Contains(stdout.String(), text); time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-ended:
			require.Failf(t, "it has ended", "%s: %v without %q: %s", line, err, text, stderr.String())
		default:
		}
		if time.Now().After(end) {
			cancel()
			<-ended
			require.Failf(t, "it goes on", "%s: nothing of %q: %s%s", line, text, stdout.String(), stderr.String())
		}
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, <-ended, "%s: %s", line, stderr.String())
}

// commands are those of the first block of code in a section of a document.
func commands(t *testing.T, document, section string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, document))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "\n## "+section+"\n")
	require.True(t, found, "section %q of %s", section, document)
	all := blocksIn(rest)
	require.NotEmpty(t, all)
	return all[0].lines
}

// testQuickStart does what the README says about clusters, to the letter, but for the
// image, and removes all again.
func testQuickStart(t *testing.T, s *suite) {
	sh := s.shell(t)
	s.makeShop(t)
	lines := commands(t, "README.md", "In a cluster")
	require.Greater(t, len(lines), 5)
	for _, line := range lines {
		words := strings.Fields(line)
		t.Log(line)
		switch verb := words[min(2, len(words)-1)]; {
		case words[0] == "helm":
			line = strings.ReplaceAll(line, "registry.example.com/nodegadget", repository)
			sh.run(t, line+" --values "+writeValues(t))
			s.awaitInstalled(t)
		case verb == "status", verb == "doctor":
			said := sh.run(t, line)
			for _, n := range s.Nodes {
				require.Contains(t, said, n.Name)
			}
		case verb == "trace":
			sh.runUntil(t, line, "cart-7d9f")
		default:
			// Its rows are sorted: those of busier pods may push the shop's out of sight.
			sh.runUntil(t, line, "COUNT")
		}
	}
	require.Contains(t, sh.run(t, "helm test nodegadget -n nodegadget --timeout 60s"), "Phase:          Succeeded")
	sh.run(t, "helm uninstall nodegadget -n nodegadget --wait --timeout 60s")
	s.awaitEmpty(t)
}

// makeShop makes what the documents' examples look at.
func (s *suite) makeShop(t *testing.T) {
	t.Helper()
	namespaces := s.Client.CoreV1().Namespaces()
	_, err := namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		require.NoError(t, namespaces.Delete(ctx, "shop", metav1.DeleteOptions{}))
	})
	eventually(t, func() error {
		_, err := s.Client.CoreV1().ServiceAccounts("shop").Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	cart := workload("cart-7d9f", s.Nodes[1].Name, "while true; do /bin/true; cat /etc/hostname; usleep 200000; done")
	cart.Labels = map[string]string{"app": "cart"}
	cart.Spec.Containers[0].Name = "web"
	s.start(t, "shop", cart)
}
