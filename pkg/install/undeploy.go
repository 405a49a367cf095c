// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
)

// authorityName is the ConfigMap and the Secret that the controller makes by itself.
const authorityName = "nodegadget-authority"

// defaultWait bounds what has to be waited for even if nobody asks for it.
const defaultWait = 2 * time.Minute

// Undeploy removes nodegadget, however it was installed by Helm's means, and its
// namespace if nothing else is in it and keepNamespace isn't set. It returns what is
// in a namespace that it kept for that reason.
func (i *Installer) Undeploy(ctx context.Context, keepNamespace bool) (kept []string, err error) {
	if err := i.uninstall(ctx); err != nil {
		return nil, err
	}
	core := i.client.CoreV1()
	for _, remove := range []func(context.Context, string, metav1.DeleteOptions) error{
		core.ConfigMaps(i.opts.Namespace).Delete, core.Secrets(i.opts.Namespace).Delete,
	} {
		if err := remove(ctx, authorityName, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("removing the authority: %w", err)
		}
	}
	if keepNamespace {
		return nil, nil
	}
	if kept, err = i.others(ctx); err != nil || len(kept) > 0 {
		return kept, err
	}
	return nil, i.removeNamespace(ctx)
}

// uninstall removes what Helm knows of, if it knows of anything.
func (i *Installer) uninstall(ctx context.Context) error {
	uninstall := action.NewUninstall(i.helm)
	uninstall.IgnoreNotFound = true
	uninstall.DeletionPropagation = "foreground"
	// The namespace can be looked at only when the pods have ended.
	uninstall.WaitStrategy, uninstall.Timeout = kube.StatusWatcherStrategy, max(i.opts.Wait, defaultWait)
	done := make(chan error, 1)
	go func() {
		_, err := uninstall.Run(releaseName)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("uninstalling: %w", err)
		}
		return nil
	case <-ctx.Done():
		// Helm knows no contexts here. What it has begun it can begin again.
		return context.Cause(ctx)
	}
}

// own says whether an object is there in every namespace, or only because of
// nodegadget's pods.
func own(name string) bool {
	return name == "kube-root-ca.crt" || name == "default" || strings.HasPrefix(name, "nodegadget-") ||
		strings.HasPrefix(name, "sh.helm.release.v1."+releaseName+".")
}

// others lists what is in the namespace beside nodegadget: a namespace that somebody
// uses isn't nodegadget's to delete.
func (i *Installer) others(ctx context.Context) ([]string, error) {
	if slices.Contains([]string{"default", "kube-system", "kube-public", "kube-node-lease"}, i.opts.Namespace) {
		return []string{"the cluster's own objects"}, nil
	}
	core, apps := i.client.CoreV1(), i.client.AppsV1()
	namespace, all := i.opts.Namespace, metav1.ListOptions{}
	var found []string
	for kind, list := range map[string]func() (runtime.Object, error){
		"pod":         func() (runtime.Object, error) { return core.Pods(namespace).List(ctx, all) },
		"service":     func() (runtime.Object, error) { return core.Services(namespace).List(ctx, all) },
		"configmap":   func() (runtime.Object, error) { return core.ConfigMaps(namespace).List(ctx, all) },
		"secret":      func() (runtime.Object, error) { return core.Secrets(namespace).List(ctx, all) },
		"claim":       func() (runtime.Object, error) { return core.PersistentVolumeClaims(namespace).List(ctx, all) },
		"account":     func() (runtime.Object, error) { return core.ServiceAccounts(namespace).List(ctx, all) },
		"deployment":  func() (runtime.Object, error) { return apps.Deployments(namespace).List(ctx, all) },
		"daemonset":   func() (runtime.Object, error) { return apps.DaemonSets(namespace).List(ctx, all) },
		"statefulset": func() (runtime.Object, error) { return apps.StatefulSets(namespace).List(ctx, all) },
	} {
		objects, err := list()
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("looking what else is in namespace %s: %w", namespace, err)
		}
		err = meta.EachListItem(objects, func(object runtime.Object) error {
			accessor, err := meta.Accessor(object)
			if err == nil && !own(accessor.GetName()) {
				found = append(found, kind+" "+accessor.GetName())
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("looking what else is in namespace %s: %w", namespace, err)
		}
	}
	slices.Sort(found)
	return found, nil
}

// removeNamespace deletes the namespace, and waits until it is gone.
func (i *Installer) removeNamespace(ctx context.Context) error {
	namespaces := i.client.CoreV1().Namespaces()
	err := namespaces.Delete(ctx, i.opts.Namespace, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing namespace %s: %w", i.opts.Namespace, err)
	}
	err = wait.PollUntilContextTimeout(ctx, 500*time.Millisecond, max(i.opts.Wait, defaultWait), true, func(ctx context.Context) (bool, error) {
		_, err := namespaces.Get(ctx, i.opts.Namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
	if err != nil {
		return fmt.Errorf("waiting for the end of namespace %s: %w", i.opts.Namespace, err)
	}
	return nil
}
