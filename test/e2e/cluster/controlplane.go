// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const etcdURL = "http://127.0.0.1:2379"

// makePKI makes the cluster's authority, and the certificates and kubeconfigs that
// belong to no node.
func (c *Cluster) makePKI() error {
	dir := c.path("pki")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	ca, err := newAuthority(dir, "ca")
	if err != nil {
		return err
	}
	c.authority = ca
	front, err := newAuthority(dir, "front-proxy-ca")
	if err != nil {
		return err
	}
	if err := front.issue("front-proxy-client", identity{user: "front-proxy-client"}); err != nil {
		return err
	}
	if err := writeKeyPair(dir, "sa"); err != nil {
		return err
	}
	if err := ca.issue("apiserver", identity{user: "kube-apiserver", hosts: []string{
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		"localhost", "127.0.0.1", ControlAddress, apiService,
	}}); err != nil {
		return err
	}
	masters := []string{"system:masters"}
	if err := ca.issue("apiserver-kubelet-client", identity{user: "kube-apiserver-kubelet-client", groups: masters}); err != nil {
		return err
	}
	for file, id := range map[string]identity{
		"admin":              {user: "admin", groups: masters},
		"controller-manager": {user: "system:kube-controller-manager"},
		"scheduler":          {user: "system:kube-scheduler"},
		"kube-proxy":         {user: "system:kube-proxy"},
		"coredns":            {user: "coredns", groups: masters},
	} {
		if _, err := ca.kubeconfig(file, apiServer, id); err != nil {
			return err
		}
	}
	return nil
}

// issueNode makes what a node's kubelet proves itself with, as a client and as a server.
func (c *Cluster) issueNode(name, address string) error {
	id := identity{user: "system:node:" + name, groups: []string{"system:nodes"}}
	if _, err := c.authority.kubeconfig(name, apiServer, id); err != nil {
		return err
	}
	id.hosts = []string{name, address}
	return c.authority.issue(name+"-serving", id)
}

// startControlPlane returns when the API server serves. The rest of it may still be
// starting then.
func (c *Cluster) startControlPlane(ctx context.Context) error {
	place, err := c.place("control-plane", nil)
	if err != nil {
		return err
	}
	etcd, err := place.daemon("etcd", c.programs.etcd, "--name=e2e", "--data-dir="+c.path("etcd"),
		"--listen-client-urls="+etcdURL, "--advertise-client-urls="+etcdURL,
		"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=e2e=http://127.0.0.1:2380",
		// Nobody reads it after a crash.
		"--unsafe-no-fsync")
	if err != nil {
		return err
	}
	if c.APIServer, err = place.daemon("kube-apiserver", c.apiServerArgs()...); err != nil {
		return err
	}
	if err := c.AwaitAPIServer(ctx, etcd); err != nil {
		return err
	}
	return c.startControllers(place)
}

func (c *Cluster) apiServerArgs() []string {
	pki := c.path("pki")
	return []string{
		c.Options.Hyperkube, "kube-apiserver", "--etcd-servers=" + etcdURL,
		"--bind-address=0.0.0.0", "--advertise-address=" + ControlAddress, "--secure-port=6443",
		"--service-cluster-ip-range=" + serviceRange,
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true", "--profiling=false",
		"--client-ca-file=" + pki + "/ca.crt",
		"--tls-cert-file=" + pki + "/apiserver.crt", "--tls-private-key-file=" + pki + "/apiserver.key",
		"--kubelet-certificate-authority=" + pki + "/ca.crt",
		"--kubelet-client-certificate=" + pki + "/apiserver-kubelet-client.crt",
		"--kubelet-client-key=" + pki + "/apiserver-kubelet-client.key",
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + pki + "/sa.pub", "--service-account-signing-key-file=" + pki + "/sa.key",
		"--requestheader-client-ca-file=" + pki + "/front-proxy-ca.crt",
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + pki + "/front-proxy-client.crt",
		"--proxy-client-key-file=" + pki + "/front-proxy-client.key",
	}
}

// AwaitAPIServer returns when it is ready, or an error when it or another process
// that it needs has ended.
func (c *Cluster) AwaitAPIServer(ctx context.Context, needed ...*Process) error {
	for {
		if _, err := c.Client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err == nil {
			return nil
		}
		for _, p := range append(needed, c.APIServer) {
			if err := p.running(); err != nil {
				return err
			}
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("waiting for the API server: %w\n%s", err, c.APIServer.tail())
		}
	}
}

func (c *Cluster) startControllers(place place) error {
	pki := c.path("pki")
	config := pki + "/controller-manager.kubeconfig"
	manager, err := place.daemon("kube-controller-manager", c.Options.Hyperkube, "kube-controller-manager",
		"--kubeconfig="+config, "--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config,
		"--bind-address=127.0.0.1", "--leader-elect=false", "--use-service-account-credentials=true",
		"--service-account-private-key-file="+pki+"/sa.key", "--root-ca-file="+pki+"/ca.crt",
		"--cluster-signing-cert-file="+pki+"/ca.crt", "--cluster-signing-key-file="+pki+"/ca.key",
		"--cluster-cidr="+allPods, "--allocate-node-cidrs=false", "--node-monitor-grace-period=20s",
		// By default it takes five seconds to start all of its controllers.
		"--kube-api-qps=500", "--kube-api-burst=1000")
	if err != nil {
		return err
	}
	config = pki + "/scheduler.kubeconfig"
	scheduler, err := place.daemon("kube-scheduler", c.Options.Hyperkube, "kube-scheduler",
		"--kubeconfig="+config, "--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config,
		"--bind-address=127.0.0.1", "--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=1000")
	if err != nil {
		return err
	}
	corefile := c.path("Corefile")
	if err := writeConfig(corefile, "Corefile", struct{ Kubeconfig string }{pki + "/coredns.kubeconfig"}); err != nil {
		return err
	}
	dns, err := place.daemon("coredns", c.Options.Hyperkube, "coredns", "-conf", corefile)
	c.controllers = []*Process{manager, scheduler, dns}
	return err
}

// RestartWatchers starts again what watches the API server. After that was away for long,
// they try once a minute whether it is back.
func (c *Cluster) RestartWatchers() error {
	watchers := slices.Clone(c.controllers)
	for _, n := range c.Nodes {
		watchers = append(watchers, n.Kubelet, n.Proxy)
	}
	for _, p := range watchers {
		if err := errors.Join(p.Stop(), p.Start()); err != nil {
			return err
		}
	}
	return nil
}

// path is that of a file of the cluster.
func (c *Cluster) path(name string) string { return filepath.Join(c.Options.Dir, name) }
