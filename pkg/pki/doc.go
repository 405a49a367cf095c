// SPDX-License-Identifier: Apache-2.0

// Package pki makes and checks the certificates by which nodegadget's own parts
// know each other: an authority of the installation's own, certificates that live
// for a day, and TLS configurations that let in one identity and nobody else.
//
// Who somebody is stands in the certificate's URI name (Identity); common names and
// addresses mean nothing, as a pod's address is soon another pod's. The authority
// may be replaced while everything runs: Roots can hold the old and the new one.
package pki
