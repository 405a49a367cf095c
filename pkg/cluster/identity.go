// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"k8s.io/client-go/rest"
)

// identify makes a function that says with which headers the kubeconfig's user would
// call the API server: a token, perhaps of an exec plugin, and whom to impersonate.
// It sends no request: what client-go makes of one is looked at on its way out.
func identify(config *rest.Config) (func(context.Context) (http.Header, error), error) {
	wrapped, err := rest.HTTPWrappersForConfig(config, mirror{})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (http.Header, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://nodegadget-controller/", nil)
		if err != nil {
			return nil, err
		}
		response, err := wrapped.RoundTrip(request)
		if err != nil {
			return nil, fmt.Errorf("getting credentials: %w", err)
		}
		headers := http.Header{}
		for name, values := range response.Request.Header {
			if name == "Authorization" || strings.HasPrefix(name, "Impersonate-") {
				headers[name] = values
			}
		}
		return headers, response.Body.Close()
	}, nil
}

// mirror answers a request with the request.
type mirror struct{}

func (mirror) RoundTrip(request *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: request}, nil
}
