// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"golang.org/x/sync/errgroup"
)

// upTimeout bounds the time until all nodes are ready. Twelve seconds are usual.
const upTimeout = 4 * time.Minute

// Options say what cluster to make.
type Options struct {
	// Dir holds all files of the cluster, and is removed with it; the default is
	// nodegadget-e2e in the directory for temporary files. It must not be on an overlay
	// file system, nor below /etc, /opt, /run or /var, of which nodes have their own.
	Dir string
	// Hyperkube is the program that [Hyperkube] builds.
	Hyperkube string
	// Nodes is the number of nodes.
	Nodes int
	// PauseImage is the name of the image of pods' sandboxes, one of Images.
	PauseImage string
	// Images are archives that every node imports.
	Images []string
	// Log is told of each step, if it is set.
	Log func(text string)
}

func (o Options) withDefaults() Options {
	if o.Dir == "" {
		o.Dir = filepath.Join(os.TempDir(), "nodegadget-e2e")
	}
	return o
}

// name is that of the cgroups: clusters of two directories never share one.
func (o Options) name() string {
	hash := fnv.New32a()
	hash.Write([]byte(o.Dir))
	return fmt.Sprintf("%s-%08x", filepath.Base(o.Dir), hash.Sum32())
}

func (o Options) logf(format string, args ...any) {
	if o.Log != nil {
		o.Log(fmt.Sprintf(format, args...))
	}
}

// Cluster is a cluster that is up.
type Cluster struct {
	Options Options
	// Kubeconfig is the path of the administrator's.
	Kubeconfig string
	// Config and Client are the administrator's, too.
	Config *rest.Config
	Client kubernetes.Interface
	// Nodes are in the order of their names, node1 being the first.
	Nodes []*Node
	// APIServer may be stopped and started; see AwaitAPIServer.
	APIServer *Process

	programs    programs
	authority   *authority
	controllers []*Process
	machines    []*Machine
	begin       time.Time
}

// up brings the cluster up in the namespaces of this process.
func up(ctx context.Context, opts Options) (*Cluster, error) {
	c := &Cluster{Options: opts, begin: time.Now()}
	if opts.Nodes > maxNodes {
		return nil, fmt.Errorf("%d nodes: at most %d have addresses", opts.Nodes, maxNodes)
	}
	var err error
	if c.programs, err = findPrograms(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.path("log"), 0o755); err != nil {
		return nil, err
	}
	if err := c.makePKI(); err != nil {
		return nil, fmt.Errorf("making certificates: %w", err)
	}
	if err := c.makeClient(); err != nil {
		return nil, err
	}
	if err := c.makeNetwork(ctx); err != nil {
		return nil, fmt.Errorf("making the network: %w", err)
	}
	if err := c.startAll(ctx); err != nil {
		return nil, err
	}
	return c, c.awaitReady(ctx)
}

// step tells what is done, and how long it took since the beginning.
func (c *Cluster) step(format string, args ...any) {
	c.Options.logf("%5.1f s  %s", time.Since(c.begin).Seconds(), fmt.Sprintf(format, args...))
}

func (c *Cluster) makeClient() error {
	c.Kubeconfig = c.authority.path("admin.kubeconfig")
	var err error
	if c.Config, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig); err != nil {
		return err
	}
	// Tests ask often and at once.
	c.Config.QPS, c.Config.Burst = 200, 400
	c.Config.WarningHandler = rest.NoWarnings{}
	c.Client, err = kubernetes.NewForConfig(c.Config)
	return err
}

// startAll starts the control plane, and the nodes beside it.
func (c *Cluster) startAll(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	serving := make(chan struct{})
	all.Go(func() error {
		if err := c.startControlPlane(ctx); err != nil {
			return fmt.Errorf("starting the control plane: %w", err)
		}
		c.step("API server is ready")
		close(serving)
		return nil
	})
	for i := range c.Options.Nodes {
		n := &Node{Name: fmt.Sprintf("node%d", i+1), Address: nodeAddress(i + 1), cluster: c, index: i + 1}
		c.Nodes = append(c.Nodes, n)
		all.Go(func() error {
			if err := n.prepare(ctx); err != nil {
				return fmt.Errorf("preparing %s: %w", n.Name, err)
			}
			// A kubelet that finds no API server waits for seconds until it tries again.
			select {
			case <-serving:
				return n.join(ctx)
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}
	return all.Wait()
}

// awaitReady waits until pods can be made.
func (c *Cluster) awaitReady(ctx context.Context) error {
	for _, n := range c.Nodes {
		if err := n.awaitReady(ctx); err != nil {
			return err
		}
		c.step("%s is ready", n.Name)
	}
	for {
		_, err := c.Client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		if err == nil {
			c.step("pods can be made")
			return nil
		}
		if sleep(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("waiting for the default service account: %w", err)
		}
	}
}

// AddUser issues a client certificate and returns the path of a kubeconfig with it.
func (c *Cluster) AddUser(name string, groups ...string) (string, error) {
	return c.authority.kubeconfig("user-"+name, apiServer, identity{user: name, groups: groups})
}

// place makes the cgroup of that name, below the cluster's.
func (c *Cluster) place(name string, spaces *namespaces) (place, error) {
	g, err := makeGroup(c.Options.name() + "/" + name)
	if err != nil {
		return place{}, err
	}
	return place{group: g, spaces: spaces, logs: c.path("log")}, nil
}

// errNotReady is what a node says before it is.
var errNotReady = errors.New("not ready")

func ready(node *corev1.Node) error {
	for _, condition := range node.Status.Conditions {
		if condition.Type != corev1.NodeReady {
			continue
		}
		if condition.Status == corev1.ConditionTrue {
			return nil
		}
		return fmt.Errorf("%w: %s", errNotReady, condition.Message)
	}
	return errNotReady
}
