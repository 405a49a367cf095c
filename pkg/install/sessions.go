// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"

	"nodegadget.dev/pkg/api/v1alpha1"
)

// sessionGrace is how long the controller has to let go of a session that is being
// deleted. It takes a second if it is well.
const sessionGrace = 10 * time.Second

// Annotations by which Helm knows whose an object is.
const (
	releaseNameAnnotation      = "meta.helm.sh/release-name"
	releaseNamespaceAnnotation = "meta.helm.sh/release-namespace"
)

// sessionResources are the resources of both kinds of sessions.
var sessionResources = []string{"tracesessions", "clustertracesessions"}

func (i *Installer) definitions() dynamic.ResourceInterface {
	return i.dynamic.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
}

// removeDefinitions deletes the definitions of sessions, with which the API server
// deletes all sessions, and waits until they are gone. The controller lets go of each;
// where it doesn't, because it isn't well or not there, this does.
func (i *Installer) removeDefinitions(ctx context.Context) error {
	for _, resource := range sessionResources {
		err := i.definitions().Delete(ctx, v1alpha1.Resource(resource).String(), metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("removing the definition of %s: %w", resource, err)
		}
	}
	err := wait.PollUntilContextTimeout(ctx, 500*time.Millisecond, max(i.opts.Wait, defaultWait), true, func(ctx context.Context) (bool, error) {
		there, err := i.hasDefinitions(ctx)
		if err != nil || !there {
			return !there, err
		}
		return false, i.letGo(ctx, sessionGrace)
	})
	if err != nil {
		return fmt.Errorf("waiting for the end of all sessions: %w", err)
	}
	return nil
}

// hasDefinitions says whether the cluster knows of sessions.
func (i *Installer) hasDefinitions(ctx context.Context) (bool, error) {
	for _, resource := range sessionResources {
		_, err := i.definitions().Get(ctx, v1alpha1.Resource(resource).String(), metav1.GetOptions{})
		if err == nil {
			return true, nil
		}
		if !apierrors.IsNotFound(err) {
			return false, fmt.Errorf("looking for the definition of %s: %w", resource, err)
		}
	}
	return false, nil
}

// letGo takes the controller's finalizer from sessions that have been waiting for it for
// longer than grace; from all, if grace is negative. Without a controller they could
// never be deleted, nor could their namespaces.
func (i *Installer) letGo(ctx context.Context, grace time.Duration) error {
	for _, resource := range sessionResources {
		client := i.dynamic.Resource(v1alpha1.GroupVersion.WithResource(resource))
		list, err := client.List(ctx, metav1.ListOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("listing %s: %w", resource, err)
		}
		for _, session := range list.Items {
			deleted := session.GetDeletionTimestamp()
			if grace >= 0 && (deleted == nil || time.Since(deleted.Time) < grace) {
				continue
			}
			if err := dropFinalizer(ctx, client, &session); err != nil {
				return fmt.Errorf("letting go of %s %s: %w", resource, session.GetName(), err)
			}
		}
	}
	return nil
}

// dropFinalizer leaves a session alone that has changed meanwhile, or is gone.
func dropFinalizer(ctx context.Context, client dynamic.NamespaceableResourceInterface, session *unstructured.Unstructured) error {
	finalizers := session.GetFinalizers()
	if !slices.Contains(finalizers, v1alpha1.Finalizer) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"resourceVersion": session.GetResourceVersion(),
		"finalizers":      slices.DeleteFunc(finalizers, func(f string) bool { return f == v1alpha1.Finalizer }),
	}})
	if err != nil {
		return err
	}
	_, err = client.Namespace(session.GetNamespace()).Patch(ctx, session.GetName(), types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// adopt makes definitions the installation's that an earlier one has left, which was in
// another namespace: Helm would refuse them. Those of one that is there still stay its.
func (i *Installer) adopt(ctx context.Context) error {
	for _, resource := range sessionResources {
		name := v1alpha1.Resource(resource).String()
		crd, err := i.definitions().Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("looking for what an earlier installation left: %w", err)
		}
		owner := crd.GetAnnotations()[releaseNamespaceAnnotation]
		if crd.GetAnnotations()[releaseNameAnnotation] != releaseName || owner == i.opts.Namespace {
			continue
		}
		releases, err := i.client.CoreV1().Secrets(owner).List(ctx, metav1.ListOptions{LabelSelector: "owner=helm,name=" + releaseName})
		if err != nil {
			return fmt.Errorf("looking for another installation: %w", err)
		}
		if len(releases.Items) > 0 {
			continue
		}
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, releaseNamespaceAnnotation, i.opts.Namespace)
		if _, err := i.definitions().Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("taking over the definition of %s: %w", resource, err)
		}
	}
	return nil
}
