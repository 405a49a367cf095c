// SPDX-License-Identifier: Apache-2.0

// Package gadget reads a gadget's object file into a Spec: its name, the layout
// of its records, its parameters, and which kernel hooks are alternatives for
// one another. All of it is said in the object's own BTF, as declaration tags
// that gadgets/include/gadget.h writes.
//
// Reading is pure: it needs no kernel, and the same bytes give the same Spec on
// any machine. Objects are hostile input here: whatever they hold, Parse returns
// a Spec or an error. What depends on the running kernel (which alternative can
// attach, relocation, loading) is pkg/tracer's; what a record says is pkg/event's.
package gadget
