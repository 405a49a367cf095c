// SPDX-License-Identifier: Apache-2.0

package mixed

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodegadget.dev/test/e2e/cluster"
	"nodegadget.dev/test/e2e/guest"
	"nodegadget.dev/test/e2e/image"
)

// patience is how long anything may take that the cluster does by itself. Guests are
// emulated, and share the machine's processors.
const patience = 4 * time.Minute

// suite is what all tests share.
type suite struct {
	*cluster.Cluster
	guests []*guest.Guest
}

// nodes are the names of all nodes.
func (s *suite) nodes() []string {
	var names []string
	for _, n := range s.Nodes {
		names = append(names, n.Name)
	}
	for _, g := range s.guests {
		names = append(names, g.Name)
	}
	return names
}

// eventually tries until there is no error.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			require.NoError(t, err, "after %v", patience)
		}
	}
}

// namespace makes a namespace for a test, which ends with it.
func (s *suite) namespace(t *testing.T) string {
	t.Helper()
	namespaces := s.Client.CoreV1().Namespaces()
	made, err := namespaces.Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		// The next tests need not wait for its pods to end.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		require.NoError(t, namespaces.Delete(ctx, made.Name, metav1.DeleteOptions{}))
	})
	eventually(t, func() error {
		_, err := s.Client.CoreV1().ServiceAccounts(made.Name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return made.Name
}

// podOf is the name of a node's pod, in which there should be no dots.
func podOf(node string) string { return strings.ReplaceAll(node, ".", "-") }

// workload makes a pod with one container, named main, that runs a script once.
func workload(name, node, script string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			NodeName:                      node,
			RestartPolicy:                 corev1.RestartPolicyNever,
			TerminationGracePeriodSeconds: new(int64),
			Containers:                    []corev1.Container{container("main", script)},
		},
	}
}

func container(name, script string) corev1.Container {
	return corev1.Container{Name: name, Image: image.Workload, Command: []string{"/bin/sh", "-ec", script}}
}

func (s *suite) create(t *testing.T, namespace string, pod *corev1.Pod) {
	t.Helper()
	_, err := s.Client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	require.NoError(t, err)
}

// awaitPhase returns when a pod is in one of the phases.
func (s *suite) awaitPhase(t *testing.T, namespace, name string, phases ...corev1.PodPhase) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	eventually(t, func() (err error) {
		if pod, err = s.Client.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			return err
		}
		if slices.Contains(phases, pod.Status.Phase) {
			return nil
		}
		return fmt.Errorf("pod %s is %s, not %v: %+v", name, pod.Status.Phase, phases, pod.Status.ContainerStatuses)
	})
	return pod
}

func (s *suite) logs(t *testing.T, namespace, pod string) string {
	t.Helper()
	text, err := s.Client.CoreV1().Pods(namespace).GetLogs(pod, &corev1.PodLogOptions{}).DoRaw(t.Context())
	require.NoError(t, err)
	return string(text)
}
