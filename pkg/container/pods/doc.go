// SPDX-License-Identifier: Apache-2.0

// Package pods follows the pods of one node through the API server: their labels,
// and who owns them. A container runtime knows a pod's labels as they were when the
// pod was started; changes of labels come from here.
//
// Only the pods' metadata is asked for, so neither specs nor statuses are sent, let
// alone kept. While the API server is away, what was known stays known and is said
// to be stale.
package pods
