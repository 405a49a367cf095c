// SPDX-License-Identifier: Apache-2.0

// Package cluster goes from a kubeconfig to nodegadget's relay in the cluster: it
// finds the relay's pod, reaches its port through the API server as `kubectl
// port-forward` does but without a local port, makes sure that it is the relay, and
// shows it who is calling, with what the kubeconfig would show to the API server.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"nodegadget.dev/pkg/client"
	"nodegadget.dev/pkg/pki"
)

const (
	// DefaultNamespace is where nodegadget is installed.
	DefaultNamespace = "nodegadget"
	// authorityName is the ConfigMap with the certificate by which the relay is known.
	authorityName = "nodegadget-authority"
	authorityKey  = "ca.crt"
	// controllerLabels select the relay's pods.
	controllerLabels = "app.kubernetes.io/name=nodegadget,app.kubernetes.io/component=controller"
	relayPort        = 8443
)

// Options say which cluster is meant.
type Options struct {
	// Flags are those of kubectl: which cluster, and as whom. Required.
	Flags genericclioptions.RESTClientGetter
	// Namespace is where nodegadget is installed; empty: DefaultNamespace.
	Namespace string
}

// Cluster is a cluster in which nodegadget is installed, or may be.
type Cluster struct {
	config    *rest.Config
	api       kubernetes.Interface
	loader    clientcmd.ClientConfig
	namespace string

	mu sync.Mutex
	// pod is the relay that was asked last: another one doesn't know the sessions. After
	// as many failures as it has patience for, another one is better than none.
	pod      string
	failures int
}

// Open reads the kubeconfig. It asks nobody.
func Open(opts Options) (*Cluster, error) {
	c := &Cluster{namespace: opts.Namespace, loader: opts.Flags.ToRawKubeConfigLoader()}
	if c.namespace == "" {
		c.namespace = DefaultNamespace
	}
	config, err := c.loader.ClientConfig()
	if err == nil {
		err = c.isConfigured(config)
	}
	if err != nil {
		return nil, &client.UsageError{Text: fmt.Sprintf("reading the kubeconfig: %v", err)}
	}
	c.config = rest.CopyConfig(config)
	// What the API server warns of goes to the terminal unescaped, by default.
	c.config.WarningHandler = rest.NoWarnings{}
	c.config.UserAgent = "kubectl-gadget"
	if c.api, err = kubernetes.NewForConfig(c.config); err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	return c, nil
}

// isConfigured says whether any cluster is named. Without one, kubectl's
// configuration is a port of this machine.
func (c *Cluster) isConfigured(config *rest.Config) error {
	raw, err := c.loader.RawConfig()
	if err != nil {
		return err
	}
	if _, err := rest.InClusterConfig(); len(raw.Clusters) > 0 || err == nil || config.Host != clientcmd.ClusterDefaults.Server && config.Host != "http://localhost:8080" {
		return nil
	}
	return errors.New("it names no cluster: give --kubeconfig or set KUBECONFIG, or trace this machine with --local")
}

// CurrentNamespace is the kubeconfig's.
func (c *Cluster) CurrentNamespace() (string, error) {
	namespace, _, err := c.loader.Namespace()
	if err != nil {
		return "", fmt.Errorf("reading the kubeconfig: %w", err)
	}
	return namespace, nil
}

// Connect prepares a connection to the relay. It asks the API server by what the
// relay is known; whether the relay can be reached shows at the first call.
func (c *Cluster) Connect(ctx context.Context) (*client.Conn, error) {
	roots, err := c.authority(ctx)
	if err != nil {
		return nil, err
	}
	// The caller's certificate; without one it says nothing here.
	caller, err := rest.TLSConfigFor(c.config)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config := pki.ClientConfig(nil, roots, pki.Controller)
	if caller != nil {
		config.GetClientCertificate = caller.GetClientCertificate
	}
	headers, err := identify(c.config)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	return client.DialRelay(client.RelayOptions{Dial: c.dial, TLS: config, Headers: headers})
}

