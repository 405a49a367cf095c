// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodegadget.dev/test/e2e/cluster"
	"nodegadget.dev/test/e2e/image"
)

const (
	// patience is how long anything may take that the cluster does by itself.
	patience = time.Minute
	// manyPatience is how long hundreds of pods may take.
	manyPatience = 5 * time.Minute
)

// suite is what all tests share.
type suite struct {
	*cluster.Cluster
}

// eventually tries until there is no error.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	eventuallyIn(t, patience, try)
}

func eventuallyIn(t *testing.T, patience time.Duration, try func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
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

// start makes a pod and returns when it has started.
func (s *suite) start(t *testing.T, namespace string, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	_, err := s.Client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	require.NoError(t, err)
	return s.awaitPhase(t, namespace, pod.Name, corev1.PodRunning, corev1.PodSucceeded)
}

// awaitPhase returns when a pod is in one of the phases.
func (s *suite) awaitPhase(t *testing.T, namespace, name string, phases ...corev1.PodPhase) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	eventually(t, func() (err error) {
		if pod, err = s.Client.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			return err
		}
		for _, phase := range phases {
			if pod.Status.Phase == phase {
				return nil
			}
		}
		return fmt.Errorf("pod %s is %s, not %v: %+v", name, pod.Status.Phase, phases, pod.Status.ContainerStatuses)
	})
	return pod
}

// remove deletes a pod and returns when it is gone.
func (s *suite) remove(t *testing.T, namespace, name string) {
	t.Helper()
	require.NoError(t, s.Client.CoreV1().Pods(namespace).Delete(t.Context(), name, metav1.DeleteOptions{}))
	s.awaitGone(t, namespace, name)
}

// clear deletes a namespace's pods and returns when they are gone. Hundreds that end
// would disturb the next test.
func (s *suite) clear(t *testing.T, namespace string) {
	t.Helper()
	pods := s.Client.CoreV1().Pods(namespace)
	require.NoError(t, pods.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	eventuallyIn(t, manyPatience, func() error {
		list, err := pods.List(t.Context(), metav1.ListOptions{})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d pods are left", len(list.Items))
		}
		return err
	})
}

func (s *suite) awaitGone(t *testing.T, namespace, name string) {
	t.Helper()
	eventually(t, func() error {
		_, err := s.Client.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return err
		}
		return fmt.Errorf("pod %s is still there", name)
	})
}

func toJSON(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	return text
}
