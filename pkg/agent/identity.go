// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"
	"strings"

	"nodegadget.dev/pkg/enrich"
	"nodegadget.dev/pkg/gadget"
)

// ofMaker are the fields that tell of the process that made a record, beside its
// cgroup: those of GADGET_TASK_FIELDS in gadget.h and the usual ones of its parent.
var ofMaker = []string{"cgroup_id", "mntns_id", "pid", "tid", "uid", "gid", "comm", "ppid", "parent_comm"}

// identities finds the processes that a record is about by their cgroups: the first
// such field is the maker's, another one in a struct of its own is the target's. The
// maker is nil if records don't say whose they are.
func identities(source gadget.Source) (maker, target *enrich.Identity) {
	for _, field := range source.Fields {
		if field.Semantic != gadget.Cgroup || field.Size != 8 {
			continue
		}
		outer, _, nested := strings.Cut(field.Name, ".")
		switch {
		case nested && target == nil:
			target = identity(source, field, func(name string) bool { return strings.HasPrefix(name, outer+".") })
		case !nested && maker == nil:
			maker = identity(source, field, func(name string) bool { return slices.Contains(ofMaker, name) })
		}
	}
	return maker, target
}

func identity(source gadget.Source, cgroup gadget.Field, has func(name string) bool) *enrich.Identity {
	id := &enrich.Identity{Cgroup: int(cgroup.Offset)}
	for _, field := range source.Fields {
		if has(field.Name) {
			id.Parts = append(id.Parts, enrich.Part{Offset: int(field.Offset), Size: int(field.Size), Tail: field.Kind == gadget.Tail})
		}
	}
	return id
}
