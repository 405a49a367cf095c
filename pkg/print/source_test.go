// SPDX-License-Identifier: Apache-2.0

package print_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"nodegadget.dev/pkg/event"
	"nodegadget.dev/pkg/gadget"
	"nodegadget.dev/pkg/print"
)

// killSource tells of two processes.
func killSource() gadget.Source {
	return layout(gadget.Events,
		means(gadget.Timestamp, number("timestamp", 8)), hidden(means(gadget.Cgroup, number("cgroup_id", 8))), number("pid", 4),
		number("target.pid", 4), hidden(means(gadget.Cgroup, number("target.cgroup_id", 8))), chars("target.comm", 16))
}

func TestTargetOfARecord(t *testing.T) {
	source := killSource()
	schema := event.NewSchema(source, event.Options{})
	mine := &print.Origin{Node: "n", Namespace: "shop", Pod: "cart", Container: "web", ContainerID: "1", Image: "i"}
	other := &print.Origin{Node: "n", Namespace: "bank\x1b", Pod: "safe", Container: "lock", ContainerID: "2", Image: "j"}
	first := encode(t, source, values{"timestamp": time.Second, "pid": 1, "target.pid": 2, "target.comm": "vault"})
	second := encode(t, source, values{"timestamp": time.Second, "pid": 3, "target.pid": 4, "target.comm": "vault"})
	for _, test := range []struct {
		opts print.Options
		want string
	}{
		{print.Options{Mode: print.JSON, Kubernetes: true}, `{"node":"n","namespace":"shop","pod":"cart","container":"web","containerID":"1","image":"i",` +
			`"timestamp":"1970-01-01T00:00:01.000000000Z","cgroup_id":0,"pid":1,` +
			`"target":{"namespace":"bank\u001b","pod":"safe","container":"lock","containerID":"2","image":"j","pid":2,"cgroup_id":0,"comm":"vault"}}` + "\n" +
			`{"node":"n","namespace":"shop","pod":"cart","container":"web","containerID":"1","image":"i",` +
			`"timestamp":"1970-01-01T00:00:01.000000000Z","cgroup_id":0,"pid":3,` +
			`"target":{"namespace":"","pod":"","container":"","containerID":"","image":"","pid":4,"cgroup_id":0,"comm":"vault"}}` + "\n"},
		{print.Options{Mode: print.JSON}, `{"node":"n","namespace":"shop","pod":"cart","container":"web","containerID":"1","image":"i",` +
			`"timestamp":"1970-01-01T00:00:01.000000000Z","cgroup_id":0,"pid":1,"target":{"pid":2,"cgroup_id":0,"comm":"vault"}}` + "\n" +
			`{"node":"n","namespace":"shop","pod":"cart","container":"web","containerID":"1","image":"i",` +
			`"timestamp":"1970-01-01T00:00:01.000000000Z","cgroup_id":0,"pid":3,"target":{"pid":4,"cgroup_id":0,"comm":"vault"}}` + "\n"},
		{print.Options{Mode: print.JSON, Fields: []string{"target.pod", "pid"}}, `{"node":"n","namespace":"shop","pod":"cart","container":"web","containerID":"1","image":"i",` +
			`"timestamp":"1970-01-01T00:00:01.000000000Z","target":{"pod":"safe"},"pid":1}` + "\n" +
			`{"node":"n","namespace":"shop","pod":"cart","container":"web","containerID":"1","image":"i",` +
			`"timestamp":"1970-01-01T00:00:01.000000000Z","target":{"pod":""},"pid":3}` + "\n"},
		{
			print.Options{Fields: []string{"pod", "target.namespace", "target.pod"}},
			"POD                            TARGET.NAMESPACE TARGET.POD\n" +
				"cart                           bank\\x1b         safe\n" +
				"cart\n",
		},
	} {
		var out bytes.Buffer
		p, err := print.New(&out, schema, test.opts)
		require.NoError(t, err)
		p.RecordOf(mine, other, first)
		p.Record(mine, second)
		require.NoError(t, p.Flush())
		require.Equal(t, test.want, out.String())
	}
	var out bytes.Buffer
	p, err := print.New(&out, schema, print.Options{Kubernetes: true})
	require.NoError(t, err)
	p.RecordOf(mine, other, first)
	require.NoError(t, p.Flush())
	require.Contains(t, out.String(), " PID TARGET.POD ")
	require.Equal(t, []string{
		"node", "namespace", "pod", "container", "containerID", "image",
		"target.namespace", "target.pod", "target.container", "target.containerID", "target.image",
	}, print.OriginNames(&source))
	plain := execSource()
	require.Len(t, print.OriginNames(&plain), 6)
}

// TestSources: nodes have clocks, names of system calls and layouts of their own, and
// share the places of columns.
func TestSources(t *testing.T) {
	source := layout(gadget.Table, means(gadget.Timestamp, number("timestamp", 8)), means(gadget.Syscall, number("nr", 8)), chars("comm", 16))
	other := layout(gadget.Table, chars("comm", 16), means(gadget.Syscall, number("nr", 4)), means(gadget.Timestamp, number("timestamp", 8)))
	own := event.NewSchema(source, event.Options{})
	aligned := own.Align(other, event.Options{Arch: "arm64", BootTime: time.Unix(3600, 0)})
	here := encode(t, source, values{"timestamp": time.Second, "nr": 0, "comm": "here"})
	there := encode(t, other, values{"timestamp": time.Second, "nr": 63, "comm": "a longer name"})
	for mode, want := range map[print.Mode]string{
		print.Columns: "TIMESTAMP    NR_NAME COMM\n00:00:01.000 read    here\n01:00:01.000 read    a longer name\n00:00:01.000 read    here\n",
		print.JSON: `{"node":"","namespace":"","pod":"","container":"","containerID":"","image":"","timestamp":"1970-01-01T00:00:01.000000000Z","nr":0,"nr_name":"read","comm":"here"}` + "\n" +
			`{"node":"","namespace":"","pod":"","container":"","containerID":"","image":"","timestamp":"1970-01-01T01:00:01.000000000Z","nr":63,"nr_name":"read","comm":"a longer name"}` + "\n" +
			`{"node":"","namespace":"","pod":"","container":"","containerID":"","image":"","timestamp":"1970-01-01T00:00:01.000000000Z","nr":0,"nr_name":"read","comm":"here"}` + "\n",
		print.None: "",
	} {
		var out bytes.Buffer
		p, err := print.New(&out, own, print.Options{Mode: mode, Location: time.UTC})
		require.NoError(t, err)
		from, err := p.Source(aligned)
		require.NoError(t, err)
		require.NoError(t, p.Interval([]print.Row{{Record: here}, {Source: from, Record: there}, {Record: here}}))
		require.Equal(t, want, out.String(), mode)

		out.Reset()
		p.Use(from)
		p.Record(nil, there)
		p.Use(nil)
		p.Record(nil, here)
		require.NoError(t, p.Flush())
		if mode != print.None {
			require.Regexp(t, `(?s)01:00:01.*a longer name.*00:00:01.*here`, out.String())
		}
	}
}
