// SPDX-License-Identifier: Apache-2.0

// Package print turns records into text: the last station of an event. A
// Printer knows the schema of its records, decodes only the columns that it
// shows, and appends to one buffer, so that a batch of events costs one Write
// and no allocation.
//
// Nearly every text in a record was chosen by a traced process, and origins and
// schemas come from another machine. All of them go through escape.go, the only
// place that decides what may reach a terminal: whatever isn't printable is
// written as an escape, in every mode. So the only byte below 0x20 in the
// output is the line feed that ends a line, apart from the colours that
// Options.Color asks for.
package print
