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

// Removal says what Undeploy removes, besides what Helm does.
type Removal struct {
	// KeepNamespace leaves nodegadget's namespace, though nothing else is in it.
	KeepNamespace bool
	// Definitions are removed as well, and with them every session in the cluster.
	Definitions bool
}

// Kept is what Undeploy has left.
type Kept struct {
	// Others are things in nodegadget's namespace that aren't its own, for which the
	// namespace was kept.
	Others []string
	// Definitions says that sessions and their definitions are still there.
	Definitions bool
}

// Undeploy removes nodegadget, however it was installed by Helm's means, and its
// namespace if nothing else is in it.
func (i *Installer) Undeploy(ctx context.Context, what Removal) (kept Kept, err error) {
	if what.Definitions {
		// First, while the controller is there.
		if err := i.removeDefinitions(ctx); err != nil {
			return kept, err
		}
	}
	if err := i.uninstall(ctx); err != nil {
		return kept, err
	}
	if err := i.letGo(ctx, -1); err != nil {
		return kept, err
	}
	if kept.Definitions, err = i.hasDefinitions(ctx); err != nil {
		return kept, err
	}
	if err := i.removeAuthority(ctx); err != nil || what.KeepNamespace {
		return kept, err
	}
	if kept.Others, err = i.others(ctx); err != nil || len(kept.Others) > 0 {
		return kept, err
	}
	return kept, i.removeNamespace(ctx)
}

// removeAuthority removes what Helm doesn't know of.
func (i *Installer) removeAuthority(ctx context.Context) error {
	core := i.client.CoreV1()
	for _, remove := range []func(context.Context, string, metav1.DeleteOptions) error{
		core.ConfigMaps(i.opts.Namespace).Delete, core.Secrets(i.opts.Namespace).Delete,
	} {
		if err := remove(ctx, authorityName, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("removing the authority: %w", err)
		}
	}
	return nil
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
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("uninstalling: %w", err)
			}
			return nil
		case <-ticker.C:
			// Definitions that aren't to be kept wait for sessions, and those for a
			// controller that has been deleted before. If that can't be mended Helm says
			// what it waits for.
			_ = i.letGo(ctx, sessionGrace)
		case <-ctx.Done():
			// Helm knows no contexts here. What it has begun it can begin again.
			return context.Cause(ctx)
		}
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
