// SPDX-License-Identifier: Apache-2.0

package mixed

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v4/pkg/action"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/kube"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/yaml"
)

// Where the chart is installed, and as what.
const (
	installed = "nodegadget"
	release   = "nodegadget"
)

// values are what differs from the chart's: where the image comes from, and which
// capabilities there are. Containers that run tests often lack SYS_RESOURCE themselves,
// so the machine's own nodes can't give it. Kernels before 5.11 need it, and have a
// pool for that.
const values = `
image:
  repository: nodegadget.test/nodegadget
  tag: e2e
  pullPolicy: Never
agent:
  capabilities: [BPF, PERFMON]
  pools:
    - name: old
      nodeSelector: {kubernetes.io/hostname: ` + untyped + `}
      capabilities: [BPF, PERFMON, SYS_RESOURCE]
`

// withoutBundle leaves the types of kernels out.
const withoutBundle = `
agent:
  btf: {bundle: false}
`

// helm is what an installation is changed by.
type helm struct {
	config *action.Configuration
	chart  *chart.Chart
}

func (s *suite) helm(t *testing.T) helm {
	t.Helper()
	flags := genericclioptions.NewConfigFlags(false)
	flags.KubeConfig = &s.Kubeconfig
	h := helm{config: action.NewConfiguration()}
	require.NoError(t, h.config.Init(flags, installed, "secret"))
	var err error
	h.chart, err = loader.LoadDir("../../../charts/nodegadget")
	require.NoError(t, err)
	return h
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var parsed map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(text), &parsed))
	return parsed
}

// install installs the chart, once for all nodes.
func (s *suite) install(t *testing.T) {
	t.Helper()
	h := s.helm(t)
	install := action.NewInstall(h.config)
	install.ReleaseName, install.Namespace, install.CreateNamespace = release, installed, true
	install.WaitStrategy, install.Timeout = kube.HookOnlyStrategy, patience
	_, err := install.RunWithContext(t.Context(), h.chart, parse(t, values))
	require.NoError(t, err)
}

// upgrade changes values of the installation.
func (s *suite) upgrade(t *testing.T, changed string) {
	t.Helper()
	h := s.helm(t)
	upgrade := action.NewUpgrade(h.config)
	upgrade.Namespace, upgrade.ReuseValues = installed, true
	upgrade.WaitStrategy, upgrade.Timeout = kube.HookOnlyStrategy, patience
	_, err := upgrade.RunWithContext(t.Context(), release, h.chart, parse(t, changed))
	require.NoError(t, err)
}

// uninstall removes it.
func (s *suite) uninstall(t *testing.T) {
	t.Helper()
	uninstall := action.NewUninstall(s.helm(t).config)
	uninstall.WaitStrategy, uninstall.Timeout = kube.HookOnlyStrategy, patience
	_, err := uninstall.Run(release)
	require.NoError(t, err)
	eventually(t, func() error {
		pods, err := s.Client.CoreV1().Pods(installed).List(t.Context(), metav1.ListOptions{})
		if err == nil && len(pods.Items) > 0 {
			err = fmt.Errorf("%d pods are left", len(pods.Items))
		}
		return err
	})
}

// awaitAgents returns when every node's agent is the current one, and the controller
// talks to it. The controller is ready before: without it no agent is.
func (s *suite) awaitAgents(t *testing.T) {
	t.Helper()
	eventually(t, func() error {
		sets, err := s.Client.AppsV1().DaemonSets(installed).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		ready := 0
		for _, set := range sets.Items {
			status := set.Status
			if status.ObservedGeneration == set.Generation && status.UpdatedNumberScheduled == status.DesiredNumberScheduled {
				ready += int(status.NumberReady)
			}
		}
		if ready != len(s.nodes()) {
			return fmt.Errorf("%d of %d agents are ready: %s", ready, len(s.nodes()), s.troubles(t.Context()))
		}
		return nil
	})
	eventually(t, func() error {
		for _, n := range s.status(t) {
			if n.Error != "" {
				return fmt.Errorf("%s: %s", n.Node, n.Error)
			}
		}
		return nil
	})
}

// troubles says what is wrong with the installation's pods.
func (s *suite) troubles(ctx context.Context) string {
	pods, err := s.Client.CoreV1().Pods(installed).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err.Error()
	}
	text := ""
	for _, pod := range pods.Items {
		for _, c := range pod.Status.ContainerStatuses {
			if c.Ready {
				continue
			}
			text += fmt.Sprintf("\n%s on %s: %+v, before: %+v", pod.Name, pod.Spec.NodeName, c.State, c.LastTerminationState)
			lines := int64(10)
			logs, _ := s.Client.CoreV1().Pods(installed).GetLogs(pod.Name, &corev1.PodLogOptions{TailLines: &lines}).DoRaw(ctx)
			text += "\n" + string(logs)
		}
	}
	return text
}

// agentLog is the log of a node's agent.
func (s *suite) agentLog(t *testing.T, node string) string {
	t.Helper()
	pods, err := s.Client.CoreV1().Pods(installed).List(t.Context(), metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/component=agent", FieldSelector: "spec.nodeName=" + node,
	})
	require.NoError(t, err)
	require.Len(t, pods.Items, 1)
	return s.logs(t, installed, pods.Items[0].Name)
}
