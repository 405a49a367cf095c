// SPDX-License-Identifier: Apache-2.0

// Package tape keeps the last records of a trace session on one node, for readers that
// come and go: clients that read what was retained, or go on with what is being
// recorded, and outputs.
//
// A Tape has one writer, which never waits, and any number of readers, each with its
// own place. What is oldest falls out when there are too many records or bytes; a
// reader that was not there yet is told how many records it has missed. Beside the
// records a tape keeps what their references to containers stand for, so that every
// reader can be told, whenever it comes.
//
// A tape knows messages of pkg/wire, but no connections, and of a record only where it
// has its time.
package tape
