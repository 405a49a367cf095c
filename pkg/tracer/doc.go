// SPDX-License-Identifier: Apache-2.0

// Package tracer runs a gadget on this machine's kernel: it writes parameters
// into the object, picks the alternatives that the kernel can attach, loads and
// attaches them, and hands out the raw records.
//
// Records stay the bytes that the kernel wrote; nothing here knows what they
// mean. Nothing is pinned: all that was loaded is held by this process's file
// descriptors alone, and the kernel removes it when the process ends, however
// it ends. What was lost on the way is counted in the kernel and never reset.
package tracer
