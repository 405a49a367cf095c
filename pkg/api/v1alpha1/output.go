// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "k8s.io/apimachinery/pkg/api/resource"

// Output is where records go: to each of what is given, independently of the others.
type Output struct {
	// Stream keeps the last records in the agents' memory, for `kubectl gadget session
	// logs`. It is there even if nothing is given, unless another output is.
	// +optional
	Stream *StreamOutput `json:"stream,omitempty"`

	// File writes records to files on the nodes.
	// +optional
	File *FileOutput `json:"file,omitempty"`

	// OTLP sends records as OpenTelemetry logs.
	// +optional
	OTLP *OTLPOutput `json:"otlp,omitempty"`

	// Metrics counts records, for Prometheus.
	// +optional
	Metrics *MetricsOutput `json:"metrics,omitempty"`
}

// StreamOutput is the tail of the records that each agent keeps in its memory.
type StreamOutput struct {
	// Retain is how many records an agent keeps. Missing: 10000.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Retain int64 `json:"retain,omitempty"`

	// RetainBytes is how much memory an agent keeps them in. Missing: 4Mi.
	//
	// +kubebuilder:validation:XValidation:rule="!quantity(string(self)).isLessThan(quantity('1Ki')) && !quantity(string(self)).isGreaterThan(quantity('64Mi'))",message="a stream retains from 1Ki to 64Mi"
	// +optional
	RetainBytes *resource.Quantity `json:"retainBytes,omitempty"`
}

// FileOutput is a file on each node, one JSON object a line as `kubectl gadget -o json`
// prints them. When it is full another is begun, and the oldest is removed.
type FileOutput struct {
	// MaxSize of one file. Missing: 16Mi.
	//
	// +kubebuilder:validation:XValidation:rule="!quantity(string(self)).isLessThan(quantity('64Ki')) && !quantity(string(self)).isGreaterThan(quantity('1Gi'))",message="a file has from 64Ki to 1Gi"
	// +optional
	MaxSize *resource.Quantity `json:"maxSize,omitempty"`

	// MaxFiles that are kept on a node, the current one included. Missing: 4.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	MaxFiles int32 `json:"maxFiles,omitempty"`
}

// OTLPOutput is a receiver of OpenTelemetry logs over gRPC, such as a collector.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.insecure) && self.insecure) || !(self.endpoint.startsWith('https:') || has(self.caBundle))",message="insecure goes neither with an endpoint of https nor with a caBundle"
type OTLPOutput struct {
	// Endpoint is host:port or https://host:port. The agents connect to it.
	//
	// +kubebuilder:validation:MaxLength=320
	// +kubebuilder:validation:Pattern=`^(https://)?([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$`
	Endpoint string `json:"endpoint"`

	// Insecure connects without TLS.
	// +optional
	Insecure bool `json:"insecure,omitempty"`

	// CABundle has the PEM certificates of the authorities that the receiver's may be
	// signed by. Missing: those that the agents' image has.
	//
	// +kubebuilder:validation:MaxLength=131072
	// +optional
	CABundle []byte `json:"caBundle,omitempty"`
}

// MetricsOutput makes Prometheus series of the gadget's records, which each agent has
// among its own. They carry session, namespace, pod and container as labels.
type MetricsOutput struct {
	// Labels are columns of the gadget whose values become labels as well. Only those
	// with few values are of use.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z_][a-z0-9_.]*$`
	// +optional
	Labels []string `json:"labels,omitempty"`

	// MaxSeries bounds the series of this session on a node: records beyond are counted
	// as dropped. Missing: 1000.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	// +optional
	MaxSeries int32 `json:"maxSeries,omitempty"`
}