// authority reads by which authority the relay's certificate is signed. The API
// server vouches for it: whoever runs a look-alike pod can't write it.
func (c *Cluster) authority(ctx context.Context) (*pki.Roots, error) {
	configMap, err := c.api.CoreV1().ConfigMaps(c.namespace).Get(ctx, authorityName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		return nil, c.notInstalled(err)
	case err != nil:
		return nil, fmt.Errorf("asking the API server: %w", err)
	}
	roots, err := pki.NewRoots([]byte(configMap.Data[authorityKey]))
	if err != nil {
		return nil, fmt.Errorf("ConfigMap %s/%s, key %s: %w", c.namespace, authorityName, authorityKey, err)
	}
	return roots, nil
}

// notInstalled says what to do where there is no nodegadget. Every user who is
// logged in may read the ConfigMap, where there is one; so who may not is told the same.
func (c *Cluster) notInstalled(err error) error {
	return fmt.Errorf("nodegadget isn't installed in namespace %s of this cluster: install it with `kubectl gadget deploy` "+
		"or `helm install nodegadget charts/nodegadget -n %s --create-namespace`, or say where it is with --gadget-namespace (%w)",
		c.namespace, c.namespace, err)
}

// patience is how often in a row a relay may not be reached before another is tried.
const patience = 5

// reached notes whether the relay could be reached.
func (c *Cluster) reached(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failures++; err == nil {
		c.failures = 0
	}
}

// controller finds a pod of the relay: the last one, if it is still ready. If none is
// ready, it returns one that runs all the same, and a doubt: after an outage of the API
// server it may take a minute until it knows how pods are.
func (c *Cluster) controller(ctx context.Context) (pod string, doubt, err error) {
	list, err := c.api.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{LabelSelector: controllerLabels})
	if apierrors.IsForbidden(err) {
		return "", nil, c.forbidden("list pods", err)
	}
	if err != nil {
		return "", nil, fmt.Errorf("looking for the controller: %w", err)
	}
	there := namesWhere(list.Items, ready)
	if len(there) == 0 {
		doubt = c.notReady(list.Items)
		there = namesWhere(list.Items, running)
	}
	if len(there) == 0 {
		return "", nil, doubt
	}
	return c.choose(there), doubt, nil
}

// choose stays with the last pod as long as there is patience for it.
func (c *Cluster) choose(there []string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(there, c.pod) && c.failures < patience {
		return c.pod
	}
	others := slices.DeleteFunc(slices.Clone(there), func(name string) bool { return name == c.pod })
	c.pod, c.failures = append(others, there...)[0], 0
	return c.pod
}

func namesWhere(pods []corev1.Pod, is func(*corev1.Pod) bool) []string {
	var names []string
	for i := range pods {
		if is(&pods[i]) {
			names = append(names, pods[i].Name)
		}
	}
	return names
}

func running(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning
}

func (c *Cluster) forbidden(what string, err error) error {
	return fmt.Errorf("you may not %s in namespace %s, which the way to nodegadget needs: "+
		"ask for a binding to its Role nodegadget-connect (%w)", what, c.namespace, err)
}

func ready(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// notReady says why there is no relay, as far as the pods tell.
func (c *Cluster) notReady(pods []corev1.Pod) error {
	if len(pods) == 0 {
		return fmt.Errorf("there is no controller in namespace %s: see kubectl -n %s get deployment nodegadget-controller", c.namespace, c.namespace)
	}
	pod := &pods[0]
	reason := string(pod.Status.Phase)
	for _, status := range pod.Status.ContainerStatuses {
		if waiting := status.State.Waiting; waiting != nil && waiting.Reason != "" {
			reason += ", " + waiting.Reason
		}
	}
	return fmt.Errorf("no controller is ready in namespace %s: pod %s is %s; see kubectl -n %s describe pod %s",
		c.namespace, pod.Name, reason, c.namespace, pod.Name)
}

// Version is that of Kubernetes: "v1.36.3".
func (c *Cluster) Version(ctx context.Context) (string, error) {
	data, err := c.api.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil {
		return "", fmt.Errorf("asking for the cluster's version: %w", err)
	}
	var info version.Info
	if err := json.Unmarshal(data, &info); err != nil {
		return "", fmt.Errorf("asking for the cluster's version: %w", err)
	}
	return info.GitVersion, nil
}
