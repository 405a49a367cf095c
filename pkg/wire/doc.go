// SPDX-License-Identifier: Apache-2.0

// Package wire is the protocol between client and agent: the messages generated
// from nodegadget.proto, which documents them, the framing of records in a batch,
// and the conversion of a gadget's Spec. It sends and receives nothing itself.
package wire
