// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/container"
	"nodegadget.dev/pkg/wire"
)

func TestEveryExecOfShortLivedContainersIsAttributed(t *testing.T) {
	n := newTestNode(t, Options{})
	w := n.watch(&wire.Start{Gadget: "trace_exec", Params: map[string]string{"comm": "true"}, Selector: &wire.Selector{}})
	const total = 200
	var wait sync.WaitGroup
	for worker := range 4 {
		wait.Go(func() {
			for i := range total / 4 {
				pod := fmt.Sprintf("job-%d-%d", worker, i)
				p := n.container("batch", pod, "main", nil)
				p.run("/bin/true", pod)
				p.remove()
			}
		})
	}
	wait.Wait()
	all := w.stop()
	require.Len(t, all, total)
	for _, s := range all {
		require.Equal(t, "/bin/true "+s.by.GetPod(), w.value(s.record, "args"))
		require.Equal(t, "batch", s.by.GetNamespace())
		require.Equal(t, "main", s.by.GetName())
		require.Equal(t, wire.Container_CONTAINER, s.by.GetKind())
	}
	require.Zero(t, w.end.GetLoss().GetUnresolved()+w.end.GetLoss().GetWithheld())
}

// opens is a script that opens /dev/null n times.
func opens(n int) []string {
	return []string{"-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do : < /dev/null; i=$((i+1)); done", n)}
}

func startOpens(selector *wire.Selector) *wire.Start {
	return &wire.Start{Gadget: "trace_open", Params: map[string]string{"comm": "sh"}, Filter: `path == "/dev/null"`, Selector: selector}
}

// byPod counts records by who is said to have made them.
func byPod(all []seen) map[string]int {
	count := map[string]int{}
	for _, s := range all {
		switch s.by.GetKind() {
		case wire.Container_HOST:
			count["host"]++
		case wire.Container_UNRESOLVED:
			count["unresolved"]++
		default:
			count[s.by.GetNamespace()+"/"+s.by.GetPod()+"/"+s.by.GetName()]++
		}
	}
	return count
}

