// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
)

// held is what a process has of the kernel's eBPF, by id.
type held struct {
	programs, maps []string
}

var ids = regexp.MustCompile(`(?m)^(prog_id|map_id):\s+(\d+)$`)

// holds looks through a process's open files.
func (h *held) holds(t *testing.T, pid int) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fdinfo", pid)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		for _, match := range ids.FindAllStringSubmatch(string(text), -1) {
			if match[1] == "map_id" {
				h.maps = append(h.maps, match[2])
				continue
			}
			h.programs = append(h.programs, match[2])
		}
	}
}

// requireGone wants none of it in the kernel any more.
func (h *held) requireGone(t *testing.T) {
	t.Helper()
	for _, id := range h.programs {
		_, err := ebpf.NewProgramFromID(ebpf.ProgramID(toInt(t, id)))
		require.ErrorIs(t, err, os.ErrNotExist, "program %s", id)
	}
	for _, id := range h.maps {
		_, err := ebpf.NewMapFromID(ebpf.MapID(toInt(t, id)))
		require.ErrorIs(t, err, os.ErrNotExist, "map %s", id)
	}
}

func toInt(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// testUndeploy takes the installation away, and looks for what is left of it.
func testUndeploy(t *testing.T, s *suite) {
	var h held
	for _, n := range s.Nodes {
		pids, err := n.Find("gadget-agent")
		require.NoError(t, err)
		require.Len(t, pids, 1)
		h.holds(t, pids[0])
	}
	require.NotEmpty(t, h.programs, "the agents have programs loaded")

	s.run(t, "undeploy", "--crds")
	eventually(t, func() error {
		_, err := s.Client.CoreV1().Namespaces().Get(t.Context(), installed, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("namespace %s is still there: %w", installed, err)
	})
	require.Empty(t, s.objects(t))
	for _, n := range s.Nodes {
		for _, program := range []string{"gadget-agent", "gadget-controller"} {
			pids, err := n.Find(program)
			require.NoError(t, err)
			require.Empty(t, pids, program)
		}
		pins, err := n.Exec(t.Context(), "/bin/ls", "-A", "/sys/fs/bpf")
		require.NoError(t, err)
		// These the kernel itself puts into every such file system.
		pins = strings.NewReplacer("maps.debug\n", "", "progs.debug\n", "").Replace(pins)
		require.Empty(t, pins)
	}
	h.requireGone(t)
}

// objects are what the cluster has by the chart's labels.
func (s *suite) objects(t *testing.T) []string {
	t.Helper()
	lists, err := s.Client.Discovery().ServerPreferredResources()
	require.NoError(t, err)
	kinds, err := discovery.GroupVersionResources(discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list"}}, lists))
	require.NoError(t, err)
	client, err := metadata.NewForConfig(s.Config)
	require.NoError(t, err)
	var found []string
	for kind := range kinds {
		list, err := client.Resource(kind).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=nodegadget"})
		if err != nil {
			continue // some kinds can be asked for only in a namespace
		}
		for _, o := range list.Items {
			found = append(found, strings.TrimSuffix(kind.Resource+" "+o.Namespace+"/"+o.Name, "/"))
		}
	}
	slices.Sort(found)
	return found
}
