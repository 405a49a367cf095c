// SPDX-License-Identifier: Apache-2.0

package container

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	id1 = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9"
	id2 = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"
	uid = "6e5d1cd8-3b04-4f7e-9a55-0c3c1f0a2b11"
	// under is uid as it stands in a slice's name.
	under = "6e5d1cd8_3b04_4f7e_9a55_0c3c1f0a2b11"
	// static is a static pod's UID, the hash of its manifest.
	static = "9f86d081884c7d659a2feaa0c55ad015"
)

func TestIdentify(t *testing.T) {
	containerd := identity{id1, uid, "containerd"}
	for _, test := range []struct {
		name, path string
		want       identity // zero for no container
	}{
		{"cgroupfs, burstable", "/kubepods/burstable/pod" + uid + "/" + id1, identity{id1, uid, ""}},
		{"cgroupfs, best effort", "/kubepods/besteffort/pod" + uid + "/" + id1, identity{id1, uid, ""}},
		{"cgroupfs, guaranteed", "/kubepods/pod" + uid + "/" + id1, identity{id1, uid, ""}},
		{"cgroupfs, static pod", "/kubepods/burstable/pod" + static + "/" + id1, identity{id1, static, ""}},
		{"cgroupfs, CRI-O", "/kubepods/burstable/pod" + uid + "/crio-" + id1, identity{id1, uid, "cri-o"}},
		{"cgroupfs, CRI-O's monitor", "/kubepods/burstable/pod" + uid + "/crio-conmon-" + id1, identity{}},
		{"cgroupfs, a cgroup root", "/k8slab/node1/kubepods/burstable/pod" + uid + "/" + id1, identity{id1, uid, ""}},
		{"cgroupfs, the pod itself", "/kubepods/burstable/pod" + uid, identity{}},
		{"cgroupfs, a class", "/kubepods/burstable", identity{}},
		{"cgroupfs, all pods", "/kubepods", identity{}},
		{"in a container", "/kubepods/burstable/pod" + uid + "/" + id1 + "/init.scope", identity{}},
		{"Docker in a pod", "/kubepods/burstable/pod" + uid + "/" + id1 + "/docker/" + id2, identity{}},
		{"not a pod's UID", "/kubepods/burstable/podinfo/" + id1, identity{}},
		{"not a container's id", "/kubepods/burstable/pod" + uid + "/volumes", identity{}},

		{
			"systemd, containerd",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice/cri-containerd-" + id1 + ".scope", containerd,
		},
		{"systemd, guaranteed", "/kubepods.slice/kubepods-pod" + under + ".slice/cri-containerd-" + id1 + ".scope", containerd},
		{"systemd, static pod", "/kubepods.slice/kubepods-pod" + static + ".slice/cri-containerd-" + id1 + ".scope", identity{id1, static, "containerd"}},
		{
			"systemd, CRI-O",
			"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + under + ".slice/crio-" + id1 + ".scope",
			identity{id1, uid, "cri-o"},
		},
		{
			"systemd, CRI-O with crun", // crun puts the processes one further down
			"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + under + ".slice/crio-" + id1 + ".scope/container", identity{},
		},
		{"systemd, CRI-O's monitor", "/kubepods.slice/kubepods-pod" + under + ".slice/crio-conmon-" + id1 + ".scope", identity{}},
		{"systemd, Docker", "/kubepods.slice/kubepods-pod" + under + ".slice/docker-" + id1 + ".scope", identity{id1, uid, "docker"}},
		{"systemd, the pod itself", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice", identity{}},
		{"systemd, a class", "/kubepods.slice/kubepods-burstable.slice", identity{}},
		{
			"systemd, a cgroup root",
			"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + under + ".slice/cri-containerd-" + id1 + ".scope", containerd,
		},
		{"slice for a runtime without systemd", "/system.slice/containerd.service/kubepods-burstable-pod" + under + ".slice:cri-containerd:" + id1, containerd},
		{"the same without a service", "/kubepods-pod" + under + ".slice:cri-containerd:" + id1, containerd},
		{"the same, and in the container", "/kubepods-pod" + under + ".slice:cri-containerd:" + id1 + "/sub", identity{}},
		{"the same, not an id", "/kubepods-pod" + under + ".slice:cri-containerd:x", identity{}},

		{"kind, cgroupfs", "/docker/" + id2 + "/kubelet/kubepods/burstable/pod" + uid + "/" + id1, identity{id1, uid, ""}},
		{
			"kind, systemd",
			"/system.slice/docker-" + id2 + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + under + ".slice/cri-containerd-" + id1 + ".scope", containerd,
		},
		{"kind, the node", "/docker/" + id2, identity{id2, "", ""}},
		{"k3s", "/k3s/kubepods/besteffort/pod" + uid + "/" + id1, identity{id1, uid, ""}},

		{"Docker, cgroupfs", "/docker/" + id1, identity{id1, "", ""}},
		{"Docker, systemd", "/system.slice/docker-" + id1 + ".scope", identity{id1, "", "docker"}},
		{"Docker, slice without systemd", "/system.slice:docker:" + id1, identity{id1, "", "docker"}},
		{"Podman", "/machine.slice/libpod-" + id1 + ".scope", identity{id1, "", "podman"}},
		{"Podman, rootless", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id1 + ".scope", identity{id1, "", "podman"}},
		{"Podman's monitor", "/machine.slice/libpod-conmon-" + id1 + ".scope", identity{}},
		{"nerdctl", "/default/" + id1, identity{id1, "", ""}},
		{"nerdctl, systemd", "/system.slice/nerdctl-" + id1 + ".scope", identity{id1, "", "containerd"}},
		{"ctr", "/default/redis-1", identity{"redis-1", "", "containerd"}},
		{"containerd without pods' cgroups", "/k8s.io/" + id1, identity{id1, "", ""}},
		{"BuildKit", "/buildkit/r0ufjyxoq4cgxa0dkimvtfezl", identity{"r0ufjyxoq4cgxa0dkimvtfezl", "", "containerd"}},
		{"in ctr's container", "/default/redis-1/sub", identity{}},
		{"a namespace", "/default", identity{}},

		{"the root", "/", identity{}},
		{"nothing", "", identity{}},
		{"a service", "/system.slice/containerd.service", identity{}},
		{"a session", "/user.slice/user-0.slice/session-4.scope", identity{}},
		{"a short id", "/docker/" + id1[1:], identity{}},
		{"a long id", "/docker/" + id1 + "0", identity{}},
		{"not hexadecimal", "/docker/" + strings.ToUpper(id1), identity{}},
		{"only a prefix", "/docker-.scope", identity{}},
		{"colons only", "/::", identity{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := identify(test.path)
			require.Equal(t, test.want, got.orNone(ok))
			require.Equal(t, test.want != identity{}, ok)
		})
	}
}

// orNone forgets what was found on the way to no container.
func (i identity) orNone(ok bool) identity {
	if !ok {
		return identity{}
	}
	return i
}

func TestNodeRoot(t *testing.T) {
	for _, test := range []struct{ own, want string }{
		{"/", "/"},
		{"/system.slice/gadget-agent.service", "/"},
		{"/kubepods/burstable/pod" + uid + "/" + id1, "/"},
		{"/kubepods.slice/kubepods-pod" + under + ".slice/cri-containerd-" + id1 + ".scope", "/"},
		{"/k8slab/node1/kubepods/besteffort/pod" + uid + "/" + id1, "/k8slab/node1"},
		{"/docker/" + id2 + "/kubelet/kubepods/burstable/pod" + uid + "/" + id1, "/docker/" + id2},
		{
			"/docker/" + id2 + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + under + ".slice/cri-containerd-" + id1 + ".scope",
			"/docker/" + id2,
		},
		{"/system.slice/containerd.service/kubepods-pod" + under + ".slice:cri-containerd:" + id1, "/"},
		{"/docker/" + id2 + "/system.slice/containerd.service/kubepods-pod" + under + ".slice:cri-containerd:" + id1, "/docker/" + id2},
	} {
		require.Equal(t, test.want, nodeRoot(test.own), test.own)
	}
}

func TestIsBelow(t *testing.T) {
	for _, test := range []struct {
		cgroup, root string
		want         bool
	}{
		{"/a", "/", true},
		{"/", "/", true},
		{"/a", "/a", true},
		{"/a/b", "/a", true},
		{"/ab", "/a", false},
		{"/", "/a", false},
		{"/b/a", "/a", false},
	} {
		require.Equal(t, test.want, isBelow(test.cgroup, test.root), "%s in %s", test.cgroup, test.root)
	}
}

// FuzzIdentify: whatever a path is, what is found is of the form that others rely
// on, and stands in the path.
func FuzzIdentify(f *testing.F) {
	f.Add("/kubepods/burstable/pod" + uid + "/" + id1)
	f.Add("/kubepods.slice/kubepods-pod" + under + ".slice/cri-containerd-" + id1 + ".scope")
	f.Add("/system.slice/containerd.service/kubepods-pod" + under + ".slice:cri-containerd:" + id1)
	f.Add("/docker/" + id2 + "/kubelet/kubepods/pod" + uid + "/crio-" + id1)
	f.Add("/default/redis-1")
	f.Add("/../kubepods/./:-pod/.slice")
	f.Fuzz(func(t *testing.T, cgroup string) {
		root := nodeRoot(cgroup)
		require.True(t, strings.HasPrefix(root, "/"), root)
		found, ok := identify(cgroup)
		if !ok {
			return
		}
		require.Contains(t, cgroup, found.id)
		require.Regexp(t, plainID, found.id)
		if found.podUID == "" {
			return
		}
		require.Regexp(t, podUID, found.podUID)
		require.Regexp(t, hexID, found.id)
		require.True(t, strings.Contains(cgroup, found.podUID) || strings.Contains(cgroup, strings.ReplaceAll(found.podUID, "-", "_")))
		// Nothing in a container is another one.
		_, ok = identify(cgroup + "/" + id2)
		require.False(t, ok)
	})
}
