// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/tracer"
	"nodegadget.dev/pkg/wire"
)

// told collects what a member tells.
func told(m *member, now time.Time, end bool) (texts []string) {
	_ = m.tellExcess(now, end, func(text string) error {
		texts = append(texts, text)
		return nil
	})
	return texts
}

// TestExcessIsChargedFromJoiningOn: who joins a program isn't charged with what was left out
// before, and the program's own account has it once.
func TestExcessIsChargedFromJoiningOn(t *testing.T) {
	s, l := newShared(t)
	l.gate <- nil
	first := mustJoin(t, s, planOf("trace_x", gadget.Events), nil)
	source := l.source(0)
	source.do(func(tracer.Handler) {
		source.excesses = map[uint64]tracer.Excess{7: {Crowded: 5, OverBudget: 2}}
	})
	second := mustJoin(t, s, planOf("trace_x", gadget.Events), source)
	source.do(func(tracer.Handler) {
		source.excesses = map[uint64]tracer.Excess{7: {Crowded: 6, OverBudget: 4}, 8: {Crowded: 10}}
	})
	first.leave()
	source.flush()
	source.flush()
	for range first.queue.batches {
	}
	loss, err := first.loss()
	require.NoError(t, err)
	require.EqualValues(t, 16, loss.GetKernel())
	require.EqualValues(t, 4, loss.GetThrottled())
	loss, err = second.loss()
	require.NoError(t, err)
	require.EqualValues(t, 11, loss.GetKernel())
	require.EqualValues(t, 2, loss.GetThrottled())
	second.leave()
	for range second.queue.batches {
	}
	<-source.closed
	require.EqualValues(t, 16, s.agent.ledger.accounts()["trace_x"].Kernel)
	require.EqualValues(t, 6, s.agent.ledger.accounts()["trace_x"].Throttled)
}

// TestExcessIsToldNowAndThen: at once, then not before excessInterval, and at the end.
func TestExcessIsToldNowAndThen(t *testing.T) {
	m := &member{plan: &plan{opts: tracer.Options{Budget: 100}}}
	now := time.Now()
	require.Empty(t, told(m, now, true))
	m.charge("container web of pod shop/cart-1", tracer.Excess{OverBudget: 5})
	const text = "container web of pod shop/cart-1 is throttled: it makes more than 100 records a second, of which %d were left out (--cgroup-budget of the agent)"
	require.Equal(t, []string{fmt.Sprintf(text, 5)}, told(m, now, false))
	m.charge("container web of pod shop/cart-1", tracer.Excess{OverBudget: 6})
	now = now.Add(excessInterval - 1)
	require.Empty(t, told(m, now, false))
	m.charge("container db of pod shop/db-1", tracer.Excess{Crowded: 1})
	require.Equal(t, []string{
		"container db of pod shop/db-1 makes records faster than they are read: 1 were left out so that others' are not lost; a filter or a larger buffer helps",
	}, told(m, now, false))
	require.Equal(t, []string{fmt.Sprintf(text, 6)}, told(m, now.Add(1), false))
	m.charge("container web of pod shop/cart-1", tracer.Excess{OverBudget: 7})
	require.Equal(t, []string{fmt.Sprintf(text, 7)}, told(m, now, true))
	require.Empty(t, told(m, now, true))
}

// TestFloodIsItsOwnersAlone: one pod makes far more than it may, another one a hundred
// records a second. All of the second one's arrive, who sees the first one is told its name,
// and who doesn't see it learns nothing of it.
func TestFloodIsItsOwnersAlone(t *testing.T) {
	const budget, quietOpens, floodOpens = 1000, 200, 100_000
	n := newTestNode(t, Options{CgroupBudget: budget})
	loud, quiet := n.container("shop", "cart-1", "web", nil), n.container("bank", "vault-0", "db", nil)
	start := func(namespaces ...string) *wire.Start {
		return &wire.Start{Gadget: "trace_open", Params: map[string]string{"comm": "sh"}, Selector: &wire.Selector{Namespaces: namespaces}}
	}
	shop, bank, all := n.watch(start("shop")), n.watch(start("bank")), n.watch(start())
	done := make(chan error, 1)
	begin := time.Now()
	go func() {
		out, err := loud.command("/bin/sh", opens(floodOpens)...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		done <- err
	}()
	for range quietOpens / 20 {
		quiet.run("/bin/sh", opens(20)...)
		time.Sleep(200 * time.Millisecond)
	}
	require.NoError(t, <-done)
	took := time.Since(begin)

	const vault, cart = "bank/vault-0/db", "shop/cart-1/web"
	null := func(w *watch, records []seen) (n int) {
		for _, s := range records {
			if s.by.GetPod() == "vault-0" && w.value(s.record, "path") == "/dev/null" {
				n++
			}
		}
		return n
	}
	ofBank, ofAll, ofShop := bank.stop(), all.stop(), shop.stop()
	require.Equal(t, quietOpens, null(bank, ofBank))
	require.Equal(t, quietOpens, null(all, ofAll))
	require.Zero(t, bank.end.GetLoss().GetThrottled())
	require.Empty(t, bank.notices)

	require.Equal(t, byPod(ofAll)[cart], byPod(ofShop)[cart])
	for name, w := range map[string]*watch{"shop": shop, "all": all} {
		seen := uint64(byPod(w.all)[cart])
		left := w.end.GetLoss().GetThrottled()
		t.Logf("%s: %d of the flood seen, %d left out in %v: %q", name, seen, left, took, w.notices)
		require.GreaterOrEqual(t, seen+left, uint64(floodOpens), name)
		require.LessOrEqual(t, seen, budget*(uint64(took/time.Second)+2), name)
		require.NotEmpty(t, w.notices, name)
		for _, text := range w.notices {
			require.True(t, strings.HasPrefix(text, "container web of pod shop/cart-1 is throttled: "), text)
		}
	}
	require.NotContains(t, byPod(ofShop), vault)
}
