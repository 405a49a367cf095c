// SPDX-License-Identifier: Apache-2.0

package tailor

import (
	"bytes"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
)

// FuzzTailor changes a kernel's types at random: whatever the loader accepts
// must relocate alike before and after.
func FuzzTailor(f *testing.F) {
	object := testObject(f, "bpfel")
	n := parse(f, object)
	objects := loadAll(f, []Object{object})
	for _, seed := range seeds(f, n) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		small, err := n.Tailor(raw)
		if err != nil {
			require.Nil(t, small)
			return
		}
		full, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
		if err != nil {
			return
		}
		// The loader decodes a type when it is asked for, and stops at the first
		// that is unsound; of those that are cut away it can't know.
		all, err := parseTarget(raw)
		require.NoError(t, err)
		for id := range all.count() {
			if _, err := full.TypeByID(btf.TypeID(id)); err != nil {
				return
			}
		}
		spec, err := btf.LoadSpecFromReader(bytes.NewReader(small))
		require.NoError(t, err)
		diff, _ := difference(objects, full, spec)
		require.Empty(t, diff)
	})
}

// FuzzParse reads objects from anyone.
func FuzzParse(f *testing.F) {
	f.Add(testObject(f, "bpfel").Content)
	f.Add(testObject(f, "bpfeb").Content)
	f.Add(builtin(f)[0].Content)
	f.Fuzz(func(t *testing.T, content []byte) {
		n, err := Parse(Object{"fuzz.o", content})
		if err != nil {
			require.Nil(t, n)
			require.NotContains(t, err.Error(), "\n")
			return
		}
		for _, o := range n.Objects() {
			require.Equal(t, n.Digest(), o.Digest)
		}
	})
}

// seeds are small kernels: one that has what the test object asks for, and one
// in which everything is a little different.
func seeds(tb testing.TB, n *Needs) [][]byte {
	tb.Helper()
	number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	unsigned := &btf.Int{Name: "unsigned int", Size: 4}
	short := &btf.Int{Name: "short unsigned int", Size: 2}
	char := &btf.Int{Name: "char", Size: 1, Encoding: btf.Char}
	long := &btf.Int{Name: "long unsigned int", Size: 8}
	list := &btf.Struct{Name: "list_head", Size: 16}
	list.Members = []btf.Member{{Name: "next", Type: &btf.Pointer{Target: list}}, {Name: "prev", Type: &btf.Pointer{Target: list}, Offset: 64}}
	common := &btf.Struct{Name: "ns_common", Size: 8, Members: []btf.Member{{Name: "inum", Type: unsigned, Offset: 32}}}
	mounts := &btf.Struct{Name: "mnt_namespace", Size: 16, Members: []btf.Member{{Name: "ns", Type: common, Offset: 64}}}
	proxy := &btf.Struct{Name: "nsproxy", Size: 8, Members: []btf.Member{{Name: "mnt_ns", Type: &btf.Pointer{Target: &btf.Const{Type: mounts}}}}}
	limit := &btf.Struct{Name: "rlimit", Size: 16, Members: []btf.Member{{Name: "rlim_cur", Type: &btf.Typedef{Name: "u64", Type: long}}, {Name: "rlim_max", Type: long, Offset: 64}}}
	signal := &btf.Struct{Name: "signal_struct", Size: 264, Members: []btf.Member{
		{Name: "is_child_subreaper", Type: unsigned, Offset: 3, BitfieldSize: 1},
		{Name: "rlim", Type: &btf.Array{Index: number, Type: limit, Nelems: 16}, Offset: 64},
	}}
	task := &btf.Struct{Name: "task_struct", Size: 200}
	task.Members = []btf.Member{
		{Name: "__state", Type: &btf.Volatile{Type: unsigned}},
		{Type: &btf.Union{Size: 8, Members: []btf.Member{{Type: &btf.Struct{Size: 8, Members: []btf.Member{{Name: "pid", Type: &btf.Typedef{Name: "pid_t", Type: number}}, {Name: "tgid", Type: number, Offset: 32}}}}}}, Offset: 64},
		{Name: "comm", Type: &btf.Array{Index: number, Type: char, Nelems: 16}, Offset: 128},
		{Name: "nsproxy", Type: &btf.Pointer{Target: proxy}, Offset: 256},
		{Name: "signal", Type: &btf.Pointer{Target: signal}, Offset: 320},
		{Name: "real_parent", Type: &btf.Pointer{Target: task}, Offset: 384},
		{Name: "tasks", Type: list, Offset: 448},
		{Name: "in_execve", Type: unsigned, Offset: 580, BitfieldSize: 1},
		{Name: "sched_reset_on_fork", Type: unsigned, Offset: 576, BitfieldSize: 1},
	}
	pids := &btf.Enum{Name: "pid_type", Size: 4, Values: []btf.EnumValue{{Name: "PIDTYPE_PID", Value: 0}, {Name: "PIDTYPE_TGID", Value: 1}, {Name: "PIDTYPE_MAX", Value: 7}, {Name: "PIDTYPE_SID", Value: 3}}}
	fields := &btf.Enum{Name: "btf_field_type", Size: 8, Values: []btf.EnumValue{{Name: "BPF_KPTR_UNREF", Value: 1 << 40}}}
	handler := &btf.Typedef{Name: "wait_queue_func_t", Type: &btf.Pointer{Target: &btf.FuncProto{Return: number, Params: []btf.FuncParam{{Name: "a", Type: &btf.Pointer{Target: &btf.Void{}}}, {Name: "mode", Type: unsigned}, {Name: "flags", Type: number}, {Name: "key", Type: &btf.Pointer{Target: &btf.Void{}}}}}}}
	flex := &btf.Struct{Name: "linux_dirent", Size: 18, Members: []btf.Member{{Name: "d_ino", Type: long}, {Name: "d_reclen", Type: short, Offset: 128}, {Name: "d_name", Type: &btf.Array{Index: number, Type: char}, Offset: 144}}}
	middle := &btf.Struct{Name: "bpf_prog", Size: 16, Members: []btf.Member{{Name: "insnsi", Type: &btf.Array{Index: number, Type: number}, Offset: 64}, {Name: "end", Type: long, Offset: 64}}}
	skb := &btf.Struct{Name: "sk_buff", Size: 16, Members: []btf.Member{{Name: "cloned", Type: char, Offset: 9, BitfieldSize: 1}, {Name: "pkt_type", Type: char, Offset: 5, BitfieldSize: 3}, {Name: "len", Type: unsigned, Offset: 32}}}

	var out [][]byte
	for _, types := range [][]btf.Type{
		{task, pids, handler, flex, middle, skb, limit, &btf.Fwd{Name: "sock", Kind: btf.FwdStruct}, &btf.Typedef{Name: "atomic_t", Type: list}},
		// Two of a name, of which one decides; and a value of 64 bits.
		{fields, skb, task, &btf.Struct{Name: "task_struct", Size: 4, Members: []btf.Member{{Name: "pid", Type: list}}}, list, signal, &btf.Struct{Name: "signal_struct___x", Size: 0}},
	} {
		builder, err := btf.NewBuilder(types, nil)
		require.NoError(tb, err)
		raw, err := builder.Marshal(nil, nil)
		require.NoError(tb, err)
		_, err = n.Tailor(raw)
		require.NoError(tb, err)
		out = append(out, raw)
	}
	return out
}