// TestSelectorsSeeTheirOwn runs all kinds of selectors at once over the same events.
func TestSelectorsSeeTheirOwn(t *testing.T) {
	n := newTestNode(t, Options{})
	cart := map[string]string{"app": "cart"}
	web, log := n.container("shop", "cart-1", "web", cart), n.container("shop", "cart-1", "log", cart)
	db, bank := n.container("shop", "db-1", "db", map[string]string{"app": "db"}), n.container("bank", "cart-1", "web", cart)
	host := n.mkdir("system.slice")
	const w, l, d, b = "shop/cart-1/web", "shop/cart-1/log", "shop/db-1/db", "bank/cart-1/web"
	made := map[string]int{w: 1000, l: 200, d: 300, b: 400, "host": 500}
	tests := map[string]struct {
		selector *wire.Selector
		want     []string
	}{
		"namespace":          {&wire.Selector{Namespaces: []string{"shop"}}, []string{w, l, d}},
		"pod":                {&wire.Selector{Pods: []string{"cart-1"}}, []string{w, l, b}},
		"labels":             {&wire.Selector{Namespaces: []string{"shop"}, Labels: "app=cart"}, []string{w, l}},
		"container":          {&wire.Selector{Namespaces: []string{"shop"}, Labels: "app=cart", Containers: []string{"web"}}, []string{w}},
		"all":                {&wire.Selector{}, []string{w, l, d, b}},
		"all and host":       {&wire.Selector{Host: true}, []string{w, l, d, b, "host"}},
		"host and namespace": {&wire.Selector{Namespaces: []string{"bank"}, Host: true}, []string{b, "host"}},
		"nobody":             {&wire.Selector{Namespaces: []string{"nobody"}}, nil},
	}
	watches := map[string]*watch{}
	for name, test := range tests {
		watches[name] = n.watch(startOpens(test.selector))
	}
	web.run("/bin/sh", opens(made[w])...)
	log.run("/bin/sh", opens(made[l])...)
	db.run("/bin/sh", opens(made[d])...)
	bank.run("/bin/sh", opens(made[b])...)
	out, err := inCgroup(t, host, "/bin/sh", opens(made["host"])...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	for name, test := range tests {
		watch := watches[name]
		want := map[string]int{}
		for _, pod := range test.want {
			want[pod] = made[pod]
		}
		got := byPod(watch.stop())
		// Other processes of this machine's host may open it too.
		if want["host"] > 0 {
			require.GreaterOrEqual(t, got["host"], want["host"])
			got["host"] = want["host"]
		}
		require.Equal(t, want, got, name)
		for _, c := range watch.known {
			if c.GetKind() == wire.Container_CONTAINER {
				require.Contains(t, want, c.GetNamespace()+"/"+c.GetPod()+"/"+c.GetName(), "%s: nothing is told of others", name)
			}
		}
		require.Zero(t, watch.end.GetLoss().GetUnresolved()+watch.end.GetLoss().GetWithheld(), name)
	}
}

// TestWholeMachineIsNamedToo: without a selector nothing is left out.
func TestWholeMachineIsNamedToo(t *testing.T) {
	n := newTestNode(t, Options{})
	web := n.container("shop", "cart-1", "web", nil)
	w := n.watch(startOpens(nil))
	web.run("/bin/sh", opens(100)...)
	out, err := exec.CommandContext(t.Context(), "/bin/sh", opens(50)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	got := byPod(w.stop())
	require.Equal(t, 100, got["shop/cart-1/web"])
	require.GreaterOrEqual(t, got["host"], 50, "this test itself is outside of the node's cgroup, and shown")
}

// TestPodIsTracedWhileItsLabelsMatch, from the moment on when they do.
func TestPodIsTracedWhileItsLabelsMatch(t *testing.T) {
	n := newTestNode(t, Options{})
	web := n.container("shop", "cart-1", "web", map[string]string{"app": "db"})
	w := n.watch(startOpens(&wire.Selector{Namespaces: []string{"shop"}, Labels: "app=cart"}))
	label := func(value string) {
		// What was recorded before is read within 20 ms, and judged by then.
		time.Sleep(100 * time.Millisecond)
		n.registry.SetPods(container.Pod{
			Namespace: "shop", Name: "cart-1", UID: podUID("shop", "cart-1"), Labels: map[string]string{"app": value},
		})
		// The run looks every 20 ms.
		time.Sleep(100 * time.Millisecond)
	}
	web.run("/bin/sh", opens(10)...)
	label("cart")
	web.run("/bin/sh", opens(20)...)
	label("db")
	web.run("/bin/sh", opens(40)...)
	label("cart")
	web.run("/bin/sh", opens(80)...)
	require.Equal(t, map[string]int{"shop/cart-1/web": 100}, byPod(w.stop()))
}

// TestContainerThatNobodyKnows is shown to who may see all, as what it is.
func TestContainerThatNobodyKnows(t *testing.T) {
	n := newTestNode(t, Options{})
	all, shop := n.watch(startOpens(&wire.Selector{})), n.watch(startOpens(&wire.Selector{Namespaces: []string{"shop"}}))
	unknown := n.unknown("shop", "cart-1", "web")
	unknown.run("/bin/sh", opens(10)...)
	time.Sleep(600 * time.Millisecond)
	unknown.run("/bin/sh", opens(10)...)
	require.Equal(t, map[string]int{"unresolved": 20}, byPod(all.stop()))
	require.Empty(t, shop.stop())
	require.EqualValues(t, 20, all.end.GetLoss().GetUnresolved())
	require.Zero(t, all.end.GetLoss().GetWithheld())
	// The path, which is for the client's filter, is only looked at afterwards.
	require.GreaterOrEqual(t, shop.end.GetLoss().GetWithheld(), uint64(20))
	for _, s := range all.all {
		require.Equal(t, unknown.id, s.by.GetId(), "its ids are known")
		require.Equal(t, podUID("shop", "cart-1"), s.by.GetPodUid())
	}
}

// TestSignalsBetweenNamespaces: each sees its own end of it, and no more.
func TestSignalsBetweenNamespaces(t *testing.T) {
	n := newTestNode(t, Options{})
	shop, bank := n.container("shop", "cart-1", "web", nil), n.container("bank", "vault-1", "main", nil)
	start := func(namespaces ...string) *watch {
		return n.watch(&wire.Start{
			Gadget: "trace_signal", Params: map[string]string{"signal": "10"}, Selector: &wire.Selector{Namespaces: namespaces},
		})
	}
	sender, receiver, both, other := start("shop"), start("bank"), start("shop", "bank"), start("other")
	victim := bank.command("/bin/sleep", "60")
	require.NoError(t, victim.Start())
	require.Eventually(t, func() bool {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", victim.Process.Pid))
		return err == nil && string(name) == "sleep\n"
	}, 5*time.Second, time.Millisecond)
	shop.run("/bin/sh", "-c", fmt.Sprintf("kill -USR1 %d", victim.Process.Pid))
	_ = victim.Wait()
	pid := fmt.Sprint(victim.Process.Pid)
	for _, test := range []struct {
		watch      *watch
		by, to     string
		comm, name string
		target     string
	}{
		{sender, "cart-1", "", "sh", "", "0"},
		{receiver, "", "vault-1", "", "sleep", pid},
		{both, "cart-1", "vault-1", "sh", "sleep", pid},
	} {
		all := test.watch.stop()
		require.Len(t, all, 1)
		s := all[0]
		require.Equal(t, test.by, s.by.GetPod())
		require.Equal(t, test.to, s.target.GetPod())
		require.Equal(t, "10", test.watch.value(s.record, "signal"))
		require.Equal(t, test.comm, test.watch.value(s.record, "comm"))
		require.Equal(t, test.name, test.watch.value(s.record, "target.comm"))
		require.Equal(t, test.target, test.watch.value(s.record, "target.pid"))
		require.Equal(t, test.by == "", test.watch.value(s.record, "pid") == "0")
	}
	require.Empty(t, other.stop())
}

// TestTablesAndSnapshotsHaveContainers, and respect selectors.
func TestTablesAndSnapshotsHaveContainers(t *testing.T) {
	n := newTestNode(t, Options{})
	shop, bank := n.container("shop", "cart-1", "web", nil), n.container("bank", "vault-1", "main", nil)
	victims := []*exec.Cmd{shop.command("/bin/sleep", "60"), bank.command("/bin/sleep", "60")}
	for _, v := range victims {
		require.NoError(t, v.Start())
		defer func() {
			_ = v.Process.Kill()
			_ = v.Wait()
		}()
	}
	selector := &wire.Selector{Namespaces: []string{"shop"}}
	top := n.watch(&wire.Start{Gadget: "top_syscall", Selector: selector, Interval: int64(100 * time.Millisecond)})
	shop.run("/bin/sh", opens(1000)...)
	bank.run("/bin/sh", opens(1000)...)
	rows := top.stop()
	require.NotEmpty(t, rows)
	require.Equal(t, map[string]int{"shop/cart-1/web": len(rows)}, byPod(rows))

	// Without a row for each container nobody could say whose waits these are.
	runqlat := n.watch(&wire.Start{Gadget: "profile_runqlat", Selector: selector})
	const wakeups = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.01; done"
	shop.run("/bin/sh", "-c", wakeups)
	bank.run("/bin/sh", "-c", wakeups)
	rows = runqlat.stop()
	require.NotEmpty(t, rows)
	require.Equal(t, map[string]int{"shop/cart-1/web": len(rows)}, byPod(rows))

	require.Eventually(t, func() bool {
		snapshot := n.watch(&wire.Start{Gadget: "snapshot_process", Selector: selector})
		require.NoError(t, <-snapshot.done)
		got := snapshot.all
		return len(got) == 1 && snapshot.value(got[0].record, "comm") == "sleep" && got[0].by.GetPod() == "cart-1"
	}, 5*time.Second, 10*time.Millisecond)
}
