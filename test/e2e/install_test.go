// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// installed is the namespace that the chart is installed in.
const installed = "nodegadget"

// repository has the image under test.
const repository = "nodegadget.test/nodegadget"

// values are what differs from the chart's: where the image comes from, the
// capability that containers which run tests often lack themselves, which no kernel of
// these tests needs, and how soon a right is missed that was taken away.
const values = `
image:
  repository: ` + repository + `
  tag: e2e
  pullPolicy: Never
agent:
  capabilities: [BPF, PERFMON]
  sessions:
    files: {enabled: true, path: ` + filesDir + `}
controller:
  extraArgs: [--recheck=2s]
rbac:
  connect:
    - {apiGroup: rbac.authorization.k8s.io, kind: Group, name: ` + tracers + `}
`

func writeValues(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "values.yaml")
	require.NoError(t, os.WriteFile(path, []byte(values), 0o600))
	return path
}

// testDeploy installs by the plugin, for all tests that follow.
func testDeploy(t *testing.T, s *suite) {
	s.run(t, "deploy", "--values", writeValues(t))
	s.awaitInstalled(t)
}

// awaitInstalled returns when agents and controller are ready.
func (s *suite) awaitInstalled(t *testing.T) {
	t.Helper()
	eventually(t, func() error {
		agents, err := s.Client.AppsV1().DaemonSets(installed).Get(t.Context(), "nodegadget-agent", metav1.GetOptions{})
		if err != nil {
			return err
		}
		controller, err := s.Client.AppsV1().Deployments(installed).Get(t.Context(), "nodegadget-controller", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if agents.Status.NumberReady != nodes || controller.Status.ReadyReplicas != 1 {
			return fmt.Errorf("%d agents and %d controllers are ready", agents.Status.NumberReady, controller.Status.ReadyReplicas)
		}
		return nil
	})
}

// awaitEmpty returns when no pod is left of an installation.
func (s *suite) awaitEmpty(t *testing.T) {
	t.Helper()
	eventually(t, func() error {
		pods, err := s.Client.CoreV1().Pods(installed).List(t.Context(), metav1.ListOptions{})
		if err == nil && len(pods.Items) > 0 {
			err = fmt.Errorf("%d pods are left", len(pods.Items))
		}
		return err
	})
}
