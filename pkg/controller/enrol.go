// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"log/slog"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"nodegadget.dev/pkg/access"
	"nodegadget.dev/pkg/pki"
	"nodegadget.dev/pkg/wire"
)

// enrolment serves wire.Enrolment.
type enrolment struct {
	wire.UnimplementedEnrolmentServer
	gate      *access.Gate
	authority *authority
	log       *slog.Logger
	// issued counts certificates, refused the callers that got none.
	issued, refused atomic.Uint64
}

// Enrol is part of wire.EnrolmentServer. The node that the certificate is for is the
// one that Kubernetes vouches for, not one that the caller names.
func (e *enrolment) Enrol(ctx context.Context, request *wire.EnrolRequest) (*wire.EnrolResponse, error) {
	response, err := e.enrol(ctx, request)
	if err != nil {
		e.refused.Add(1)
		e.log.Warn("issued no certificate", "error", err)
		return nil, err
	}
	e.issued.Add(1)
	return response, nil
}

func (e *enrolment) enrol(ctx context.Context, request *wire.EnrolRequest) (*wire.EnrolResponse, error) {
	node, err := e.gate.Node(ctx)
	if err != nil {
		return nil, err
	}
	identity, err := pki.Agent(node)
	if err != nil {
		return nil, status.Error(codes.PermissionDenied, err.Error())
	}
	cert, err := e.authority.current.Load().Issue(request.GetCsr(), pki.Leaf{Identity: identity})
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	e.log.Info("issued a certificate", "node", node)
	return &wire.EnrolResponse{Certificate: cert, Authority: e.authority.roots.PEM()}, nil
}
