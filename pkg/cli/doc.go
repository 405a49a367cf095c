// SPDX-License-Identifier: Apache-2.0

// Package cli is the kubectl plugin: it turns gadgets into commands and their
// parameters into flags, connects to an agent or runs one in process, and brings
// the records to a printer. Events go to standard output, all else to standard
// error. Only its Main knows about exit statuses.
package cli
