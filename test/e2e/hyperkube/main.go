// SPDX-License-Identifier: Apache-2.0

// Command hyperkube is Kubernetes in one static program: the control plane,
// kubelet, kube-proxy, kubectl and the cluster's DNS, for the clusters of the e2e
// tests. The program is chosen by the name that it is called by, or by the first
// argument.
//
// It is a module of its own, because Kubernetes pins its parts in ways that this
// project's module should not have to follow.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

const usage = "usage: hyperkube coredns|kube-apiserver|kube-controller-manager|kube-proxy|kube-scheduler|kubectl|kubelet [FLAGS]"

func main() {
	if run(filepath.Base(os.Args[0])) {
		return
	}
	if len(os.Args) > 1 {
		// Each program takes its arguments from there by itself.
		os.Args = os.Args[1:]
		if run(os.Args[0]) {
			return
		}
	}
	fmt.Fprintln(os.Stderr, usage)
	os.Exit(2)
}

// run runs the program of that name to its end, and tells whether there is one.
func run(name string) bool {
	switch name {
	case "kubectl":
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			kubectlutil.CheckErr(err)
		}
	case "coredns":
		// The plugins that it was built with, in the order in which they answer.
		dnsserver.Directives = []string{"errors", "kubernetes"}
		coremain.Run()
	default:
		command := component(name)
		if command == nil {
			return false
		}
		os.Exit(cli.Run(command))
	}
	return true
}

// component makes the command of a part of Kubernetes, nil if there is none.
func component(name string) *cobra.Command {
	switch name {
	case "kube-apiserver":
		return apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		return controllers.NewControllerManagerCommand()
	case "kube-proxy":
		return proxy.NewProxyCommand()
	case "kube-scheduler":
		return scheduler.NewSchedulerCommand()
	case "kubelet":
		return kubelet.NewKubeletCommand(context.Background())
	}
	return nil
}
