// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/release"
	"helm.sh/helm/v4/pkg/release/common"
	"helm.sh/helm/v4/pkg/storage/driver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

// releaseName is Helm's name for the installation. The chart's objects have fixed
// names, so there can be only one.
const releaseName = "nodegadget"

// Options say where to install.
type Options struct {
	// Flags say which cluster, and as whom. Their namespace must be Namespace. Required.
	Flags genericclioptions.RESTClientGetter
	// Namespace is nodegadget's. Required.
	Namespace string
	// Wait is how long to wait until all is ready, or gone; 0 doesn't wait.
	Wait time.Duration
	// Log gets what Helm does; nil discards it.
	Log *slog.Logger
}

// Installer installs and removes nodegadget.
type Installer struct {
	opts    Options
	helm    *action.Configuration
	client  kubernetes.Interface
	dynamic dynamic.Interface
}

// New prepares an installer. It asks nobody.
func New(opts Options) (*Installer, error) {
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	i := &Installer{opts: opts, helm: action.NewConfiguration(action.ConfigurationSetLogger(log.Handler()))}
	if err := i.helm.Init(opts.Flags, opts.Namespace, "secret"); err != nil {
		return nil, fmt.Errorf("preparing Helm: %w", err)
	}
	config, err := opts.Flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	if i.client, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	if i.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	return i, nil
}

// Deploy installs nodegadget, or upgrades it. It returns Helm's notes on what to do next.
func (i *Installer) Deploy(ctx context.Context, v Values) (notes string, err error) {
	own, err := v.merge()
	if err != nil {
		return "", err
	}
	if err := i.makeNamespace(ctx, own); err != nil {
		return "", err
	}
	installed, err := i.installed(ctx)
	if err != nil {
		return "", err
	}
	deploy := i.install
	if installed {
		deploy = i.upgrade
	}
	rel, err := deploy(ctx, own)
	if err != nil {
		return "", err
	}
	accessor, err := release.NewAccessor(rel)
	if err != nil {
		return "", fmt.Errorf("reading Helm's release: %w", err)
	}
	return accessor.Notes(), nil
}

func (i *Installer) install(ctx context.Context, own map[string]any) (release.Releaser, error) {
	c, err := load()
	if err != nil {
		return nil, err
	}
	if err := i.adopt(ctx); err != nil {
		return nil, err
	}
	install := action.NewInstall(i.helm)
	install.ReleaseName, install.Namespace = releaseName, i.opts.Namespace
	install.WaitStrategy, install.Timeout = i.waiting()
	rel, err := install.RunWithContext(ctx, c, own)
	if err != nil {
		return nil, fmt.Errorf("installing: %w", err)
	}
	return rel, nil
}

func (i *Installer) upgrade(ctx context.Context, own map[string]any) (release.Releaser, error) {
	c, err := load()
	if err != nil {
		return nil, err
	}
	upgrade := action.NewUpgrade(i.helm)
	upgrade.Namespace = i.opts.Namespace
	upgrade.WaitStrategy, upgrade.Timeout = i.waiting()
	rel, err := upgrade.RunWithContext(ctx, releaseName, c, own)
	if err != nil {
		return nil, fmt.Errorf("upgrading: %w", err)
	}
	return rel, nil
}

// waiting is Helm's way to wait, and how long. Without waiting the time bounds only
// hooks.
func (i *Installer) waiting() (kube.WaitStrategy, time.Duration) {
	if i.opts.Wait == 0 {
		return kube.HookOnlyStrategy, time.Minute
	}
	return kube.StatusWatcherStrategy, i.opts.Wait
}

// makeNamespace makes the namespace as the chart has it, if there is none. One that is
// there stays as it is; whether it lets the agents in, the chart checks.
func (i *Installer) makeNamespace(ctx context.Context, own map[string]any) error {
	namespace, err := renderNamespace(ctx, i.opts.Namespace, own)
	if err != nil {
		return err
	}
	_, err = i.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making namespace %s: %w", i.opts.Namespace, err)
	}
	return nil
}

// installed says whether there is a release to upgrade. What is left of one that was
// never deployed, because somebody interrupted it, is removed.
func (i *Installer) installed(ctx context.Context) (bool, error) {
	history, err := action.NewHistory(i.helm).Run(releaseName)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("asking the cluster for Helm's releases: %w", err)
	}
	for _, revision := range history {
		accessor, err := release.NewAccessor(revision)
		if err != nil {
			return false, fmt.Errorf("reading Helm's releases: %w", err)
		}
		if status := common.Status(accessor.Status()); status == common.StatusDeployed || status == common.StatusSuperseded {
			return true, nil
		}
	}
	return false, i.uninstall(ctx)
}
