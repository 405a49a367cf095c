// SPDX-License-Identifier: Apache-2.0

package wire

import "nodegadget.dev/pkg/gadget"

// TimeOffset is where an event has the time at which it was made: nanoseconds since the
// node's boot, 8 bytes. Rows of tables and snapshots have none.
func (h *Header) TimeOffset() (offset int, ok bool) {
	source := h.GetGadget().GetSource()
	if gadget.SourceKind(source.GetKind()) != gadget.Events {
		return 0, false
	}
	for _, f := range source.GetFields() {
		if gadget.Semantic(f.GetSemantic()) == gadget.Timestamp && f.GetSize() == 8 && f.GetOffset() <= gadget.MaxRecordSize {
			return int(f.GetOffset()), true
		}
	}
	return 0, false
}
